package streamtest_test

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/internal/step"
	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/streamtest"
)

// traces counts what is committed of the message at offset 3 of a scene: its output, state, marker with the recorded output,
// timer and position.
func (s *scene) traces() (n int) {
	s.t.Helper()
	for _, e := range s.c.Committed("events") {
		if streamtest.Header(e, record.HeaderCause) == "commands/0@3" {
			n++
		}
	}
	if e := streamtest.FreshEntries(s.c, s.balances); len(e) == 1 && e[0].Value == 4 {
		n++
	}
	for _, m := range s.c.Markers() {
		outputs, err := m.Outputs()
		if err != nil {
			s.t.Fatal(err)
		}
		if m.Offset == 3 && len(outputs) == 1 && string(outputs[0].Value) == "4" {
			n++
		}
	}
	if s.c.Commits("commands")[0].Offset == 4 {
		n++
	}
	return n + s.c.PendingTimers()
}

// State, marker, recorded output, timer and position are one unit, in the changelogs and in a checkpoint: before the restart a
// reader finds all five or none, and afterwards each once.
func TestR1AllOrNothing(t *testing.T) {
	t.Parallel()
	steps := append(crashSteps[:len(crashSteps):len(crashSteps)], []struct {
		step      step.Step
		committed bool
	}{{step.Freeze, true}, {step.Ingest, true}, {step.Renew, true}}...)
	for _, at := range steps {
		t.Run(string(at.step), func(t *testing.T) {
			o := with(often)
			o.ledger.duplicate = dedup.ReplayOutputs
			play(t, o, func(s *scene) {
				s.c.Pass(10 * time.Second) // the checkpoint of what was before
				crash := s.a.CrashAt(string(at.step), 1, 100)
				s.send(account("n", "k", "remind later 100000"))
				crash.Await()
				if n, want := s.traces(), map[bool]int{true: 5, false: 0}[at.committed]; n != want {
					s.t.Fatalf("%d of five are committed, want %d", n, want)
				}
				s.a.Start()
				s.verified()
				if n := s.traces(); n != 5 {
					s.t.Fatalf("%d of five after the restart", n)
				}
			})
		})
	}
}

// One goroutine owns a task: while workers are thrown out of the group and take each other's tasks, no two runs of the handler for
// one key overlap, and copies that are under way meanwhile are found.
func TestR2OneOwnerAtATime(t *testing.T) {
	t.Parallel()
	l := newLedger(ledgerOptions{})
	busy := map[string]bool{}
	overlaps, handled := 0, 0
	mark := func(key string, on bool) {
		l.mu.Lock()
		defer l.mu.Unlock()
		if on && busy[key] {
			overlaps++
		}
		busy[key] = on
		handled++
	}
	l.onMessage = func(key string) {
		mark(key, true)
		<-time.After(20 * time.Millisecond)
		mark(key, false)
	}
	o := streamtest.ClusterOptions{Partitions: 4, Configure: configure(func(cfg *oncemill.Config) {
		cfg.Workers = 2
		often(cfg)
	})}
	l.simulate(t, o, func(t *testing.T, c *streamtest.Cluster) {
		a := c.Start("a")
		c.AwaitTasks(4)
		admin := kadm.NewClient(c.NewClient())
		for round := range 4 {
			steady(c, fmt.Sprint("r", round, "-"), 10, 30*time.Millisecond)
			if _, err := admin.LeaveGroup(context.Background(), kadm.LeaveGroup("ledger").InstanceIDs(fmt.Sprint("a-", round%2))); err != nil {
				t.Fatal(err)
			}
			steady(c, fmt.Sprint("r", round, "-"), 10, 170*time.Millisecond) // copies
			c.Pass(20 * time.Second)
		}
		c.AwaitTasks(4)
		l.verify(t, c, l.judge(c))
		if starts := a.Steps(string(step.Start)); starts < 8 || overlaps > 0 || handled < 80 {
			t.Fatalf("%d starts, %d overlaps in %d runs", starts, overlaps, handled/2)
		}
	})
}

