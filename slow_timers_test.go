package oncemill_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/streamtest"
	"github.com/oncemill/oncemill/topology"
)

// Timers that are all due at once, each of which takes a while, run in parts of a transaction's time: records come in between.
func TestABacklogOfSlowTimersKeepsNobodyWaiting(t *testing.T) {
	const timers, each = 10, 2 * time.Second
	rings := statestore.KeyValue("rings", serde.String(), serde.String())
	topo := topology.New("slow")
	in := topology.Source(topo, "words", "words", serde.String(), serde.String())
	out := topology.Process(topo, "ring", in, func(ctx *processor.Context[string, string], r record.Record[string, string]) error {
		if r.Value == "echo" {
			return ctx.Forward(r)
		}
		if err := rings.Put(ctx, r.Key, r.Value); err != nil {
			return err
		}
		return rings.Schedule(ctx, r.Key, statestore.Timer{Name: "t", Clock: statestore.WallClock, At: r.Timestamp.Add(time.Minute)})
	}, topology.OnTimer(rings, func(ctx *processor.Context[string, string], key string, _ statestore.Timer) error {
		<-time.After(each)
		return ctx.Forward(record.New(key, "rang"))
	}))
	topology.Sink(topo, "counted", out, "counted", serde.String(), serde.String())
	o := streamtest.ClusterOptions{Topology: topo, Configure: func(_ string, cfg *oncemill.Config) { cfg.TransactionTimeout = 8 * each }}
	streamtest.Simulate(t, o, func(t *testing.T, c *streamtest.Cluster) {
		c.Start("a")
		c.AwaitTasks(1)
		for i := range timers {
			c.Produce("words", streamtest.Text(fmt.Sprint("k", i), "set"))
		}
		c.Pass(time.Minute + each/2) // the first one runs
		began := time.Now()
		c.Produce("words", streamtest.Text("k", "echo"))
		c.Until("the record", func() bool {
			for _, r := range c.Committed("counted") {
				if string(r.Value) == "echo" {
					return true
				}
			}
			return false
		})
		if took := time.Since(began); took > 4*each {
			t.Errorf("a record waited for %v, while %d timers of %v were due", took, timers, each)
		}
		if rung := len(c.AwaitCommitted("counted", timers+1)); rung != timers+1 {
			t.Errorf("%d outputs, want one of each of %d timers and of the record", rung, timers)
		}
	})
}
