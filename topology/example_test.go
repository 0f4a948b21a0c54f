package topology_test

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/streamtest"
	"github.com/oncemill/oncemill/topology"
)

// play runs messages through a topology and prints what is committed to a topic.
func play(topo *topology.Topology, o streamtest.Options, in, out string, messages ...streamtest.Message) {
	d, err := streamtest.Open(topo, o)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer d.Close()
	d.Pipe(in, messages...)
	d.Commit()
	show(d, out)
}

func show(d *streamtest.Driver, topic string) {
	for _, r := range d.Output(topic) {
		fmt.Printf("%s: %s = %s\n", topic, r.Key, r.Value)
	}
	if err := d.Err(); err != nil {
		fmt.Println(err)
	}
}

// upper is a processor without state.
func upper(ctx *processor.Context[string, string], r record.Record[string, string]) error {
	return ctx.Forward(record.New(r.Key, strings.ToUpper(r.Value)))
}

func Example() {
	t := topology.New("shout")
	in := topology.Source(t, "words", "words", serde.String(), serde.String())
	out := topology.Process(t, "upper", in, upper)
	topology.Sink(t, "loud", out, "loud-words", serde.String(), serde.String())

	play(t, streamtest.Options{}, "words", "loud-words", streamtest.Text("k", "hello"))
	// Output: loud-words: k = HELLO
}

func ExampleProcess() {
	counts := statestore.KeyValue("counts", serde.String(), serde.Int64())
	t := topology.New("count")
	in := topology.Source(t, "words", "words", serde.String(), serde.String())
	out := topology.Process(t, "count", in, func(ctx *processor.Context[string, string], r record.Record[string, string]) error {
		n, _, err := counts.Get(ctx, r.Key)
		if err != nil {
			return err
		}
		if err := counts.Put(ctx, r.Key, n+1); err != nil {
			return err
		}
		return ctx.Forward(record.New(r.Key, fmt.Sprint(n+1)))
	}, topology.Uses(counts))
	topology.Sink(t, "totals", out, "totals", serde.String(), serde.String())

	play(t, streamtest.Options{}, "words", "totals", streamtest.Text("a", ""), streamtest.Text("b", ""), streamtest.Text("a", ""))
	// Output:
	// totals: a = 1
	// totals: b = 1
	// totals: a = 2
}

// last keeps the last value of each key. Its store is opened in Init, so that a missing Uses is an error of the build.
type last struct {
	values *statestore.KeyValueStore[string, string]
}

func (l last) Init(ctx *processor.InitContext) error { return ctx.Store(l.values) }

func (l last) Process(ctx *processor.Context[string, string], r record.Record[string, string]) error {
	before, _, err := l.values.Get(ctx, r.Key)
	if err != nil {
		return err
	}
	if err := l.values.Put(ctx, r.Key, r.Value); err != nil {
		return err
	}
	return ctx.Forward(record.New(r.Key, fmt.Sprintf("%q after %q", r.Value, before)))
}

func (last) Close() error { return nil }

func ExampleProcessWith() {
	values := statestore.KeyValue("values", serde.String(), serde.String())
	t := topology.New("last")
	in := topology.Source(t, "in", "in", serde.String(), serde.String())
	out := topology.ProcessWith(t, "last", in, func() processor.Processor[string, string, string, string] { return last{values} },
		topology.Uses(values))
	topology.Sink(t, "out", out, "out", serde.String(), serde.String())

	play(t, streamtest.Options{}, "in", "out", streamtest.Text("k", "x"), streamtest.Text("k", "y"))
	// Output:
	// out: k = "x" after ""
	// out: k = "y" after "x"
}

func ExampleDeduplicate() {
	t := topology.New("once")
	in := topology.Source(t, "in", "in", serde.String(), serde.String(),
		topology.Deduplicate(dedup.Config{ID: dedup.Header("message-id"), Window: 7 * 24 * time.Hour}))
	topology.Sink(t, "out", in, "out", serde.String(), serde.String())

	m := streamtest.Text("k", "pay 10").With("message-id", "m1")
	play(t, streamtest.Options{}, "in", "out", m, m)
	// Output: out: k = pay 10
}

