package streamtest_test

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/internal/step"
	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/streamtest"
	"github.com/oncemill/oncemill/topology"
)

// TestR6NewOwnerWaitsForTheOpenTransaction: the old owner has committed its offsets inside a transaction and stands still before
// it ends it; the task moves; then the old owner goes on, and its commit is valid. Only a stable OffsetFetch waits for it.
func TestR6NewOwnerWaitsForTheOpenTransaction(t *testing.T) {
	t.Parallel()
	l := newLedger(ledgerOptions{})
	o := streamtest.ClusterOptions{Configure: configure(func(cfg *oncemill.Config) {
		cfg.SessionTimeout, cfg.TransactionTimeout = 10*time.Second, 2*time.Minute
	})}
	l.simulate(t, o, func(t *testing.T, c *streamtest.Cluster) {
		a := c.Start("a")
		c.Produce("commands", adds("m", "k", 3)...)
		c.AwaitCommitted("events", 3)
		c.Settle()
		frozen := a.FreezeAt(string(step.EndTxn), 1)
		c.Produce("commands", account("n", "k", "add 1"))
		frozen.Await()
		a.Isolate()
		b := c.Start("b")
		c.Until("b to have been given the task", func() bool { return b.Steps(string(step.FetchOffsets)) == 1 })
		c.Pass(5 * time.Second)
		a.Heal()
		frozen.Thaw()
		c.Produce("commands", account("o", "k", "add 1"))
		c.AwaitCommitted("events", 5)
		c.Pass(time.Minute)
		l.verify(t, c, l.judge(c))
		l.wantRunsOf(t, "n", 1)
	})
}

// TestAbortedInputIsNotProcessed: inputs are read with read_committed.
func TestAbortedInputIsNotProcessed(t *testing.T) {
	t.Parallel()
	l := newLedger(ledgerOptions{})
	l.simulate(t, streamtest.ClusterOptions{}, func(t *testing.T, c *streamtest.Cluster) {
		c.Start("a")
		c.AwaitTasks(1)
		ctx := t.Context()
		up := c.NewClient(kgo.TransactionalID("upstream"))
		if err := up.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if err := up.ProduceSync(ctx, &kgo.Record{Topic: "commands", Key: []byte("k"), Value: []byte("add 7"),
			Headers: []kgo.RecordHeader{{Key: idName, Value: []byte("ghost")}}}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		c.Pass(5 * time.Second)
		if err := up.EndTransaction(ctx, kgo.TryAbort); err != nil {
			t.Fatal(err)
		}
		c.Produce("commands", account("m", "k", "add 1"))
		c.AwaitCommitted("events", 1)
		c.Pass(time.Minute)
		l.verify(t, c, l.judge(c))
		l.wantRunsOf(t, "ghost", 0)
	})
}

// TestTransactionWithoutAnyRecord: no state and no output; the positions are committed all the same (docs/adr/0002).
func TestTransactionWithoutAnyRecord(t *testing.T) {
	t.Parallel()
	topo := topology.New("nothing")
	in := topology.Source(topo, "in", "in", serde.String(), serde.String())
	out := topology.Process(topo, "swallow", in, func(*processor.Context[string, string], record.Record[string, string]) error { return nil })
	topology.Sink(topo, "out", out, "out", serde.String(), serde.String())
	streamtest.Simulate(t, streamtest.ClusterOptions{Topology: topo}, func(t *testing.T, c *streamtest.Cluster) {
		a := c.Start("a")
		for i := range 5 {
			c.Produce("in", streamtest.Text("k", "x"))
			c.Pass(time.Second)
			if at := c.Commits("in")[0]; at.Offset != int64(i+1) || at.N != uint64(i+1) {
				t.Fatalf("committed %+v after %d records", at, i+1)
			}
		}
		if n := a.Steps(string(step.Aborting)) + a.Steps(string(step.Resolve)); n != 0 {
			t.Fatalf("%d transactions were aborted or resolved", n)
		}
	})
}
