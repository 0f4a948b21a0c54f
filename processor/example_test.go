package processor_test

import (
	"errors"
	"fmt"
	"time"

	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/streamtest"
	"github.com/oncemill/oncemill/topology"
)

type handler = processor.Func[string, string, string, string]

// drive makes a driver for one processor between the topics in and out.
func drive(fn handler, opts ...topology.ProcessOption) *streamtest.Driver {
	t := topology.New("example")
	in := topology.Source(t, "in", "in", serde.String(), serde.String(),
		topology.Deduplicate(dedup.Config{ID: dedup.Header("id"), Window: time.Hour}))
	out := topology.Process(t, "process", in, fn, opts...)
	topology.Sink(t, "out", out, "out", serde.String(), serde.String())
	d, err := streamtest.Open(t, streamtest.Options{})
	if err != nil {
		panic(err)
	}
	return d
}

func message(id, value string) streamtest.Message {
	return streamtest.Text("k", value).With("id", id)
}

func show(d *streamtest.Driver) {
	d.Commit()
	for _, r := range d.Output("out") {
		fmt.Println(string(r.Value))
	}
	for _, r := range d.DeadLetters() {
		fmt.Println("dead letter:", string(r.Value))
	}
	d.Close()
	if err := d.Err(); err != nil {
		fmt.Println(err)
	}
}

func ExampleFunc() {
	var double handler = func(ctx *processor.Context[string, string], r record.Record[string, string]) error {
		return ctx.Forward(record.New(r.Key, r.Value+r.Value))
	}
	d := drive(double)
	d.Pipe("in", message("1", "ab"))
	show(d)
	// Output: abab
}

func ExampleChain() {
	logged := func(next handler) handler {
		return func(ctx *processor.Context[string, string], r record.Record[string, string]) error {
			fmt.Printf("%s gets %s\n", ctx.Node(), r.Position)
			return next(ctx, r)
		}
	}
	notEmpty := func(next handler) handler {
		return func(ctx *processor.Context[string, string], r record.Record[string, string]) error {
			if r.Value == "" {
				return nil
			}
			return next(ctx, r)
		}
	}
	pass := func(ctx *processor.Context[string, string], r record.Record[string, string]) error {
		return ctx.Forward(r)
	}
	d := drive(processor.Chain(pass, logged, notEmpty))
	d.Pipe("in", message("1", "a"), message("2", ""))
	show(d)
	// Output:
	// process gets in/0@0
	// process gets in/0@1
	// a
}

func ExampleContext_Forward() {
	d := drive(func(ctx *processor.Context[string, string], r record.Record[string, string]) error {
		for i := range 2 {
			out := record.New(r.Key, fmt.Sprint(r.Value, i)) // timestamp and headers of the input
			if err := ctx.Forward(out); err != nil {
				return err
			}
		}
		return nil
	})
	d.Pipe("in", message("1", "a"))
	show(d)
	// Output:
	// a0
	// a1
}

func ExampleContext_ForwardTo() {
	t := topology.New("example")
	in := topology.Source(t, "in", "in", serde.String(), serde.String())
	sorted := topology.Process(t, "sort", in, func(ctx *processor.Context[string, string], r record.Record[string, string]) error {
		if len(r.Value) > 3 {
			return ctx.ForwardTo("long", r)
		}
		return ctx.ForwardTo("out", r)
	})
	topology.Sink(t, "long", sorted, "long", serde.String(), serde.String())
	topology.Sink(t, "out", sorted, "out", serde.String(), serde.String())
	d, err := streamtest.Open(t, streamtest.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	d.Pipe("in", streamtest.Text("k", "abc"), streamtest.Text("k", "abcdef"))
	show(d)
	// Output: abc
}

// A transaction that is aborted and run again gives the same ids and random numbers.
func ExampleContext_NewID() {
	d := drive(func(ctx *processor.Context[string, string], r record.Record[string, string]) error {
		id := ctx.NewID()
		fmt.Printf("order %x, lot %d\n", id[:4], ctx.Random().IntN(1000))
		return nil
	})
	d.Pipe("in", message("m1", "buy"))
	d.Abort()
	show(d)
	// Output:
	// order 93fe259c, lot 349
	// order 93fe259c, lot 349
}

var errDown = errors.New("the other side is down")

func ExampleRetryInPlace() {
	tries := 0
	d := drive(func(ctx *processor.Context[string, string], r record.Record[string, string]) error {
		if tries++; tries < 3 {
			return errDown
		}
		return ctx.Forward(r)
	}, topology.OnFailure(processor.RetryInPlace(processor.DeadLetter(), 10*time.Millisecond, 100*time.Millisecond)))
	d.Pipe("in", message("1", "a"))
	fmt.Println(tries, "tries, waits", d.Waits())
	show(d)
	// Output:
	// 3 tries, waits [10ms 100ms]
	// a
}

func ExampleDelayedRetry() {
	down := true
	d := drive(func(ctx *processor.Context[string, string], r record.Record[string, string]) error {
		if r.Value == "a" && down {
			return errDown
		}
		return ctx.Forward(r)
	}, topology.OnFailure(processor.DelayedRetry(processor.DeadLetter(), time.Minute, time.Hour)))
	d.Pipe("in", message("1", "a"), message("2", "b")) // b overtakes
	down = false
	d.Advance(time.Minute)
	show(d)
	// Output:
	// b
	// a
}

func ExampleDelayedRetryInOrder() {
	down := true
	d := drive(func(ctx *processor.Context[string, string], r record.Record[string, string]) error {
		if r.Value == "a" && down {
			return errDown
		}
		return ctx.Forward(r)
	}, topology.OnFailure(processor.DelayedRetryInOrder(processor.DeadLetter(), time.Minute, time.Hour)))
	d.Pipe("in", message("1", "a"), message("2", "b")) // b has the same key and waits
	down = false
	d.Advance(time.Minute)
	show(d)
	// Output:
	// a
	// b
}

func ExampleDeadLetter() {
	d := drive(func(ctx *processor.Context[string, string], r record.Record[string, string]) error {
		if r.Value == "poison" {
			panic("no")
		}
		return ctx.Forward(r)
	}, topology.OnFailure(processor.DeadLetter()))
	d.Pipe("in", message("1", "a"), message("2", "poison"), message("3", "c"))
	show(d)
	// Output:
	// a
	// c
	// dead letter: poison
}

func ExampleSkip() {
	d := drive(func(ctx *processor.Context[string, string], r record.Record[string, string]) error {
		if r.Value == "poison" {
			return errDown
		}
		return ctx.Forward(r)
	}, topology.OnFailure(processor.Skip()))
	d.Pipe("in", message("1", "poison"), message("2", "b"))
	show(d)
	// Output: b
}

func ExampleStop() {
	d := drive(func(*processor.Context[string, string], record.Record[string, string]) error { return errDown },
		topology.OnFailure(processor.Stop()))
	defer d.Close()
	d.Append("in", message("1", "a"))
	fmt.Println(d.TryRun())
	// Output: task in_0: in/0@0: process process: OM202 node "process": the other side is down. Cure: mend the processor; to go on without such records instead of stopping: topology.OnFailure(processor.DeadLetter())
}

func ExamplePolicy_Validate() {
	fmt.Println(processor.RetryInPlace(processor.Skip(), time.Minute).Validate())
	// Output: the delays of RetryInPlace add up to 1m0s, more than 2s; use DelayedRetry
}
