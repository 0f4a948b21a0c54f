package streamtest_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/internal/step"
	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/streamtest"
)

const ledgerLetters = "ledger-dead-letters"

// TestTimerThatPanics: it harms no record and no other timer, and its dead letter names it.
func TestTimerThatPanics(t *testing.T) {
	t.Parallel()
	l := newLedger(ledgerOptions{timer: processor.DeadLetter()})
	l.onTimer = func(ctx *processor.Context[string, string]) error {
		if balance, _, err := l.balances.Get(ctx, "bad"); err != nil || balance >= 100 {
			panic("a timer of the key bad")
		}
		return nil
	}
	l.simulate(t, streamtest.ClusterOptions{}, func(t *testing.T, c *streamtest.Cluster) {
		a := c.Start("a")
		c.Produce("commands", account("m0", "bad", "add 1"), account("m1", "bad", "alarm x 60"), account("m2", "good", "alarm y 60"))
		c.AwaitCommitted("events", 2)
		letters := c.AwaitCommitted(ledgerLetters, 1)
		if got := streamtest.Header(letters[0], record.HeaderDeadLetterTimer); got != "balances/x" {
			t.Fatalf("the dead letter is of the timer %q", got)
		}
		if code := streamtest.Header(letters[0], "__streams.errors.exception"); code != string(problem.HandlerPanicked) {
			t.Fatalf("the dead letter has the code %q", code)
		}
		a.Restart(100)
		c.Pass(5 * time.Minute)
		c.Produce("commands", account("m3", "good", "add 1"))
		c.AwaitCommitted("events", 3)
		c.Settle()
		c.CheckState()
		balances := map[string]int64{}
		for _, e := range streamtest.FreshEntries(c, l.balances) {
			balances[e.Key] = e.Value
		}
		if len(c.Committed(ledgerLetters)) != 1 || c.PendingTimers() != 0 || balances["bad"] != 1 || balances["good"] != 101 {
			t.Fatalf("%d dead letters, %d timers left, balances %v", len(c.Committed(ledgerLetters)), c.PendingTimers(), balances)
		}
	})
}

// TestHandlerSlowerThanTheTransactionTimeout: its batch is aborted by the broker, and the records run again one by one. Alone the
// slow one can be committed, since its transaction opens when its outputs are sent. Nothing loops, and afterwards records
// share transactions again.
func TestHandlerSlowerThanTheTransactionTimeout(t *testing.T) {
	t.Parallel()
	l := newLedger(ledgerOptions{process: processor.DeadLetter()})
	l.simulate(t, streamtest.ClusterOptions{}, func(t *testing.T, c *streamtest.Cluster) {
		messages := append(adds("before", "k", 3), account("slow", "k", "slow 15"))
		c.Produce("commands", append(messages, adds("after", "k", 3)...)...)
		a := c.Start("a")
		c.AwaitCommitted("events", 7)
		c.Pass(2 * time.Minute)
		l.verify(t, c, l.judge(c))
		l.wantRunsOf(t, "slow", 2)
		if a.Steps(string(step.Aborting)) != 1 || len(c.Committed(ledgerLetters)) != 0 {
			t.Fatalf("%d transactions were aborted, %d dead letters", a.Steps(string(step.Aborting)), len(c.Committed(ledgerLetters)))
		}
		n := c.Transactions("commands_0")
		c.Produce("commands", adds("later", "k", 10)...)
		c.AwaitCommitted("events", 17)
		l.verify(t, c, l.judge(c))
		if more := c.Transactions("commands_0") - n; more > 3 {
			t.Fatalf("%d transactions for ten records: they still run one by one", more)
		}
	})
}

// TestHandlerThatIsTooSlowAlone: a transaction that fails although the slow record was alone in it. On its next run the record
// meets its failure policy.
func TestHandlerThatIsTooSlowAlone(t *testing.T) {
	t.Parallel()
	l := newLedger(ledgerOptions{process: processor.DeadLetter()})
	l.simulate(t, streamtest.ClusterOptions{}, func(t *testing.T, c *streamtest.Cluster) {
		messages := append(adds("before", "k", 3), account("slow", "k", "slow 15"))
		c.Produce("commands", append(messages, adds("after", "k", 3)...)...)
		a := c.Start("a")
		c.Until("the slow record to run alone", func() bool { return l.runs("slow") == 2 })
		refused := c.Broker().Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "events", Err: kerr.InvalidProducerEpoch})
		out := c.AwaitCommitted("events", 6)
		letters := c.AwaitCommitted(ledgerLetters, 1)
		c.Settle()
		c.CheckState()
		if refused.Hits() != 1 || a.Steps(string(step.Aborting)) != 2 {
			t.Fatalf("%d requests refused, %d transactions aborted", refused.Hits(), a.Steps(string(step.Aborting)))
		}
		if code := streamtest.Header(letters[0], "__streams.errors.exception"); code != string(problem.HandlerTooSlow) || string(out[5].Value) != "6" {
			t.Fatalf("the dead letter has the code %q, the last output is %q", code, out[5].Value)
		}
		l.wantRunsOf(t, "slow", 2)
	})
}

