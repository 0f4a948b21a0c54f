package streamtest_test

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/internal/step"
	"github.com/oncemill/oncemill/streamtest"
)

// stuck waits until a commits no more, and sees that it stays so: it runs, as a member, and has committed n records.
func stuck(t *testing.T, c *streamtest.Cluster, a *streamtest.Process) (n int) {
	t.Helper()
	c.Until("the memory budget to be used up", func() bool {
		before := a.Steps(string(step.EndTxn))
		c.Pass(2 * time.Minute)
		return a.Steps(string(step.EndTxn)) == before
	})
	n = len(c.Committed("out"))
	c.Pass(10 * time.Minute)
	if got := len(c.Committed("out")); got != n || !a.Running() || len(a.Tasks()) == 0 {
		t.Fatalf("%d records are committed, %d ten minutes before; running %v, %d tasks", got, n, a.Running(), len(a.Tasks()))
	}
	return n
}

// TestDiskFullUntilTheMemoryBudgetIsGone: checkpoints fail until nothing more fits. Then nothing is committed any more and nothing ends;
// what was confirmed stays. The rest follows when there is room, or when the process comes back on another disk.
func TestDiskFullUntilTheMemoryBudgetIsGone(t *testing.T) {
	t.Parallel()
	for _, crash := range []bool{false, true} {
		t.Run(fmt.Sprintf("crash %v", crash), func(t *testing.T) {
			h := newHoard()
			h.simulate(t, func(t *testing.T, c *streamtest.Cluster) {
				const before, all = 20, 400 // 25 MiB, in a budget of 16
				a := c.Start("a")
				h.send(c, 0, before)
				c.AwaitCommitted("out", before)
				a.FailWrites(syscall.ENOSPC)
				h.send(c, before, all)
				n := stuck(t, c, a)
				if n < 2*before || n >= all {
					t.Fatalf("%d of %d records were processed while the disk was full", n, all)
				}
				confirmed := c.Committed("out")
				if got := a.Steps(string(step.Aborting)); got != 1 {
					t.Errorf("%d transactions were given up, want only the one that found no room", got)
				}
				if crash {
					a.Restart(100)
				} else {
					a.FailWrites(nil)
				}
				after := c.AwaitCommitted("out", all)
				for i, r := range confirmed {
					if string(after[i].Key) != string(r.Key) || after[i].Offset != r.Offset {
						t.Fatalf("%s was confirmed at %d; now there is %s", r.Key, r.Offset, after[i].Key)
					}
				}
				h.verify(t, c, all)
			})
		})
	}
}

// TestDiskFullHoldsUpEveryWorker: what one worker has committed takes the whole budget; the other one, which has nothing of its own
// to write, waits with it and is not the one to end.
func TestDiskFullHoldsUpEveryWorker(t *testing.T) {
	t.Parallel()
	h := newHoard()
	h.simulateWith(t, 2, func(cfg *oncemill.Config) { cfg.Workers = 2 }, func(t *testing.T, c *streamtest.Cluster) {
		const each = 200
		a := c.Start("a")
		c.AwaitTasks(2)
		a.FailWrites(syscall.ENOSPC)
		h.sendOn(c, 0, 0, each)
		first := stuck(t, c, a)
		h.sendOn(c, 1, each, 2*each)
		if both := stuck(t, c, a); first >= each || both > first+each/10 {
			t.Fatalf("%d records were committed, then %d: the budget was not used up for both", first, both)
		}
		a.FailWrites(nil)
		h.verify(t, c, 2*each)
	})
}

// TestATransactionThatFoundNoRoomIsNoFailure: a disk is full for longer than transactions may fail in a row. The transaction that waits for
// it was given up, which is no failure: one that comes when there is room again is the first.
func TestATransactionThatFoundNoRoomIsNoFailure(t *testing.T) {
	t.Parallel()
	h := newHoard()
	h.simulate(t, func(t *testing.T, c *streamtest.Cluster) {
		const before, all = 20, 400
		a := c.Start("a")
		h.send(c, 0, before)
		c.AwaitCommitted("out", before)
		a.FailWrites(syscall.ENOSPC)
		h.send(c, before, all)
		stuck(t, c, a) // for ten minutes
		refused := c.Refuse(kmsg.TxnOffsetCommit, kerr.InvalidProducerEpoch, 1)
		a.FailWrites(nil)
		c.Until("the failure", func() bool { return refused.Hits() > 0 })
		c.Pass(time.Minute)
		if !a.Running() {
			t.Fatalf("the process has ended: %v", a.Wait())
		}
		if n := a.Steps(string(step.Aborting)); n != 2 {
			t.Fatalf("%d transactions were aborted, want the one that found no room and the one that failed", n)
		}
		h.verify(t, c, all)
	})
}