// A marker's key is (scope with kind, id); its value says which message it is of: topic id, offset (the partition is that of the
// task), body, outcome and issue time.
func TestR3MarkerSaysWhichMessage(t *testing.T) {
	t.Parallel()
	cfg := withIssueTime()
	cfg.Kind = func(r *record.Raw) string { return string(r.Value) }
	p := newPayments(paymentOptions{dedup: cfg, failure: processor.DeadLetter()})
	broken := true
	failing(p, &broken)
	streamtest.Simulate(t, streamtest.ClusterOptions{Topology: p.topo}, func(t *testing.T, c *streamtest.Cluster) {
		issue := time.Now().Add(-time.Minute).UTC()
		a := c.Start("a")
		for _, m := range []streamtest.Message{confirm("o1", "7"), bad("o1", "7"), confirm("o1", "8"), confirm("o1", "7")} {
			c.Produce("commands", m.With("issued", issue.Format(time.RFC3339Nano)))
		}
		c.Settle()
		a.RestartWithoutDisk()
		c.AwaitTasks(1)
		markers := map[int64]dedup.Marker{}
		for _, m := range c.Markers() {
			markers[m.Offset] = m
			if !m.WrittenFor(c.Broker().TopicInfo("commands").TopicID) || !m.HasIssue || m.IssueMillis != issue.UnixMilli() || !m.HasBody {
				t.Fatalf("marker %+v", m)
			}
		}
		if len(markers) != 3 || markers[0].Outcome != dedup.Applied || markers[1].Outcome != dedup.DeadLettered || markers[2].Outcome != dedup.Applied {
			t.Fatalf("markers %+v", markers)
		}
		if markers[0].Body != markers[2].Body || markers[0].Body == markers[1].Body {
			t.Fatalf("the body hashes are %x, %x and %x", markers[0].Body, markers[1].Body, markers[2].Body)
		}
		wantRuns(t, p.runs, 3)
		c.CheckState()
	})
}

// The position finds a redelivery whose marker has expired; the marker finds a copy at a new offset.
func TestR4PositionAndMarker(t *testing.T) {
	t.Parallel()
	playStopped(t, setting{ledger: ledgerOptions{window: time.Minute}}, func(s *scene, admin *kadm.Client) {
		s.a.Start()
		s.send(account("late", "k", "add 1"))
		s.c.Settle()
		if m := s.c.Markers(); len(m) != 1 || m[0].Offset != 3 {
			s.t.Fatalf("markers %+v: those of m0, m1 and m2 should be gone", m)
		}
		s.stop(s.a)
		s.c.Pass(2 * oncemill.DefaultSessionTimeout)
		s.moveOffset(admin, 0)
	}, func(s *scene) {
		late := s.c.Committed("commands")[3]
		s.send(streamtest.Copy(late), account("after", "k", "add 1").At(late.Timestamp))
		out := s.c.AwaitCommitted("events", 5)
		s.c.Settle()
		s.c.CheckState()
		s.ranOnce("m0", "m1", "m2", "late", "after")
		if e := streamtest.FreshEntries(s.c, s.balances); len(out) != 5 || string(out[4].Value) != "5" || len(e) != 1 || e[0].Value != 5 {
			s.t.Fatalf("%d outputs, the last %q; balances %v", len(out), out[4].Value, e)
		}
	})
}

// watchAssignment notes the requests that decide where a task begins, in order and without repetitions.
func watchAssignment(c *streamtest.Cluster) (seen *[]string) {
	seen = &[]string{}
	note := func(what string) {
		if n := len(*seen); n == 0 || (*seen)[n-1] != what {
			*seen = append(*seen, what)
		}
	}
	log := c.Broker().TopicInfo(balancesLog)
	watchEach(c, func(*kmsg.InitProducerIDRequest) { note("fence") })
	watchEach(c, func(req *kmsg.OffsetFetchRequest) {
		note(fmt.Sprintf("offsets, stable %v", req.RequireStable))
	})
	watchEach(c, func(r *kmsg.ListOffsetsRequest) {
		for _, topic := range r.Topics {
			if topic.Topic == balancesLog && topic.Partitions[0].Timestamp == -1 {
				note(fmt.Sprintf("end, isolation %d", r.IsolationLevel))
			}
		}
	})
	watchEach(c, func(r *kmsg.FetchRequest) {
		for _, topic := range r.Topics {
			if topic.Topic == balancesLog || topic.TopicID == log.TopicID {
				note(fmt.Sprintf("read, isolation %d", r.IsolationLevel))
			}
		}
	})
	return seen
}

