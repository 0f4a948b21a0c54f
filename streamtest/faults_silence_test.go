package streamtest_test

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/oncemill/oncemill/internal/step"
	"github.com/oncemill/oncemill/streamtest"
)

// That nothing comes is no end of a log: here a changelog is silent for a while, and nothing may be lost.

// A disk is lost; while the changelog of a store is restored, its broker answers every Fetch with a retriable error for a few
// seconds (as one does whose log is offline, that is throttled or that just came back). ListOffsets works. Nothing may be lost.
func TestRestoreWhileOneChangelogCannotBeFetchedForAWhile(t *testing.T) {
	t.Parallel()
	for _, topic := range []string{balancesLog, "ledger-commands-markers-changelog"} {
		t.Run(topic, func(t *testing.T) {
			l := newLedger(ledgerOptions{})
			l.simulate(t, streamtest.ClusterOptions{}, func(t *testing.T, c *streamtest.Cluster) {
				a := c.Start("a")
				c.Produce("commands", adds("m", "k", 3)...)
				c.AwaitCommitted("events", 3)
				c.Settle()
				a.Kill(100)
				a.LoseDisk()
				slowFetches(c)
				fault := c.Broker().Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: topic, TopicID: [16]byte{}, Err: kerr.NotLeaderForPartition, Count: -1})
				a.Start()
				c.Pass(8 * time.Second)
				t.Logf("%d fetches refused", fault.Hits())
				fault.Remove()
				c.AwaitTasks(1)
				c.Produce("commands", account("m0", "k", "add 1")) // a duplicate
				c.Produce("commands", account("after", "k", "add 1"))
				c.Pass(5 * time.Second)
				l.verify(t, c, l.judge(c))
			})
		})
	}
}

// All answers are late: a slow line, a quota, a cold disk.
func TestRestoreOverASlowLine(t *testing.T) {
	t.Parallel()
	l := newLedger(ledgerOptions{})
	l.simulate(t, streamtest.ClusterOptions{}, func(t *testing.T, c *streamtest.Cluster) {
		a := c.Start("a")
		c.Produce("commands", adds("m", "k", 3)...)
		c.AwaitCommitted("events", 3)
		c.Settle()
		a.Kill(100)
		a.LoseDisk()
		h := c.Lose(streamtest.Loss{Key: kmsg.Fetch, Process: "a", Role: "restore", Nth: 1, Times: -1, Delay: 3500 * time.Millisecond})
		a.Start()
		c.Pass(10 * time.Second)
		h.Remove()
		c.AwaitTasks(1)
		c.Produce("commands", account("after", "k", "add 1"))
		c.Pass(5 * time.Second)
		l.verify(t, c, l.judge(c))
	})
}

// The leader of one changelog partition is away for some seconds: everything that needs it is refused, with a retriable error.
func TestRestoreWhileTheLeaderOfOneChangelogIsAway(t *testing.T) {
	t.Parallel()
	l := newLedger(ledgerOptions{})
	l.simulate(t, streamtest.ClusterOptions{}, func(t *testing.T, c *streamtest.Cluster) {
		a := c.Start("a")
		c.Produce("commands", adds("m", "k", 3)...)
		c.AwaitCommitted("events", 3)
		c.Settle()
		a.Kill(100)
		a.LoseDisk()
		slowFetches(c)
		f := c.Broker().Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: balancesLog, Err: kerr.NotLeaderForPartition, Count: -1})
		frozen := a.FreezeAt(string(step.RestoreChunk), 1)
		a.Start()
		frozen.Await()
		g := c.Broker().Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.ListOffsets}, Topic: balancesLog, Err: kerr.NotLeaderForPartition, Count: -1})
		frozen.Thaw()
		c.Pass(6 * time.Second)
		t.Logf("%d refused", f.Hits())
		f.Remove()
		t.Logf("%d ListOffsets refused", g.Hits())
		g.Remove()
		c.AwaitTasks(1)
		c.Produce("commands", account("after", "k", "add 1"))
		c.Pass(5 * time.Second)
		l.verify(t, c, l.judge(c))
	})
}

// Only the broker that leads the changelog of the balances is slow. The task's own changelog is read, so that the counters agree: that
// is no reason to serve it without its balances.
func TestRestoreFromOneSlowBroker(t *testing.T) {
	t.Parallel()
	l := newLedger(ledgerOptions{})
	l.simulate(t, streamtest.ClusterOptions{Brokers: 3}, func(t *testing.T, c *streamtest.Cluster) {
		a := c.Start("a")
		c.Produce("commands", adds("m", "k", 3)...)
		c.AwaitCommitted("events", 3)
		c.Settle()
		leader := func(topic string) int32 { return c.Broker().LeaderFor(topic, 0) }
		for leader(balancesLog) == leader("ledger-commands-task-changelog") {
			c.MoveLeaders()
		}
		a.Kill(100)
		a.LoseDisk()
		slow, hits := leader(balancesLog), 0
		a.Start()
		watchEach(c, func(*kmsg.FetchRequest) {
			if c.Broker().CurrentNode() == slow && hits == 0 && a.Steps(string(step.ListEnds)) > 1 {
				hits++
				c.Broker().SleepControl(func() { <-time.After(4 * time.Second) })
			}
		})
		c.Produce("commands", account("after", "k", "add 1"))
		c.AwaitCommitted("events", 4)
		c.Pass(10 * time.Second)
		if hits == 0 {
			t.Fatal("no fetch was late")
		}
		l.verify(t, c, l.judge(c))
	})
}

// slowFetches lets each answer to a Fetch take a while: the client asks again at once after a refusal, and a refusal costs nothing here.
func slowFetches(c *streamtest.Cluster) {
	watchEach(c, func(*kmsg.FetchRequest) {
		c.Broker().SleepControl(func() { <-time.After(20 * time.Millisecond) })
	})
}
