package streamtest_test

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/oncemill/oncemill/internal/step"
	"github.com/oncemill/oncemill/streamtest"
)

// protocols are brokers of transaction.version 2 and older ones, which take a late request of one transaction for one of the next.
var protocols = map[string]bool{"transaction.version 2": false, "older": true}

// latePlay is a play in which a request of a is lost on its way; the client asks again and is answered; the request arrives three seconds
// later.
type latePlay struct {
	t    *testing.T
	c    *streamtest.Cluster
	a    *streamtest.Process
	old  bool // the brokers
	lost *streamtest.LossHandle
}

// lose sends n0, of whose transaction the next request of this kind is the one that is lost.
func (p *latePlay) lose(key kmsg.Key) {
	p.lost = p.c.Lose(streamtest.Loss{Key: key, Process: "a", Request: true, Delay: 3 * time.Second})
	p.c.Produce("commands", account("n0", "k", "add 1"))
}

// lately plays a story with brokers of transaction.version 2 and with older ones. With the latter a takes a step once more, which gives it
// another epoch before its next transaction. In the end the handler must have seen a message once.
func lately(t *testing.T, renewed step.Step, once string, story func(p *latePlay)) {
	t.Parallel()
	for name, old := range protocols {
		t.Run(name, func(t *testing.T) {
			l := newLedger(ledgerOptions{})
			l.simulate(t, streamtest.ClusterOptions{OldTransactions: old}, func(t *testing.T, c *streamtest.Cluster) {
				p := &latePlay{t: t, c: c, a: c.Start("a"), old: old}
				c.Produce("commands", adds("m", "k", 3)...)
				c.AwaitCommitted("events", 3)
				before := p.a.Steps(string(renewed))
				story(p)
				if n := p.a.Steps(string(renewed)) - before; n > 1 || p.old != (n == 1) || p.lost.Hits() != 1 {
					t.Errorf("%d requests were late, %d times a took the step %s", p.lost.Hits(), n, renewed)
				}
				p.a.Restart(100)
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
// it, by the epoch of its producer (KIP-890). Older ones would take it, and the committed offsets would go back to those of the transaction
// before: with them the next one must have another epoch.
func TestLateOffsetCommit(t *testing.T) {
	lately(t, step.Resolve, "n1", func(p *latePlay) {
		p.lose(kmsg.TxnOffsetCommit)
		p.c.AwaitCommitted("events", 4)
		frozen := p.a.FreezeAt(string(step.EndTxn), 1)
		p.c.Produce("commands", account("n1", "k", "remind x 20"))
		frozen.Await()
		p.c.Pass(5 * time.Second)
		frozen.Thaw()
		p.c.AwaitCommitted("events", 5)
		if at, n := p.c.Commits("commands")[0], p.c.Transactions("commands_0"); n != at.N {
			p.t.Errorf("offset %d of transaction %d is committed, the changelog has %d", at.Offset, at.N, n)
		}
	})
}

// TestLateEndOfATransaction: a request to commit arrives within the next transaction. Brokers with transaction.version 2 refuse it. Older
// ones would end the next one too early, in two parts, of which one is committed: with them the next one must have another epoch.
func TestLateEndOfATransaction(t *testing.T) {
	lately(t, step.Resolve, "n0", func(p *latePlay) {
		p.lose(kmsg.EndTxn)
		p.c.AwaitCommitted("events", 4)
		frozen := p.a.FreezeAt(string(step.CommitOffsets), 1)
		p.c.Produce("commands", account("n1", "k", "remind x 20"))
		frozen.Await() // its records are with the brokers, its offsets are not
		p.c.Pass(5 * time.Second)
		if n := len(p.c.Committed("events")); n != 4 {
			p.t.Errorf("%d outputs are committed", n)
		}
		p.a.Kill(100)
		frozen.Thaw()
		p.a.Start()
	})
}

// TestLateEndOfAnAbort: the request to abort the first try of n0 arrives within the second one. Older brokers would abort its records, and
// commit its offsets.
func TestLateEndOfAnAbort(t *testing.T) {
	lately(t, step.Fence, "n1", func(p *latePlay) {
		offsets := step.CommitOffsets
		if p.old {
			offsets = step.AddOffsets
		}
		p.c.Refuse(kmsg.TxnOffsetCommit, kerr.InvalidCommitOffsetSize, 1)
		frozen := p.a.FreezeAt(string(offsets), 2)
		p.lose(kmsg.EndTxn)
		frozen.Await() // the records of the second try are with the brokers, its offsets are not
		p.c.Pass(5 * time.Second)
		frozen.Thaw()
		p.c.Produce("commands", account("n1", "k", "remind x 20"))
		p.c.AwaitCommitted("events", 5)
	})
}