// On assignment: fence oneself, fetch the offsets, stable, then list the end with read_uncommitted, then read with
// read_committed; only then compare and start. (What is looked at before the fence decides nothing.) That "behind" refuses is TestRestoreOfALogThatLostItsRecords.
func TestR6OrderOfAnAssignment(t *testing.T) {
	t.Parallel()
	play(t, setting{}, func(s *scene) {
		s.a.Kill(0)
		s.a.LoseDisk()
		seen := watchAssignment(s.c)
		var before []string
		start := s.a.CallAt(string(step.Start), 1, func() { before = append(before, *seen...) })
		s.a.Start()
		start.Await()
		if got := strings.Join(before, "; "); !strings.HasSuffix(got, "fence; offsets, stable true; end, isolation 0; read, isolation 1") {
			s.t.Fatalf("before the task began: %s", got)
		}
		s.goesOn("after")
		s.ranOnce("m0", "m1", "m2", "after")
	})
}

// The committed offset is visible while the changelog still ends in an open transaction: what was committed with the offset lies
// behind the last stable offset. The new owner waits; it never starts with less than the offset says. The embedded broker ends
// transactions at once, so another producer's holds the log open.
func TestS41ChangelogBehindTheOffset(t *testing.T) {
	t.Parallel()
	play(t, setting{}, func(s *scene) {
		ctx := context.Background()
		other := s.c.NewClient(kgo.TransactionalID("holder"), kgo.TransactionTimeout(10*time.Minute), kgo.RecordPartitioner(kgo.ManualPartitioner()))
		if err := other.BeginTransaction(); err != nil {
			s.t.Fatal(err)
		}
		if err := other.ProduceSync(ctx, &kgo.Record{Topic: balancesLog, Key: []byte("k"), Value: make([]byte, 8)}).FirstErr(); err != nil {
			s.t.Fatal(err)
		}
		s.send(account("n", "k", "add 1"))
		s.c.AwaitCommitted("events", 4)
		s.c.Settle()
		s.a.Kill(100)
		s.a.LoseDisk()
		s.a.Start()
		s.c.Until("the restore to begin", func() bool { return s.a.Steps(string(step.ListEnds)) == 2 })
		s.c.Pass(time.Minute)
		info, committed := s.c.Broker().PartitionInfo(balancesLog, 0), s.c.Commits("commands")[0]
		if committed.Offset != 4 || info.LastStableOffset >= info.HighWatermark-1 || s.a.Steps(string(step.Start)) != 1 || s.a.Steps(string(step.RestoreDone)) != 1 {
			s.t.Fatalf("offset %d, log %+v, %d starts: nothing had to be waited for, or nobody did", committed.Offset, info, s.a.Steps(string(step.Start)))
		}
		if err := other.EndTransaction(ctx, kgo.TryAbort); err != nil {
			s.t.Fatal(err)
		}
		s.goesOn("after")
		s.ranOnce("m0", "m1", "m2", "n", "after")
	})
}

// A start that does not fit what is stored is refused with the difference: on the old disk by the fingerprint there, on an empty
// one by that in the committed offsets. Nothing is processed.
func TestR9AnotherTopologyIsRefused(t *testing.T) {
	t.Parallel()
	other := newLedger(ledgerOptions{window: 7 * 24 * time.Hour})
	o := setting{cluster: streamtest.ClusterOptions{Configure: func(process string, cfg *oncemill.Config) {
		if process == "changed" {
			cfg.Topology = other.topo
		}
	}}}
	play(t, o, func(s *scene) {
		s.stop(s.a)
		s.send(account("n", "k", "add 1"))
		before := s.c.Commits("commands")[0]
		changed := s.c.Start("changed")
		err := changed.Wait()
		if problem.CodeOf(err) != problem.FingerprintChanged || !strings.Contains(err.Error(), `sub-topology "commands"`) {
			s.t.Fatalf("Run returned %v", err)
		}
		if after := s.c.Commits("commands")[0]; after != before || other.runs("n") != 0 {
			s.t.Fatalf("offsets %+v, before %+v; n ran %d times", after, before, other.runs("n"))
		}
		s.a.Start()
		s.verified()
		s.ranOnce("m0", "m1", "m2", "n")
	})
}

