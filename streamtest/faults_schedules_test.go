package streamtest_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/oncemill/oncemill/internal/step"
	"github.com/oncemill/oncemill/streamtest"
)

// Two executors of one message: the first one stands still before a step, cut off until its place is given away; the second takes
// over and stands still before a step of its own, while the first one goes on. Every pair of steps.
func TestS55TwoExecutors(t *testing.T) {
	t.Parallel()
	takeover := []step.Step{step.Fence, step.FetchOffsets, step.ListEnds, step.RestoreDone, step.Start}
	pairs := 0
	for _, first := range crashSteps {
		second := takeover
		if !first.committed {
			for _, s := range crashSteps {
				second = append(second[:len(second):len(second)], s.step)
			}
		}
		for _, s := range second {
			if pairs++; !sampled(pairs) {
				continue
			}
			t.Run(fmt.Sprintf("%s, %s", first.step, s), func(t *testing.T) { twoExecutors(t, first.step, s) })
		}
	}
}

func twoExecutors(t *testing.T, first, second step.Step) {
	l := newLedger(ledgerOptions{})
	l.simulate(t, streamtest.ClusterOptions{}, func(t *testing.T, c *streamtest.Cluster) {
		a, b := c.Start("a"), c.Process("b")
		c.AwaitTasks(1)
		ofA, ofB := a.FreezeAt(string(first), 1), b.FreezeAt(string(second), 1)
		c.Produce("commands", account("n", "k", "remind later 100000"))
		ofA.Await()
		a.Isolate()
		b.Start()
		ofB.Await()
		a.Heal()
		ofA.Thaw()
		c.Pass(5 * time.Second) // below the timeout of b's transaction
		ofB.Thaw()
		l.verify(t, c, l.judge(c))
		if out := c.Committed("events"); len(out) != 1 || string(out[0].Value) != "1" || c.PendingTimers() != 1 {
			t.Fatalf("%d outputs, %d timers", len(out), c.PendingTimers())
		}
		c.Pass(2 * time.Minute)
		c.Produce("commands", account("n", "k", "remind later 100000"), account("after", "k", "add 1"))
		l.verify(t, c, l.judge(c))
		l.wantRunsOf(t, "after", 1)
	})
}
