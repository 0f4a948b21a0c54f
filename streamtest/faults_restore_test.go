package streamtest_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/internal/step"
	"github.com/oncemill/oncemill/streamtest"
)

const balancesLog = "ledger-balances-changelog"

func TestRestoreOfAnEmptyChangelog(t *testing.T) {
	t.Parallel()
	l := newLedger(ledgerOptions{})
	l.simulate(t, streamtest.ClusterOptions{}, func(t *testing.T, c *streamtest.Cluster) {
		a := c.Start("a")
		c.AwaitTasks(1)
		if task := a.Tasks()[0]; task.N != 0 || task.Restored != 0 || a.Steps(string(step.RestoreChunk)) != 0 {
			t.Fatalf("%+v after %d chunks", task, a.Steps(string(step.RestoreChunk)))
		}
		a.Restart(0)
		c.Produce("commands", account("m", "k", "add 1"))
		l.verify(t, c, l.judge(c))
	})
}

func TestRestoreOfAStateThatHasCaughtUp(t *testing.T) {
	t.Parallel()
	play(t, setting{}, func(s *scene) {
		n := s.c.Transactions("commands_0")
		s.stop(s.a)
		s.a.Start()
		s.c.AwaitTasks(1)
		if task := s.a.Tasks()[0]; task.Restored != 0 || task.N != n {
			s.t.Fatalf("%+v, want transaction %d and nothing restored", task, n)
		}
		s.goesOn("after")
		s.ranOnce("m0", "m1", "m2", "after")
	})
}

// TestRestoreOfATailThatIsACommitMarker: a crash right after a commit; all of the log is replayed, to its last record.
func TestRestoreOfATailThatIsACommitMarker(t *testing.T) {
	t.Parallel()
	play(t, setting{}, func(s *scene) {
		log := s.c.Committed(balancesLog)
		if end := s.c.Broker().PartitionInfo(balancesLog, 0).HighWatermark; end != log[len(log)-1].Offset+2 {
			s.t.Fatalf("the log ends at %d, its last record is at %d: that is no marker", end, log[len(log)-1].Offset)
		}
		s.a.Restart(100)
		s.c.AwaitTasks(1)
		if s.a.Tasks()[0].Restored == 0 {
			s.t.Fatal("nothing was restored")
		}
		s.goesOn("after")
		s.ranOnce("m0", "m1", "m2", "after")
	})
}

// TestRestoreOfATailThatIsAnAbortedBatch: a crash with an open transaction, which the next start aborts.
func TestRestoreOfATailThatIsAnAbortedBatch(t *testing.T) {
	t.Parallel()
	for _, lost := range losses {
		t.Run(fmt.Sprintf("%d%%", lost), func(t *testing.T) {
			play(t, setting{}, func(s *scene) {
				crash := s.a.CrashAt(string(step.EndTxn), 1, lost)
				s.send(account("n", "k", "add 1"))
				crash.Await()
				frozen := s.a.FreezeAt(string(step.RestoreDone), 1) // before anything is committed behind the aborted batch
				s.a.Start()
				frozen.Await()
				all, committed := s.c.Uncommitted(balancesLog), s.c.Committed(balancesLog)
				if len(all) <= len(committed) || all[len(all)-1].Offset < committed[len(committed)-1].Offset {
					s.t.Fatalf("%d records, %d of them committed: the tail is no aborted batch", len(all), len(committed))
				}
				frozen.Thaw()
				s.verified()
				s.wantRunsOf(s.t, "n", 2)
			})
		})
	}
}

// patient keeps an open transaction of a process that is cut off for longer than its place in the group.
func patient(cfg *oncemill.Config) {
	cfg.SessionTimeout, cfg.TransactionTimeout = 10*time.Second, 2*time.Minute
}

// TestRestoreWaitsForAnOpenTransactionAtTheTail: that of a process that is cut off. Its offsets may be in the transaction
// (then the stable OffsetFetch waits) or not yet (then the reader does).
func TestRestoreWaitsForAnOpenTransactionAtTheTail(t *testing.T) {
	t.Parallel()
	for _, at := range []step.Step{step.CommitOffsets, step.EndTxn} {
		t.Run(string(at), func(t *testing.T) {
			play(t, with(patient), func(s *scene) {
				frozen := s.a.FreezeAt(string(at), 1)
				began := time.Now()
				s.send(account("n", "k", "add 1"))
				frozen.Await()
				s.a.Isolate()
				b := s.c.Start("b")
				s.c.Until("b to restore", func() bool { return b.Steps(string(step.FetchOffsets)) > 0 })
				s.c.Pass(30 * time.Second)
				if info := s.c.Broker().PartitionInfo(balancesLog, 0); info.LastStableOffset == info.HighWatermark || b.Steps(string(step.Start)) != 0 {
					s.t.Fatalf("the transaction is not open (%+v), or b has started", info)
				}
				s.verified()
				if waited := time.Since(began); waited < 2*time.Minute {
					s.t.Fatalf("b did not wait for the open transaction: %v", waited)
				}
				s.wantRunsOf(s.t, "n", 2)
				s.a.Heal()
				frozen.Thaw()
				s.c.Pass(time.Minute)
				s.verified()
			})
		})
	}
}