func ExampleBranch() {
	t := topology.New("branch")
	in := topology.Source(t, "orders", "orders", serde.String(), serde.Int64())
	arms := topology.Branch(t, "size", in,
		topology.Case[string, int64]{Name: "large", When: func(r record.Record[string, int64]) bool { return r.Value >= 100 }},
		topology.Case[string, int64]{Name: "small"})
	text := func(name string, s topology.Stream[string, int64]) {
		out := topology.Process(t, "text-"+name, s, func(ctx *processor.Context[string, string], r record.Record[string, int64]) error {
			return ctx.Forward(record.New(r.Key, fmt.Sprint(r.Value)))
		})
		topology.Sink(t, name, out, name, serde.String(), serde.String())
	}
	text("large", arms[0])
	text("small", arms[1])

	d, err := streamtest.Open(t, streamtest.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer d.Close()
	d.Pipe("orders", streamtest.Encode(serde.String(), serde.Int64(), "a", 250), streamtest.Encode(serde.String(), serde.Int64(), "b", 3))
	d.Commit()
	show(d, "large")
	show(d, "small")
	// Output:
	// large: a = 250
	// small: b = 3
}

func ExampleMerge() {
	t := topology.New("merge")
	web := topology.Source(t, "web", "web-orders", serde.String(), serde.String())
	shop := topology.Source(t, "shop", "shop-orders", serde.String(), serde.String())
	topology.Sink(t, "all", topology.Merge(t, "orders", web, shop), "orders", serde.String(), serde.String())

	play(t, streamtest.Options{}, "shop-orders", "orders", streamtest.Text("k", "from the shop"))
	// Output: orders: k = from the shop
}

func ExampleSinkTo() {
	t := topology.New("route")
	in := topology.Source(t, "in", "in", serde.String(), serde.String())
	topology.SinkTo(t, "route", in, func(r record.Record[string, string]) string { return "region-" + r.Key },
		serde.String(), serde.String(), topology.OnEncodeFailure(processor.DeadLetter()))

	play(t, streamtest.Options{Topics: map[string]int32{"region-eu": 3}}, "in", "region-eu",
		streamtest.Text("eu", "hello"), streamtest.Text("mars", "is not there"))
	// Output: region-eu: eu = hello
}

func ExampleRepartition() {
	units := statestore.KeyValue("units", serde.String(), serde.Int64())
	t := topology.New("sales")
	lines := topology.Source(t, "lines", "order-lines", serde.String(), serde.String()) // keyed by customer
	byProduct := topology.Process(t, "key", lines, func(ctx *processor.Context[string, string], r record.Record[string, string]) error {
		return ctx.Forward(record.New(r.Value, r.Key))
	})
	products := topology.Repartition(t, "by-product", byProduct, serde.String(), serde.String(), topology.Partitions(2))
	topology.Process(t, "count", products, func(ctx *processor.Context[string, string], r record.Record[string, string]) error {
		n, _, err := units.Get(ctx, r.Key)
		if err != nil {
			return err
		}
		return units.Put(ctx, r.Key, n+1)
	}, topology.Uses(units))

	d, err := streamtest.Open(t, streamtest.Options{Partitions: 4})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer d.Close()
	d.Pipe("order-lines", streamtest.Text("anna", "mug"), streamtest.Text("bert", "mug"), streamtest.Text("carl", "pan"))
	d.Commit()
	n, _ := streamtest.Get(d, units, "mug")
	fmt.Println(n, "mugs")
	// Output: 2 mugs
}

func ExampleOnTimer() {
	open := statestore.KeyValue("open", serde.String(), serde.String())
	t := topology.New("reminders")
	in := topology.Source(t, "carts", "carts", serde.String(), serde.String())
	out := topology.Process(t, "remind", in, func(ctx *processor.Context[string, string], r record.Record[string, string]) error {
		if r.Value == "paid" {
			return open.Delete(ctx, r.Key) // its timer ends with it
		}
		if err := open.Put(ctx, r.Key, r.Value); err != nil {
			return err
		}
		return open.Schedule(ctx, r.Key, statestore.Timer{Name: "remind", At: r.Timestamp.Add(time.Hour), Clock: statestore.WallClock})
	}, topology.OnTimer(open, func(ctx *processor.Context[string, string], key string, timer statestore.Timer) error {
		cart, _, err := open.Get(ctx, key)
		if err != nil {
			return err
		}
		return ctx.Forward(record.New(key, "you forgot your "+cart))
	}))
	topology.Sink(t, "mails", out, "mails", serde.String(), serde.String())

	d, err := streamtest.Open(t, streamtest.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer d.Close()
	d.Pipe("carts", streamtest.Text("anna", "mug"), streamtest.Text("bert", "pan"), streamtest.Text("bert", "paid"))
	d.Advance(2 * time.Hour)
	d.Commit()
	show(d, "mails")
	// Output: mails: anna = you forgot your mug
}

func ExampleOnFailure() {
	t := topology.New("strict")
	in := topology.Source(t, "in", "in", serde.String(), serde.String())
	out := topology.Process(t, "check", in, func(ctx *processor.Context[string, string], r record.Record[string, string]) error {
		if r.Value == "" {
			return errors.New("an empty value")
		}
		return ctx.Forward(r)
	}, topology.OnFailure(processor.DeadLetter()))
	topology.Sink(t, "out", out, "out", serde.String(), serde.String())

	d, err := streamtest.Open(t, streamtest.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer d.Close()
	d.Pipe("in", streamtest.Text("a", "1"), streamtest.Text("b", ""), streamtest.Text("c", "3"))
	d.Commit()
	show(d, "out")
	for _, letter := range d.DeadLetters() {
		fmt.Printf("dead letter of %s: %s\n", letter.Key, streamtest.Header(letter, "__streams.errors.exception"))
	}
	// Output:
	// out: a = 1
	// out: c = 3
	// dead letter of b: OM202
}

func ExamplePartitionBy() {
	t := topology.New("spread")
	in := topology.Source(t, "in", "in", serde.String(), serde.String())
	topology.Sink(t, "out", in, "out", serde.String(), serde.String(),
		topology.PartitionBy(func(_ string, _ []byte, r record.Record[string, string], partitions int32) int32 {
			return int32(len(r.Value)) % partitions
		}))

	d, err := streamtest.Open(t, streamtest.Options{Topics: map[string]int32{"out": 4}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer d.Close()
	d.Pipe("in", streamtest.Text("k", "abc"), streamtest.Text("k", "abcde"))
	d.Commit()
	for _, r := range d.Output("out") {
		fmt.Println(r.Position)
	}
	// Output:
	// out/3@0
	// out/1@0
}

func ExampleTopology_Defaults() {
	t := topology.New("lenient")
	t.Defaults(processor.Policies{Decode: processor.Skip()}) // for the nodes that follow
	in := topology.Source(t, "in", "in", serde.String(), serde.Int64())
	numbers := topology.Process(t, "text", in, func(ctx *processor.Context[string, string], r record.Record[string, int64]) error {
		return ctx.Forward(record.New(r.Key, fmt.Sprint(r.Value)))
	})
	topology.Sink(t, "out", numbers, "out", serde.String(), serde.String())

	play(t, streamtest.Options{}, "in", "out", streamtest.Text("a", "not 8 bytes"), streamtest.Text("b", "\x00\x00\x00\x00\x00\x00\x00\x07"))
	// Output: out: b = 7
}

func ExampleTopology_Build() {
	t := topology.New("mistakes")
	in := topology.Source(t, "in", "in", serde.String(), serde.String())
	topology.Sink(t, "in", in, "a topic", serde.String(), serde.String())

	_, err := t.Build()
	fmt.Println(err)
	// Output:
	// OM102 topology "mistakes": 2 mistakes: two nodes are named "in"
	// sink "in": topic name "a topic" is not legal in Kafka. Cure: correct the nodes listed
}
