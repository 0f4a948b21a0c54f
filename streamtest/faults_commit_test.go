package streamtest_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/internal/step"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/streamtest"
)

// losses are the parts of the unsynced data, in percent, that a crash loses.
var losses = []int{0, 10, 50, 100}

// crashSteps are the steps of a commit, and whether the transaction of a crash before it is committed.
var crashSteps = []struct {
	step      step.Step
	committed bool
}{
	{step.Process, false}, {step.ProduceOutputs, false}, {step.Seal, false}, {step.Flush, false}, {step.Reserve, false},
	{step.CommitOffsets, false}, {step.EndTxn, false}, {step.Confirmed, true}, {step.Applied, true},
}

func TestCrashInACommit(t *testing.T) {
	t.Parallel()
	for _, at := range crashSteps {
		for _, lost := range losses {
			t.Run(fmt.Sprintf("%s/%d%%", at.step, lost), func(t *testing.T) {
				play(t, setting{}, func(s *scene) {
					before := s.c.Commits("commands")[0]
					crash := s.a.CrashAt(string(at.step), 1, lost)
					s.send(account("n", "k", "add 5"))
					crash.Await()
					s.a.Start()
					s.verified()
					runs := 2
					if at.committed || at.step == step.Process {
						runs = 1
					}
					s.wantRunsOf(s.t, "n", runs)
					if after := s.c.Commits("commands")[0]; after.N != before.N+1 {
						s.t.Fatalf("transaction %d after %d", after.N, before.N)
					}
				})
			})
		}
	}
}

// unknown lets EndTxn fail for one transaction, until the worker resolves its outcome; then it lets the worker go on. Between the
// two nothing may be processed (R5).
func (s *scene) unknown(loss streamtest.Loss, message streamtest.Message) {
	s.t.Helper()
	loss.Key, loss.Times = kmsg.EndTxn, -1
	h := s.c.Lose(loss)
	processed := 0
	resolve := s.a.CallAt(string(step.Resolve), 1, func() {
		h.Remove()
		processed = s.a.Steps(string(step.Process))
		s.send(account("waiting", "k", "add 1"))
	})
	resolved := s.a.CallAt(string(step.Resolved), 1, func() {
		if n := s.a.Steps(string(step.Process)); n != processed || s.runs("waiting") != 0 {
			s.t.Errorf("%d records were processed before the outcome was known", n-processed)
		}
	})
	s.send(message)
	resolve.Await()
	resolved.Await()
	if h.Hits() == 0 {
		s.t.Fatal("no request was struck")
	}
}

// The process lives, and EndTxn or its answer is missing: with an answer that never comes, and with one that comes when nobody
// waits for it.
func TestR5UnknownOutcome(t *testing.T) {
	t.Parallel()
	for _, lostRequest := range []bool{true, false} {
		for _, delay := range []time.Duration{0, 30 * time.Second} {
			t.Run(fmt.Sprintf("request lost %v, %v late", lostRequest, delay), func(t *testing.T) {
				play(t, setting{}, func(s *scene) {
					s.unknown(streamtest.Loss{Request: lostRequest, Delay: delay}, account("n", "k", "add 5"))
					s.c.Pass(time.Minute)
					s.verified()
					s.wantRunsOf(s.t, "n", map[bool]int{true: 2, false: 1}[lostRequest])
					s.goesOn("after")
					s.ranOnce("m0", "waiting", "after")
				})
			})
		}
	}
}

// The commit was executed, and its answer is dropped, or says UNKNOWN_SERVER_ERROR, or something that sounds final.
func TestS5ExecutedCommitIsAnsweredWithAnError(t *testing.T) {
	t.Parallel()
	for _, e := range []*kerr.Error{nil, kerr.UnknownServerError, kerr.RequestTimedOut, kerr.InvalidTxnState, kerr.InvalidProducerEpoch} {
		t.Run(fmt.Sprint(e), func(t *testing.T) {
			play(t, setting{}, func(s *scene) {
				s.unknown(streamtest.Loss{Err: e}, account("n", "k", "add 5"))
				s.verified()
				s.ranOnce("m0", "n", "waiting")
				if out := s.c.Committed("events"); string(out[3].Value) != "8" || streamtest.Header(out[3], record.HeaderCause) != "commands/0@3" {
					s.t.Fatalf("the event is %q of %s", out[3].Value, streamtest.Header(out[3], record.HeaderCause))
				}
				s.a.Restart(100)
				s.goesOn("after")
				s.ranOnce("n", "after")
			})
		})
	}
}