// TestSlowHandlerWithinTheTransactionTimeout: nothing is aborted.
func TestSlowHandlerWithinTheTransactionTimeout(t *testing.T) {
	t.Parallel()
	l := newLedger(ledgerOptions{process: processor.DeadLetter()})
	l.simulate(t, streamtest.ClusterOptions{}, func(t *testing.T, c *streamtest.Cluster) {
		a := c.Start("a")
		for i := range 10 {
			c.Produce("commands", account(fmt.Sprint("m", i), "k", "slow 4"))
		}
		c.AwaitCommitted("events", 10)
		l.verify(t, c, l.judge(c))
		for i := range 10 {
			l.wantRunsOf(t, fmt.Sprint("m", i), 1)
		}
		if n := a.Steps(string(step.Aborting)); n != 0 {
			t.Fatalf("%d transactions were aborted", n)
		}
	})
}

// TestOutputThatIsTooLarge: found when it is emitted; the record goes to the dead letters and leaves nothing else.
func TestOutputThatIsTooLarge(t *testing.T) {
	t.Parallel()
	l := newLedger(ledgerOptions{process: processor.DeadLetter()})
	l.simulate(t, streamtest.ClusterOptions{}, func(t *testing.T, c *streamtest.Cluster) {
		a := c.Start("a")
		c.Produce("commands", account("m0", "k", "add 1"), account("m1", "k", "big 2000000"), account("m2", "k", "add 1"))
		out := c.AwaitCommitted("events", 2)
		letters := c.AwaitCommitted(ledgerLetters, 1)
		c.Settle()
		c.CheckState()
		if code := streamtest.Header(letters[0], "__streams.errors.exception"); code != string(problem.OutputTooLarge) || string(out[1].Value) != "2" {
			t.Fatalf("the dead letter has the code %q, the last output is %q", code, out[1].Value)
		}
		if n := a.Steps(string(step.Aborting)); n != 0 {
			t.Fatalf("%d transactions were aborted", n)
		}
	})
}

// TestOutputThatTheBrokerRefuses: the topic takes less than it did when the application started. The transaction is aborted; on
// the re-run the record meets its produce policy, and its neighbours are committed once.
func TestOutputThatTheBrokerRefuses(t *testing.T) {
	t.Parallel()
	for _, policy := range []string{"dead letter", "skip"} {
		t.Run(policy, func(t *testing.T) {
			produce := processor.Skip()
			if policy == "dead letter" {
				produce = processor.DeadLetter()
			}
			l := newLedger(ledgerOptions{produce: produce, process: processor.DeadLetter()})
			l.simulate(t, streamtest.ClusterOptions{}, func(t *testing.T, c *streamtest.Cluster) {
				a := c.Start("a")
				c.AwaitTasks(1)
				refused := c.Broker().Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "events", Err: kerr.MessageTooLarge, Count: -1,
					When: func(req kmsg.Request) bool { return produces(req, "events", 100_000) }})
				c.Produce("commands", account("m0", "k", "add 1"), account("m1", "k", "big 200000"), account("m2", "k", "add 1"))
				out := c.AwaitCommitted("events", 2)
				c.Settle()
				c.CheckState()
				letters := c.Committed(ledgerLetters)
				if refused.Hits() == 0 || a.Steps(string(step.Aborting)) != 2 || string(out[1].Value) != "2" {
					t.Fatalf("%d refused, %d aborts, last output %q", refused.Hits(), a.Steps(string(step.Aborting)), out[1].Value)
				}
				if policy == "dead letter" {
					if len(letters) != 1 || streamtest.Header(letters[0], "__streams.errors.exception") != string(problem.ProduceFailed) {
						t.Fatalf("dead letters %v", letters)
					}
				} else if len(letters) != 0 {
					t.Fatalf("dead letters %v", letters)
				}
				a.Restart(100)
				c.Produce("commands", account("m1", "k", "big 200000"), account("m3", "k", "add 1"))
				out = c.AwaitCommitted("events", 3)
				if string(out[2].Value) != "3" || l.runs("m1") != 2 {
					t.Fatalf("the last output is %q; the refused record ran %d times", out[2].Value, l.runs("m1"))
				}
				c.Settle()
				c.CheckState()
			})
		})
	}
}

