package streamtest_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/streamtest"
	"github.com/oncemill/oncemill/topology"
)

// BenchmarkTimers measures one timer that fires, among as many as the name says. The time per timer does not depend on that.
func BenchmarkTimers(b *testing.B) {
	for _, n := range []int{1_000, 10_000, 40_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				d := sessions(b, n)
				b.StartTimer()
				d.Advance(24 * time.Hour)
				d.Commit()
				b.StopTimer()
				if got := len(d.Output("out")); got != n {
					b.Fatalf("%d timers have fired", got)
				}
				d.Close()
				b.StartTimer()
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/float64(n), "us/timer")
		})
	}
}

// sessions is a driver with n keys that end with their timers.
func sessions(b *testing.B, n int) *streamtest.Driver {
	topo := topology.New("sessions")
	store := statestore.KeyValue("sessions", serde.String(), serde.String())
	in := topology.Source(topo, "in", "in", serde.String(), serde.String())
	out := topology.Process(topo, "set", in, func(ctx *processor.Context[string, string], r record.Record[string, string]) error {
		if err := store.Put(ctx, r.Key, r.Value); err != nil {
			return err
		}
		return store.Schedule(ctx, r.Key, statestore.Timer{Name: "end", Clock: statestore.WallClock, At: ctx.Now().Add(time.Hour)})
	}, topology.OnTimer(store, func(ctx *processor.Context[string, string], key string, timer statestore.Timer) error {
		if err := store.Delete(ctx, key); err != nil {
			return err
		}
		return ctx.Forward(record.New(key, timer.Name))
	}))
	topology.Sink(topo, "out", out, "out", serde.String(), serde.String())
	d := streamtest.New(b, topo, streamtest.Options{CommitEvery: 1000})
	for i := range n {
		d.Append("in", streamtest.Text(fmt.Sprint("k", i), "v"))
	}
	d.Commit()
	return d
}
