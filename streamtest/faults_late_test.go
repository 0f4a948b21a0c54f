package streamtest_test

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/oncemill/oncemill/internal/step"
	"github.com/oncemill/oncemill/streamtest"
)

// lately plays a story with brokers of transaction.version 2 and with older ones, in which a request of a is lost on its way when n0 is
// processed. The client asks again and is answered; the request arrives three seconds later. The story returns which
// message must have run once in the end.
func lately(t *testing.T, key kmsg.Key, story func(t *testing.T, c *streamtest.Cluster, a *streamtest.Process, late *streamtest.LossHandle, old bool) (once string)) {
	t.Parallel()
	for name, options := range map[string][]kfake.Opt{"transaction.version 2": nil, "older": {kfake.MaxVersions(kversion.V3_6_0())}} {
		t.Run(name, func(t *testing.T) {
			l := newLedger(ledgerOptions{})
			l.simulate(t, streamtest.ClusterOptions{BrokerOptions: options}, func(t *testing.T, c *streamtest.Cluster) {
				a := c.Start("a")
				c.Produce("commands", adds("m", "k", 3)...)
				c.AwaitCommitted("events", 3)
				late := c.Lose(streamtest.Loss{Key: key, Process: "a", Request: true, Delay: 3 * time.Second})
				c.Produce("commands", account("n0", "k", "add 1"))
				c.AwaitCommitted("events", 4)
				once := story(t, c, a, late, options != nil)
				c.Produce("commands", account("n0", "k", "add 1"), account("n2", "k", "add 1"))
				c.AwaitCommitted("events", 7) // and the timer
				j := l.judge(c)
				j.ring("k", "x")
				l.verify(t, c, j)
				l.wantRunsOf(t, once, 1)
				l.wantRunsOf(t, "n2", 1)
			})
		})
	}
}

// TestLateOffsetCommit: a request that was lost on its way arrives within the next transaction. Brokers with transaction.version 2 refuse
// it, by the epoch of its producer (KIP-890). Older ones take it, so that the committed offsets go back to those of the transaction before,
// and a restart has to believe the changelog.
func TestLateOffsetCommit(t *testing.T) {
	lately(t, kmsg.TxnOffsetCommit, func(t *testing.T, c *streamtest.Cluster, a *streamtest.Process, late *streamtest.LossHandle, old bool) string {
		back := uint64(0) // transactions that the committed offsets are behind in the end
		if old {
			back = 1
		}
		frozen := a.FreezeAt(string(step.EndTxn), 1)
		c.Produce("commands", account("n1", "k", "remind x 20"))
		frozen.Await()
		c.Pass(5 * time.Second)
		frozen.Thaw()
		c.AwaitCommitted("events", 5)
		if at, n := c.Commits("commands")[0], c.Transactions("commands_0"); late.Hits() != 1 || n-at.N != back {
			t.Fatalf("%d requests were late; offset %d of transaction %d is committed, the changelog has %d", late.Hits(), at.Offset, at.N, n)
		}
		a.Restart(100)
		return "n1"
	})
}

// TestLateEndOfATransaction: a request to commit is lost on its way; the client asks again and is answered; then the first request arrives,
// within the next transaction. Brokers with transaction.version 2 refuse it. Older ones would end the next one too early, in two parts, of
// which one is committed: with them the next one must have another epoch.
func TestLateEndOfATransaction(t *testing.T) {
	lately(t, kmsg.EndTxn, func(t *testing.T, c *streamtest.Cluster, a *streamtest.Process, late *streamtest.LossHandle, old bool) string {
		resolved := 0 // transactions whose producer is initialised again
		if old {
			resolved = 1
		}
		frozen := a.FreezeAt(string(step.CommitOffsets), 1)
		c.Produce("commands", account("n1", "k", "remind x 20"))
		frozen.Await() // its records are with the brokers, its offsets are not
		c.Pass(5 * time.Second)
		if n := len(c.Committed("events")); n != 4 || late.Hits() != 1 {
			t.Errorf("%d requests were late, and %d outputs are committed", late.Hits(), n)
		}
		if got := a.Steps(string(step.Resolve)); got != resolved {
			t.Errorf("%d transactions were resolved, want %d", got, resolved)
		}
		a.Kill(100)
		frozen.Thaw()
		a.Start()
		return "n0"
	})
}