// produces reports that a request writes a large batch to a topic.
func produces(req kmsg.Request, topic string, size int) bool {
	p, ok := req.(*kmsg.ProduceRequest)
	if !ok {
		return false
	}
	for _, t := range p.Topics {
		for _, part := range t.Partitions {
			if (t.Topic == topic || t.Topic == "") && len(part.Records) > size {
				return true
			}
		}
	}
	return false
}

// TestFailedPromiseIsNotIgnored: an output that a broker refuses with another error for a while is never missing.
func TestFailedPromiseIsNotIgnored(t *testing.T) {
	t.Parallel()
	for _, e := range []*kerr.Error{kerr.NotLeaderForPartition, kerr.UnknownServerError, kerr.InvalidProducerEpoch, kerr.NotEnoughReplicas, kerr.InvalidTxnState} {
		t.Run(e.Message, func(t *testing.T) {
			l := newLedger(ledgerOptions{})
			l.simulate(t, streamtest.ClusterOptions{}, func(t *testing.T, c *streamtest.Cluster) {
				a := c.Start("a")
				c.Produce("commands", adds("m", "k", 3)...)
				c.AwaitCommitted("events", 3)
				refused := c.Broker().Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "events", Err: e, Count: 2})
				c.Produce("commands", adds("n", "k", 3)...)
				c.AwaitCommitted("events", 6)
				if refused.Hits() == 0 {
					t.Fatal("no request was refused")
				}
				l.verify(t, c, l.judge(c))
				a.Restart(100)
				c.Produce("commands", adds("o", "k", 1)...)
				c.AwaitCommitted("events", 7)
				l.verify(t, c, l.judge(c))
			})
		})
	}
}

// TestRefusedCommit: each error that a commit may meet, once. S5 is among them: the commit was executed and the answer is
// UNKNOWN_SERVER_ERROR or REQUEST_TIMED_OUT.
func TestRefusedCommit(t *testing.T) {
	t.Parallel()
	for _, key := range []kmsg.Key{kmsg.TxnOffsetCommit, kmsg.EndTxn} {
		for _, e := range []*kerr.Error{kerr.UnknownServerError, kerr.RequestTimedOut, kerr.CoordinatorNotAvailable, kerr.NotCoordinator,
			kerr.CoordinatorLoadInProgress, kerr.ConcurrentTransactions, kerr.InvalidProducerEpoch, kerr.ProducerFenced, kerr.InvalidTxnState, kerr.RebalanceInProgress} {
			t.Run(key.Name()+"/"+e.Message, func(t *testing.T) { refusedOnce(t, key, e) })
		}
	}
}

// TestRefusedProducerID: the outcome of a commit is unknown, and the producer cannot be initialised at once.
func TestRefusedProducerID(t *testing.T) {
	t.Parallel()
	for _, e := range []*kerr.Error{kerr.UnknownServerError, kerr.RequestTimedOut, kerr.CoordinatorNotAvailable, kerr.NotCoordinator,
		kerr.CoordinatorLoadInProgress, kerr.ConcurrentTransactions} {
		t.Run(e.Message, func(t *testing.T) { refusedOnce(t, kmsg.InitProducerID, e) })
	}
}

func refusedOnce(t *testing.T, key kmsg.Key, e *kerr.Error) {
	l := newLedger(ledgerOptions{})
	l.simulate(t, streamtest.ClusterOptions{}, func(t *testing.T, c *streamtest.Cluster) {
		a := c.Start("a")
		c.Produce("commands", adds("m", "k", 3)...)
		c.AwaitCommitted("events", 3)
		refused := c.Refuse(key, e, 1)
		if key == kmsg.InitProducerID { // which a running worker sends after an unknown outcome only
			c.Refuse(kmsg.EndTxn, kerr.InvalidProducerEpoch, 1)
		}
		c.Produce("commands", adds("n", "k", 3)...)
		c.AwaitCommitted("events", 6)
		c.Pass(time.Minute)
		if refused.Hits() != 1 {
			t.Fatalf("%d requests were refused", refused.Hits())
		}
		l.verify(t, c, l.judge(c))
		a.Restart(100)
		c.Produce("commands", adds("o", "k", 1)...)
		c.AwaitCommitted("events", 7)
		l.verify(t, c, l.judge(c))
	})
}