// TestUnknownOutcomeOfATransactionThatOnlyFiredTimers: no offset moves, so only the counter can tell.
func TestUnknownOutcomeOfATransactionThatOnlyFiredTimers(t *testing.T) {
	t.Parallel()
	for _, lostRequest := range []bool{true, false} {
		t.Run(fmt.Sprintf("request lost %v", lostRequest), func(t *testing.T) {
			l := newLedger(ledgerOptions{})
			l.simulate(t, streamtest.ClusterOptions{}, func(t *testing.T, c *streamtest.Cluster) {
				a := c.Start("a")
				c.Produce("commands", account("m0", "k", "add 5"), account("m1", "k", "alarm x 60"))
				c.AwaitCommitted("events", 1)
				c.Settle()
				before := c.Commits("commands")[0]
				loss := c.Lose(streamtest.Loss{Key: kmsg.EndTxn, Request: lostRequest, Times: -1})
				resolved := a.CallAt(string(step.Resolve), 1, loss.Remove)
				c.AwaitCommitted("events", 2)
				c.Pass(time.Minute)
				if !resolved.Reached() || loss.Hits() == 0 {
					t.Fatalf("resolved %v, %d requests struck", resolved.Reached(), loss.Hits())
				}
				j := l.judge(c)
				j.ring("k", "x")
				l.verify(t, c, j)
				after := c.Commits("commands")[0]
				if after.Offset != before.Offset || after.N != before.N+1 {
					t.Fatalf("offset %d and transaction %d after %d and %d", after.Offset, after.N, before.Offset, before.N)
				}
				want := 1
				if lostRequest {
					want = 2
				}
				if l.fired() != want || c.PendingTimers() != 0 {
					t.Fatalf("the timer fired %d times, want %d; %d timers are left", l.fired(), want, c.PendingTimers())
				}
			})
		})
	}
}

// TestStopDuringAnOutage: a clean stop that cannot commit ends within its limit, and says so; nothing is lost.
func TestStopDuringAnOutage(t *testing.T) {
	t.Parallel()
	l := newLedger(ledgerOptions{})
	l.simulate(t, streamtest.ClusterOptions{}, func(t *testing.T, c *streamtest.Cluster) {
		a := c.Start("a")
		c.Produce("commands", adds("before", "k", 3)...)
		c.AwaitCommitted("events", 3)
		frozen := a.FreezeAt(string(step.EndTxn), 1)
		c.Produce("commands", account("m", "k", "add 5"))
		frozen.Await()
		a.Isolate()
		frozen.Thaw()
		began := time.Now()
		if err := a.Stop(); !errors.Is(err, &problem.Error{Code: problem.ShutdownTimeout}) {
			t.Fatalf("Run returned %v", err)
		}
		if took := time.Since(began); took > 2*oncemill.DefaultShutdownTimeout {
			t.Fatalf("the stop took %v", took)
		}
		a.Start()
		c.AwaitCommitted("events", 4)
		l.verify(t, c, l.judge(c))
	})
}

// TestOutputsOfOldRecordsAreRetried: a broker that refuses once must not cost more than a retry, however old the input is.
func TestOutputsOfOldRecordsAreRetried(t *testing.T) {
	t.Parallel()
	l := newLedger(ledgerOptions{})
	l.simulate(t, streamtest.ClusterOptions{}, func(t *testing.T, c *streamtest.Cluster) {
		a := c.Start("a")
		c.AwaitTasks(1)
		refused := c.Broker().Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "events", Err: kerr.NotLeaderForPartition})
		c.Produce("commands", account("m", "k", "add 5").At(time.Now().Add(-time.Hour)))
		c.Pass(time.Minute)
		l.verify(t, c, l.judge(c))
		if n := a.Steps(string(step.Aborting)); n != 0 || refused.Hits() != 1 {
			t.Fatalf("%d transactions were aborted, %d requests refused", n, refused.Hits())
		}
	})
}
