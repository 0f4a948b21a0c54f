package streamtest_test

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/oncemill/oncemill/internal/step"
	"github.com/oncemill/oncemill/streamtest"
)

// TestBrokersWithoutTransactionVersionTwo: before KIP-890 a commit needs AddOffsetsToTxn, and epochs stay the same. Crashes and
// unknown outcomes end as they do with newer brokers.
func TestBrokersWithoutTransactionVersionTwo(t *testing.T) {
	t.Parallel()
	old := streamtest.ClusterOptions{OldTransactions: true}
	t.Run("crash", func(t *testing.T) {
		l := newLedger(ledgerOptions{})
		l.simulate(t, old, func(t *testing.T, c *streamtest.Cluster) {
			a := c.Start("a")
			c.Produce("commands", adds("m", "k", 3)...)
			c.AwaitCommitted("events", 3)
			crash := a.CrashAt(string(step.EndTxn), 1, 50)
			c.Produce("commands", account("n", "k", "add 1"))
			crash.Await()
			a.Start()
			c.AwaitCommitted("events", 4)
			l.verify(t, c, l.judge(c))
			l.wantRunsOf(t, "n", 2)
		})
	})
	t.Run("unknown outcome", func(t *testing.T) {
		l := newLedger(ledgerOptions{})
		l.simulate(t, old, func(t *testing.T, c *streamtest.Cluster) {
			a := c.Start("a")
			c.Produce("commands", adds("m", "k", 3)...)
			c.AwaitCommitted("events", 3)
			loss := c.Lose(streamtest.Loss{Key: kmsg.EndTxn, Times: -1})
			resolved := a.CallAt(string(step.Resolve), 1, loss.Remove)
			c.Produce("commands", account("n", "k", "add 1"))
			resolved.Await()
			c.AwaitCommitted("events", 4)
			c.Pass(time.Minute)
			l.verify(t, c, l.judge(c))
			l.wantRunsOf(t, "n", 1)
		})
	})
}

// Without them nothing fences a zombie.
func TestR7EveryCommitNamesMemberAndGeneration(t *testing.T) {
	t.Parallel()
	l := newLedger(ledgerOptions{})
	l.simulate(t, streamtest.ClusterOptions{}, func(t *testing.T, c *streamtest.Cluster) {
		commits, bad := 0, 0
		watchEach(c, func(r *kmsg.TxnOffsetCommitRequest) {
			if commits++; r.MemberID == "" || r.Generation < 0 || r.InstanceID == nil || len(r.Topics) == 0 {
				bad++
			}
		})
		watchEach(c, func(*kmsg.OffsetCommitRequest) {
			bad++ // a commit outside of a transaction
		})
		a := c.Start("a")
		c.Produce("commands", account("m0", "k", "add 1"), account("m1", "k", "alarm x 5"))
		c.AwaitCommitted("events", 2)
		if err := a.Stop(); err != nil {
			t.Fatal(err)
		}
		j := l.judge(c)
		j.ring("k", "x")
		l.verify(t, c, j)
		if uint64(commits) != c.Transactions("commands_0") || commits < 2 || bad > 0 {
			t.Fatalf("%d commits, %d of them bad, %d transactions", commits, bad, c.Transactions("commands_0"))
		}
	})
}