// outdated stops a, lets b go on and end without its disk, and cuts off what b wrote first, a deletion among it: what a has can
// neither be continued nor be kept.
func (s *scene) outdated() {
	s.send(account("gone0", "gone", "add 1"))
	s.verified()
	s.stop(s.a)
	b := s.c.Start("b")
	s.send(account("gone1", "gone", "drop"))
	s.verified()
	cut := s.c.Broker().PartitionInfo(balancesLog, 0).HighWatermark
	s.goesOn("b0")
	b.Kill(0)
	b.LoseDisk()
	if err := s.c.Broker().DeleteRecords(balancesLog, 0, cut); err != nil {
		s.t.Fatal(err)
	}
}

// wantDropped demands that a dropped its state, once.
func (s *scene) wantDropped() {
	s.t.Helper()
	if n := s.a.Steps(string(step.Drop)); n != 1 {
		s.t.Fatalf("%d drops", n)
	}
}

// TestRestoreOfALogThatBeginsBeyondThePosition: the records between are gone, so the old state has nothing to go on from.
func TestRestoreOfALogThatBeginsBeyondThePosition(t *testing.T) {
	t.Parallel()
	play(t, setting{}, func(s *scene) {
		s.outdated()
		s.a.Start()
		s.goesOn("after")
		s.wantDropped()
	})
}

// TestKillBetweenTheDropAndTheRestore: the prefix is empty, or restored up to some record; the next start goes on from there.
func TestKillBetweenTheDropAndTheRestore(t *testing.T) {
	t.Parallel()
	for _, at := range []step.Step{step.RestoreChunk, step.RestoreDone, step.Start} {
		for _, lost := range losses {
			t.Run(fmt.Sprintf("%s/%d%%", at, lost), func(t *testing.T) {
				play(t, setting{}, func(s *scene) {
					s.outdated()
					crash := s.a.CrashAt(string(at), 1, lost)
					s.a.Start()
					crash.Await()
					s.wantDropped()
					s.a.Start()
					s.c.AwaitTasks(1)
					if s.a.Tasks()[0].Restored == 0 {
						s.t.Fatal("nothing was restored")
					}
					s.goesOn("after")
				})
			})
		}
	}
}

// endEpochs has the leaders answer that all epochs of the asked changelogs ended at the begin of the log: to those who ask for all of a
// task's at once, as a restore does of what was committed, or to those who ask for one, as it does of the local state.
func (s *scene) endEpochs(all bool) (asked *int) {
	asked = new(int)
	onEach(s.c, func(epochs *kmsg.OffsetForLeaderEpochRequest) kmsg.Response {
		if epochs.Topics[0].Topic == "commands" || (len(epochs.Topics) > 1) != all {
			return nil
		}
		*asked++
		return epochsEnd(epochs, 0)
	})
	return asked
}

// TestRestoreOfADivergedLog: an election lost records that the local state includes; the leader epochs tell.
func TestRestoreOfADivergedLog(t *testing.T) {
	t.Parallel()
	play(t, setting{}, func(s *scene) {
		s.stop(s.a)
		asked := s.endEpochs(false)
		s.a.Start()
		s.goesOn("after")
		if s.wantDropped(); *asked == 0 {
			s.t.Fatal("nobody asked for the end of an epoch")
		}
		s.ranOnce("m0", "m1", "m2", "after")
	})
}

// TestRestoreOfALogThatLostItsEndAndGrewBeyondIt: what was committed last was lost by an election, and the log is as long as before: where the
// last record was there is one that was aborted, or a marker. The local state stays where it is: it may be the only copy.
func TestRestoreOfALogThatLostItsEndAndGrewBeyondIt(t *testing.T) {
	t.Parallel()
	for _, marker := range []int64{0, 1} {
		for _, lose := range []bool{false, true} {
			t.Run(fmt.Sprintf("marker %d, disk lost %v", marker, lose), func(t *testing.T) {
				play(t, setting{}, func(s *scene) {
					s.goesOn("x1")
					s.goesOn("x2")
					s.stop(s.a)
					if lose {
						s.a.LoseDisk()
					}
					log := s.c.Committed(balancesLog)
					s.c.Recreate(balancesLog)
					s.abort(balancesLog, log[len(log)-1].Offset+1-marker)
					s.endEpochs(true)
					dropped := s.a.Steps(string(step.Drop))
					s.a.Start()
					s.wantRefused(problem.StateBehind, "lost its end")
					if n := s.a.Steps(string(step.Drop)); n != dropped {
						s.t.Errorf("the local state was dropped %d times", n-dropped)
					}
					s.ranOnce("m0", "m1", "m2", "x1", "x2")
				})
			})
		}
	}
}

