package streamtest_test

import (
	"fmt"
	"time"

	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/streamtest"
	"github.com/oncemill/oncemill/topology"
)

// totals adds up amounts by key, once for each message id.
func totals() (*topology.Topology, *statestore.KeyValueStore[string, int64]) {
	sums := statestore.KeyValue("sums", serde.String(), serde.Int64())
	t := topology.New("totals")
	in := topology.Source(t, "amounts", "amounts", serde.String(), serde.Int64(),
		topology.Deduplicate(dedup.Config{ID: dedup.Header("id"), Window: time.Hour}))
	out := topology.Process(t, "add", in, func(ctx *processor.Context[string, int64], r record.Record[string, int64]) error {
		if r.Value < 0 {
			return fmt.Errorf("a negative amount: %d", r.Value)
		}
		sum, _, err := sums.Get(ctx, r.Key)
		if err != nil {
			return err
		}
		if err := sums.Put(ctx, r.Key, sum+r.Value); err != nil {
			return err
		}
		return ctx.Forward(record.New(r.Key, sum+r.Value))
	}, topology.Uses(sums), topology.OnFailure(processor.DeadLetter()))
	topology.Sink(t, "sums", out, "sums", serde.String(), serde.Int64())
	return t, sums
}

func amount(id, key string, value int64) streamtest.Message {
	return streamtest.Encode(serde.String(), serde.Int64(), key, value).With("id", id)
}

func openTotals() (*streamtest.Driver, *statestore.KeyValueStore[string, int64]) {
	t, sums := totals()
	d, err := streamtest.Open(t, streamtest.Options{})
	if err != nil {
		panic(err)
	}
	return d, sums
}

func ExampleDriver() {
	d, sums := openTotals()
	defer d.Close()
	d.Pipe("amounts", amount("m1", "anna", 5), amount("m2", "anna", 7), amount("m1", "anna", 5))
	fmt.Println(len(d.Output("sums")), "outputs before the commit")
	d.Commit()
	for _, r := range streamtest.Read(d, "sums", serde.String(), serde.Int64()) {
		fmt.Println(r.Key, r.Value)
	}
	sum, _ := streamtest.Get(d, sums, "anna")
	fmt.Println("state", sum, "position", d.Position("amounts", 0), d.Err())
	// Output:
	// 0 outputs before the commit
	// anna 5
	// anna 12
	// state 12 position 3 <nil>
}

func ExampleEntries() {
	d, sums := openTotals()
	defer d.Close()
	d.Pipe("amounts", amount("m1", "bert", 5), amount("m2", "anna", 7))
	d.Commit()
	for _, e := range streamtest.Entries(d, sums) {
		fmt.Println(e.Key, e.Value)
	}
	// Output:
	// anna 7
	// bert 5
}

func ExampleDriver_Restart() {
	d, sums := openTotals()
	defer d.Close()
	d.Pipe("amounts", amount("m1", "anna", 5))
	d.Commit()
	d.Pipe("amounts", amount("m2", "anna", 7))
	d.Restart() // m2 was not committed
	sum, _ := streamtest.Get(d, sums, "anna")
	fmt.Println(sum)
	d.Commit() // it is processed again
	sum, _ = streamtest.Get(d, sums, "anna")
	fmt.Println(sum)
	// Output:
	// 5
	// 12
}

func ExampleDriver_CrashInCommit() {
	for _, arrived := range []bool{false, true} {
		d, _ := openTotals()
		d.Pipe("amounts", amount("m1", "anna", 5))
		d.CrashInCommit(arrived)
		fmt.Print("visible after the crash: ", len(d.Output("sums")))
		d.Commit()
		fmt.Println(", in the end:", len(d.Output("sums")))
		d.Close()
	}
	// Output:
	// visible after the crash: 0, in the end: 1
	// visible after the crash: 1, in the end: 1
}

func ExampleDriver_RestartWithEmptyDisk() {
	d, _ := openTotals()
	defer d.Close()
	d.Pipe("amounts", amount("m1", "anna", 5))
	d.Commit()
	d.RestartWithEmptyDisk()
	d.Pipe("amounts", amount("m1", "anna", 5)) // the marker was restored too
	d.Commit()
	fmt.Println(len(d.Output("sums")), "output,", d.Stats().Verdicts[dedup.Duplicate], "duplicate")
	// Output: 1 output, 1 duplicate
}

func ExampleDriver_ReplayDeadLetter() {
	healthy := false
	t := topology.New("mended")
	in := topology.Source(t, "in", "in", serde.String(), serde.String(),
		topology.Deduplicate(dedup.Config{ID: dedup.Header("id"), Window: time.Hour}))
	out := topology.Process(t, "work", in, func(ctx *processor.Context[string, string], r record.Record[string, string]) error {
		if !healthy {
			return fmt.Errorf("out of order")
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
	d.Pipe("in", streamtest.Text("k", "v").With("id", "m1"))
	d.Commit()
	fmt.Println(len(d.DeadLetters()), "dead letter,", len(d.Output("out")), "outputs")
	healthy = true
	d.ReplayDeadLetter(0, false)
	d.ReplayDeadLetter(0, false) // by mistake
	d.Commit()
	fmt.Println(len(d.DeadLetters()), "dead letter,", len(d.Output("out")), "output")
	// Output:
	// 1 dead letter, 0 outputs
	// 1 dead letter, 1 output
}

func ExampleDriver_Advance() {
	jobs := statestore.KeyValue("jobs", serde.String(), serde.String())
	t := topology.New("jobs")
	in := topology.Source(t, "jobs-in", "jobs-in", serde.String(), serde.String())
	topology.Process(t, "schedule", in, func(ctx *processor.Context[string, string], r record.Record[string, string]) error {
		if err := jobs.Put(ctx, r.Key, r.Value); err != nil {
			return err
		}
		return jobs.Schedule(ctx, r.Key, statestore.Timer{Name: "run", Clock: statestore.WallClock, At: ctx.Now().Add(time.Minute)})
	}, topology.OnTimer(jobs, func(ctx *processor.Context[string, string], key string, timer statestore.Timer) error {
		fmt.Println(key, "runs at", timer.At.UTC().Format(time.TimeOnly))
		return nil
	}))
	d, err := streamtest.Open(t, streamtest.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer d.Close()
	d.Pipe("jobs-in", streamtest.Text("backup", "nightly"))
	d.Advance(59 * time.Second)
	fmt.Println(len(d.Timers()), "timer is set")
	d.Advance(time.Hour)
	fmt.Println(len(d.Timers()), "timers are set")
	// Output:
	// 1 timer is set
	// backup runs at 00:01:00
	// 0 timers are set
}
