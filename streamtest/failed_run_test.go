package streamtest_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/streamtest"
	"github.com/oncemill/oncemill/topology"
)

// afterFailures runs a record whose handler draws an id, sets a timer and forwards twice, and fails that often at first; "timer"
// says that it is the handler of the timer that fails. The result is every output with its id.
func afterFailures(t *testing.T, inTimer bool, failures int, again func(d *streamtest.Driver)) (outputs []string) {
	t.Helper()
	store := statestore.KeyValue("keys", serde.String(), serde.String())
	topo := topology.New("shop")
	policy := processor.RetryInPlace(processor.Stop(), time.Millisecond, time.Millisecond)
	in := topology.Source(topo, "in", "in", serde.String(), serde.String())
	twice := func(ctx *processor.Context[string, string], key, what string, fails bool) error {
		for range 2 {
			if err := ctx.Forward(record.New(key, fmt.Sprintf("%s %x", what, ctx.NewID()))); err != nil {
				return err
			}
		}
		if fails && failures > 0 {
			failures--
			return errHandler
		}
		return nil
	}
	set := func(ctx *processor.Context[string, string], r record.Record[string, string]) error {
		if err := store.Put(ctx, r.Key, r.Value); err != nil {
			return err
		}
		if err := store.Schedule(ctx, r.Key, statestore.Timer{Name: "t", Clock: statestore.WallClock, At: r.Timestamp.Add(time.Minute)}); err != nil {
			return err
		}
		return twice(ctx, r.Key, "set", !inTimer)
	}
	ring := func(ctx *processor.Context[string, string], key string, _ statestore.Timer) error {
		return twice(ctx, key, "ring", inTimer)
	}
	out := topology.Process(topo, "p", in, set, topology.OnTimer(store, ring), topology.OnFailure(policy), topology.OnTimerFailure(policy))
	topology.Sink(topo, "out", out, "out", serde.String(), serde.String())
	d := streamtest.New(t, topo, streamtest.Options{})
	d.Pipe("in", streamtest.Text("a", "x"), streamtest.Text("b", "x"))
	again(d)
	d.Commit()
	d.Advance(2 * time.Minute)
	d.Commit()
	if failures != 0 {
		t.Fatalf("%d failures are left", failures)
	}
	for _, r := range d.Output("out") {
		outputs = append(outputs, string(r.Value)+" "+streamtest.Header(r, record.HeaderID))
	}
	return outputs
}

// TestR12IDsDoNotDependOnAFailedRun: what a run that failed drew, forwarded and scheduled counts for nothing. The run that is
// committed, and the timers that it sets, have the ids that they would have had without it.
func TestR12IDsDoNotDependOnAFailedRun(t *testing.T) {
	want := afterFailures(t, false, 0, func(*streamtest.Driver) {})
	if len(want) != 8 || len(slices.Compact(slices.Sorted(slices.Values(want)))) != 8 {
		t.Fatalf("%d outputs, want 8 that differ: %q", len(want), want)
	}
	for name, again := range map[string]func(*streamtest.Driver){"committed": func(*streamtest.Driver) {}, "aborted and run again": (*streamtest.Driver).Abort} {
		for _, inTimer := range []bool{false, true} {
			for failures := range 3 {
				t.Run(fmt.Sprintf("%s, timer %v, %d failures", name, inTimer, failures), func(t *testing.T) {
					if got := afterFailures(t, inTimer, failures, again); !slices.Equal(got, want) {
						t.Errorf("outputs\n%q, without a failure\n%q", got, want)
					}
				})
			}
		}
	}
}