// abort writes records to a topic in a transaction that is aborted.
func (s *scene) abort(topic string, records int64) {
	s.t.Helper()
	client := s.c.NewClient(kgo.TransactionalID("aborts"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err := client.BeginTransaction(); err != nil {
		s.t.Fatal(err)
	}
	for range records {
		if err := client.ProduceSync(s.t.Context(), &kgo.Record{Topic: topic, Key: []byte("k"), Value: []byte("v")}).FirstErr(); err != nil {
			s.t.Fatal(err)
		}
	}
	if err := client.EndTransaction(s.t.Context(), kgo.TryAbort); err != nil {
		s.t.Fatal(err)
	}
}

// TestALeaderEpochThatTheClientDoesNotKnow: the leader epoch of the changelogs rises, the leader stays, and nothing tells the client. What is
// committed names the older epoch, and nothing is lost.
func TestALeaderEpochThatTheClientDoesNotKnow(t *testing.T) {
	t.Parallel()
	for _, lose := range []bool{false, true} {
		t.Run(fmt.Sprintf("disk lost %v", lose), func(t *testing.T) {
			play(t, setting{}, func(s *scene) {
				for _, log := range []string{balancesLog, "ledger-commands-task-changelog"} {
					if err := s.c.Broker().MoveTopicPartition(log, 0, s.c.Broker().LeaderFor(log, 0)); err != nil {
						s.t.Fatal(err)
					}
				}
				s.goesOn("x1")
				s.goesOn("x2")
				s.stop(s.a)
				if lose {
					s.a.LoseDisk()
				}
				s.a.Start()
				s.goesOn("x3")
				s.ranOnce("m0", "m1", "m2", "x1", "x2", "x3")
			})
		})
	}
}

// TestAChangelogThatLosesItsEndUnderARunningTask: the next record goes to where committed ones were. It is not committed: the state could
// not be restored any more. Nor may the transaction be aborted and another one follow, whose records would lie beyond the gap.
func TestAChangelogThatLosesItsEndUnderARunningTask(t *testing.T) {
	t.Parallel()
	for _, fails := range []bool{false, true} {
		t.Run(fmt.Sprintf("another partition fails %v", fails), func(t *testing.T) {
			play(t, setting{}, func(s *scene) {
				n, id := s.c.Transactions("commands_0"), s.c.Broker().TopicInfo(balancesLog).TopicID
				done := false
				onEach(s.c, func(p *kmsg.ProduceRequest) kmsg.Response {
					balances := func(t kmsg.ProduceRequestTopic) bool { return t.Topic == balancesLog || t.TopicID == id }
					if done || p.TransactionID == nil || !slices.ContainsFunc(p.Topics, balances) {
						return nil
					}
					done = true
					return produced(p, func(topic kmsg.ProduceRequestTopic, out *kmsg.ProduceResponseTopicPartition) {
						switch out.BaseOffset = 100; {
						case balances(topic):
							out.BaseOffset = 0
						case fails:
							out.ErrorCode = kerr.TransactionAbortable.Code
						}
					})
				})
				s.send(account("after", "k", "add 1"))
				s.wantRefused(problem.StateBehind, "lost its end")
				if now := s.c.Transactions("commands_0"); now != n {
					s.t.Errorf("transaction %d was committed after %d", now, n)
				}
			})
		})
	}
}

// TestRestoreOfALogThatLostItsRecords: the committed counter says more than the changelog has.
func TestRestoreOfALogThatLostItsRecords(t *testing.T) {
	t.Parallel()
	for _, lose := range []bool{false, true} {
		t.Run(fmt.Sprintf("disk lost %v", lose), func(t *testing.T) {
			play(t, setting{}, func(s *scene) {
				s.stop(s.a)
				if lose {
					s.a.LoseDisk()
				}
				s.c.Recreate("ledger-commands-task-changelog")
				s.a.Start()
				s.wantRefused(problem.StateBehind, "committed is")
				s.ranOnce("m0", "m1", "m2")
			})
		})
	}
}

// TestKillDuringARestore: before each step of it.
func TestKillDuringARestore(t *testing.T) {
	t.Parallel()
	for _, at := range []step.Step{step.Fence, step.FetchOffsets, step.ListEnds, step.RestoreChunk, step.RestoreDone, step.Start} {
		for _, lost := range losses {
			t.Run(fmt.Sprintf("%s/%d%%", at, lost), func(t *testing.T) {
				play(t, setting{}, func(s *scene) {
					s.a.Kill(lost)
					crash := s.a.CrashAt(string(at), 1, lost)
					s.a.Start()
					crash.Await()
					s.a.Start()
					s.goesOn("after")
					s.ranOnce("m0", "m1", "m2", "after")
				})
			})
		}
	}
}
