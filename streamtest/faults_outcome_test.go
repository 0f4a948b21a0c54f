package streamtest_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/internal/step"
	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/streamtest"
	"github.com/oncemill/oncemill/topology"
)

// attempts is a handler that is not deterministic (S21): each run writes a key of its own, and "count" forwards how many there are.
type attempts struct {
	topo  *topology.Topology
	store *statestore.KeyValueStore[string, string]
	runs  atomic.Int64
}

func newAttempts() *attempts {
	h := &attempts{topo: topology.New("attempts"), store: statestore.KeyValue("tries", serde.String(), serde.String())}
	in := topology.Source(h.topo, "in", "in", serde.String(), serde.String())
	out := topology.Process(h.topo, "try", in, func(ctx *processor.Context[string, string], r record.Record[string, string]) error {
		if r.Value != "count" {
			if err := h.store.Put(ctx, fmt.Sprint("try", h.runs.Add(1)), r.Value); err != nil {
				return err
			}
			return ctx.Forward(record.New(r.Key, r.Value))
		}
		n := 0
		for _, err := range h.store.All(ctx) {
			if err != nil {
				return err
			}
			n++
		}
		return ctx.Forward(record.New(r.Key, fmt.Sprint("count ", n)))
	}, topology.Uses(h.store))
	topology.Sink(h.topo, "out", out, "out", serde.String(), serde.String())
	return h
}

// The transaction n of a is aborted by the broker's timeout, and b, which has the task, commits
// its own n. When a comes back, the committed counter is n, and it must not take that for its own transaction.
func TestR5AnotherOwnersTransactionOfTheSameNumberIsNotOurs(t *testing.T) {
	t.Parallel()
	h := newAttempts()
	streamtest.Simulate(t, streamtest.ClusterOptions{Topology: h.topo}, func(t *testing.T, c *streamtest.Cluster) {
		a := c.Start("a")
		c.AwaitTasks(1)
		frozen := a.FreezeAt(string(step.EndTxn), 1)
		c.Produce("in", streamtest.Text("k", "x"))
		frozen.Await()
		a.Isolate()
		b := c.Start("b")
		c.AwaitCommitted("out", 1)
		c.Settle()
		applied := a.Steps(string(step.Applied))
		a.Heal()
		frozen.Thaw()
		c.Pass(2 * time.Minute)
		if got := a.Steps(string(step.Applied)); got != applied {
			t.Errorf("a applied its transaction, which was aborted")
		}
		if err := b.Stop(); err != nil {
			t.Fatal(err)
		}
		c.Pass(2 * time.Minute)
		c.Produce("in", streamtest.Text("k", "count"))
		out := c.AwaitCommitted("out", 2)
		if got := string(out[1].Value); got != "count 1" || h.runs.Load() != 2 {
			t.Errorf("%q after %d runs, want one committed key", got, h.runs.Load())
		}
		c.CheckState()
	})
}

// The same where the input is a repartition topic: what a took for committed it would delete, although nobody has processed it.
func TestR5RecordsOfAnAbortedTransactionAreNotPurged(t *testing.T) {
	t.Parallel()
	topo := newSales().topo
	o := streamtest.ClusterOptions{Topology: topo, Configure: func(process string, cfg *oncemill.Config) {
		if process == "b" {
			cfg.CommitRecords = 1
		}
	}}
	streamtest.Simulate(t, o, func(t *testing.T, c *streamtest.Cluster) {
		a := c.Start("a")
		c.AwaitTasks(2)
		frozen := a.FreezeAt(string(step.EndTxn), 2)
		for i := range 6 {
			c.Produce("lines", streamtest.Text("customer", fmt.Sprint("p", i)).With(idName, fmt.Sprint("line", i)))
		}
		frozen.Await()
		a.Isolate()
		stuck := c.Process("b").FreezeAt(string(step.Seal), 2)
		b := c.Start("b")
		stuck.Await()
		a.Heal()
		frozen.Thaw()
		c.Pass(2 * time.Minute)
		b.Kill(0)
		b.Start()
		c.AwaitCommitted("totals", 6)
	})
}