// A failure that was decided is an outcome: its marker and its dead letter are committed with the position, or none of them. Stop
// and retry in place leave no marker.
func TestR10OutcomesLeaveMarkers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		policy  processor.Policy
		outcome dedup.Outcome // 0 for none
		letters int
	}{
		{"dead letter", processor.DeadLetter(), dedup.DeadLettered, 1},
		{"skip", processor.Skip(), dedup.Skipped, 0},
		{"delayed retry", processor.DelayedRetry(processor.Skip(), time.Hour), dedup.Parked, 0},
		{"retry in place, then dead letter", processor.RetryInPlace(processor.DeadLetter(), time.Second), dedup.DeadLettered, 1},
		{"stop", processor.Stop(), 0, 0},
		{"retry in place, then stop", processor.RetryInPlace(processor.Stop(), time.Second), 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			play(t, setting{ledger: ledgerOptions{process: c.policy}}, func(s *scene) {
				decided := func() (outcome dedup.Outcome) {
					for _, m := range s.c.Markers() {
						if m.Offset == 3 {
							outcome = m.Outcome
						}
					}
					return outcome
				}
				want := func(outcome dedup.Outcome, letters int, position int64) {
					s.t.Helper()
					got, lying, at := decided(), len(s.c.Committed(ledgerLetters)), s.c.Commits("commands")[0].Offset
					if got != outcome || lying != letters || at != position || len(s.c.Committed("events")) != 3 {
						s.t.Fatalf("marker %v, %d dead letters, position %d; want %v, %d, %d", got, lying, at, outcome, letters, position)
					}
				}
				if c.outcome == 0 {
					s.send(account("n", "k", "fail"))
					if err := s.a.Wait(); problem.CodeOf(err) != problem.HandlerFailed {
						s.t.Fatalf("Run returned %v", err)
					}
					want(0, 0, 3)
					return
				}
				crash := s.a.CrashAt(string(step.EndTxn), 1, 100)
				s.send(account("n", "k", "fail"))
				crash.Await()
				want(0, 0, 3)
				s.a.Start()
				s.c.Settle()
				want(c.outcome, c.letters, 4)
				runs := s.runs("n")
				s.send(account("n", "k", "fail")) // a copy adds nothing
				s.c.Settle()
				want(c.outcome, c.letters, 5)
				s.wantRunsOf(s.t, "n", runs)
				s.c.CheckState()
			})
		})
	}
}

// An output's id follows from application, scope, id of the message, node and number; that of a timer from store, key, name and
// number of the firing. A re-run gives the same; what came with the input does not pass through.
func TestR12OutputIDs(t *testing.T) {
	t.Parallel()
	play(t, setting{}, func(s *scene) {
		crash := s.a.CrashAt(string(step.EndTxn), 1, 0)
		s.send(account("n", "k", "remind later 60").With(record.HeaderID, strings.Repeat("0", 32)).With(record.HeaderCause, "elsewhere/0@1").
			With(record.HeaderReplay, "7"))
		crash.Await()
		aborted := s.c.Uncommitted("events")[3]
		s.a.Start()
		out := s.c.AwaitCommitted("events", 5)
		message := dedup.CauseOfMessage("ledger", "commands", "", []byte("n"))
		timer := dedup.CauseOfTimer("ledger", "balances", []byte("k"), "later", 1)
		for i, want := range [][16]byte{message.OutputID(dedup.SlotOf("events", 0)), timer.OutputID(dedup.SlotOf("events", 0))} {
			r := out[3+i]
			if id := streamtest.Header(r, record.HeaderID); id != hex.EncodeToString(want[:]) {
				s.t.Fatalf("output %q has the id %s, want %x", r.Value, id, want)
			}
		}
		n := out[3]
		if streamtest.Header(n, record.HeaderCause) != "commands/0@3" || streamtest.Header(n, record.HeaderReplay) != "" {
			s.t.Fatalf("headers %v", n.Headers)
		}
		if id := streamtest.Header(aborted, record.HeaderID); aborted.Offset == n.Offset || id != streamtest.Header(n, record.HeaderID) {
			s.t.Fatalf("the aborted run gave the id %s, at %d", id, aborted.Offset)
		}
		s.wantRunsOf(s.t, "n", 2)
		s.c.Settle()
		s.c.CheckState()
	})
}
