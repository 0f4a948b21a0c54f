package streamtest_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/internal/step"
	"github.com/oncemill/oncemill/streamtest"
)

// backlog has many records of a slow handler in one poll.
func backlog(c *streamtest.Cluster, n int) {
	var all []streamtest.Message
	for i := range n {
		all = append(all, account(fmt.Sprint("s", i), fmt.Sprint("k", i%2), "slow 1"))
	}
	c.Produce("commands", all...)
}

// TestStopInABacklog: a clean stop ends after the record under way and a commit, not after everything that one poll has returned.
func TestStopInABacklog(t *testing.T) {
	t.Parallel()
	l := newLedger(ledgerOptions{})
	l.simulate(t, streamtest.ClusterOptions{}, func(t *testing.T, c *streamtest.Cluster) {
		backlog(c, 300)
		a := c.Start("a")
		c.AwaitCommitted("events", 1)
		began := time.Now()
		if err := a.Stop(); err != nil {
			t.Fatalf("after %v: %v", time.Since(began), err)
		}
	})
}

// TestRebalanceInABacklog: R11. A waiting rebalance makes the commit due; it does not wait for the rest of the poll.
func TestRebalanceInABacklog(t *testing.T) {
	t.Parallel()
	l := newLedger(ledgerOptions{})
	l.simulate(t, streamtest.ClusterOptions{Partitions: 2}, func(t *testing.T, c *streamtest.Cluster) {
		backlog(c, 600)
		c.Start("a")
		c.AwaitCommitted("events", 1)
		b := c.Start("b")
		began := time.Now()
		c.Pass(2 * time.Minute)
		if len(b.Tasks()) != 1 {
			t.Fatalf("b has %d tasks after %v", len(b.Tasks()), time.Since(began))
		}
		c.AwaitCommitted("events", 600)
		l.verify(t, c, l.judge(c))
	})
}

// What a commit in the middle of a poll leaves in hand is processed without another look at the brokers, once, and checkpoints have
// their moment between two transactions. A backlog would keep them waiting until its end.
func TestCheckpointsInABacklog(t *testing.T) {
	t.Parallel()
	l := newLedger(ledgerOptions{})
	o := streamtest.ClusterOptions{Configure: configure(func(cfg *oncemill.Config) { cfg.CommitRecords, cfg.CheckpointRecords = 10, 10 })}
	l.simulate(t, o, func(t *testing.T, c *streamtest.Cluster) {
		c.Produce("commands", adds("m", "k", 500)...)
		a := c.Start("a")
		c.AwaitCommitted("events", 500)
		if polls, frozen := a.Steps(string(step.Poll)), a.Steps(string(step.Freeze)); frozen < 20 || polls > 20 {
			t.Errorf("%d checkpoints and %d polls for 50 transactions of one poll", frozen, polls)
		}
		l.verify(t, c, l.judge(c))
	})
}

// Records of a slow handler do not wait for the end of a poll to become visible.
func TestCommitIntervalInABacklog(t *testing.T) {
	t.Parallel()
	l := newLedger(ledgerOptions{})
	l.simulate(t, streamtest.ClusterOptions{}, func(t *testing.T, c *streamtest.Cluster) {
		backlog(c, 20)
		c.Start("a")
		c.AwaitCommitted("events", 1)
		if n := len(c.Committed("events")); n > 2 {
			t.Errorf("%d records of a second each had to be processed before the first was committed", n)
		}
	})
}

// What is in hand of a task that goes is not processed here, also when the task comes back at once.
func TestTaskThatComesBackInABacklog(t *testing.T) {
	t.Parallel()
	l := newLedger(ledgerOptions{})
	l.simulate(t, streamtest.ClusterOptions{Partitions: 2}, func(t *testing.T, c *streamtest.Cluster) {
		backlog(c, 120)
		c.Start("a")
		c.AwaitCommitted("events", 1)
		b := c.Start("b")
		c.Until("b to have a task", func() bool { return len(b.Tasks()) == 1 })
		c.Pass(3 * time.Second)
		b.Kill(100)
		c.AwaitCommitted("events", 120)
		l.verify(t, c, l.judge(c))
	})
}
