package streamtest_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/internal/step"
	"github.com/oncemill/oncemill/streamtest"
)

// A process stands still inside its commit, past its session; another one takes the task and commits; the first one goes on. Its
// transaction is never seen, and its state equals the other's in the end.
func TestS40Zombie(t *testing.T) {
	t.Parallel()
	for _, at := range []step.Step{step.Process, step.Seal, step.Flush, step.Reserve, step.CommitOffsets, step.EndTxn} {
		t.Run(string(at), func(t *testing.T) {
			play(t, setting{}, func(s *scene) {
				frozen := s.a.FreezeAt(string(at), 1)
				s.send(account("n", "k", "add 1"))
				frozen.Await()
				s.a.Isolate()
				b := s.c.Start("b")
				s.goesOn("o0", "o1")
				if b.Steps(string(step.Start)) != 1 {
					s.t.Fatal("b has not taken the task over")
				}
				n := s.c.Transactions("commands_0")
				s.a.Heal()
				frozen.Thaw()
				s.c.Pass(2 * time.Minute)
				if got := s.c.Transactions("commands_0"); got != n {
					s.t.Fatalf("transaction %d after the zombie came back, %d before", got, n)
				}
				s.verified()
				s.goesOn("p0", "p1")
				s.ranOnce("m0", "o0", "p0")
				s.wantRunsOf(s.t, "n", 2)
			})
		})
	}
}

// It stands still between the answer and the local apply. What it applies late is what is committed.
func TestS40ZombieAfterItsCommit(t *testing.T) {
	t.Parallel()
	play(t, setting{}, func(s *scene) {
		frozen := s.a.FreezeAt(string(step.Confirmed), 1)
		s.send(account("n", "k", "add 1"))
		frozen.Await()
		s.a.Isolate()
		s.c.Start("b")
		s.goesOn("o0", "o1")
		s.a.Heal()
		frozen.Thaw()
		s.c.Pass(2 * time.Minute)
		s.goesOn("p0", "p1")
		s.ranOnce("m0", "n", "o0", "p0")
	})
}

// steady produces for a while, so that something is always under way.
func steady(c *streamtest.Cluster, prefix string, n int, pause time.Duration) {
	for i := range n {
		c.Produce("commands", account(fmt.Sprint(prefix, i), fmt.Sprint("k", i%5), "add 1"))
		c.Pass(pause)
	}
}

// TestSecondInstanceJoinsAndLeaves: in the middle of the work; nothing runs twice.
func TestSecondInstanceJoinsAndLeaves(t *testing.T) {
	t.Parallel()
	l := newLedger(ledgerOptions{})
	l.simulate(t, streamtest.ClusterOptions{Partitions: 4}, func(t *testing.T, c *streamtest.Cluster) {
		a := c.Start("a")
		steady(c, "m", 20, 70*time.Millisecond)
		b := c.Start("b")
		steady(c, "n", 100, 130*time.Millisecond)
		if len(a.Tasks()) != 2 || len(b.Tasks()) != 2 {
			t.Fatalf("a has %v, b has %v", a.Tasks(), b.Tasks())
		}
		if err := b.Stop(); err != nil {
			t.Fatal(err)
		}
		steady(c, "o", 100, 730*time.Millisecond) // beyond the session of b
		c.AwaitCommitted("events", 220)
		l.verify(t, c, l.judge(c))
		for id := range l.judge(c).ids {
			l.wantRunsOf(t, id, 1)
		}
		if len(a.Tasks()) != 4 || a.Steps(string(step.Revoke)) == 0 {
			t.Fatalf("a has %v after %d revocations", a.Tasks(), a.Steps(string(step.Revoke)))
		}
	})
}

func TestS43CleanMoveThenADuplicate(t *testing.T) {
	t.Parallel()
	play(t, setting{}, func(s *scene) {
		s.stop(s.a)
		b := s.c.Start("b")
		s.send(adds("m", "k", 3)...)
		s.goesOn("n")
		s.ranOnce("m0", "m1", "m2", "n")
		if b.Steps(string(step.Start)) != 1 {
			s.t.Fatal("the task did not move")
		}
	})
}

// atRevocation is a cluster of two partitions whose commits are far apart, and process a which has processed m and n, one in
// each, and not committed.
func atRevocation(t *testing.T, before, act func(s *scene)) {
	l := newLedger(ledgerOptions{})
	o := streamtest.ClusterOptions{Partitions: 2, Configure: configure(func(cfg *oncemill.Config) {
		cfg.CommitInterval, cfg.TransactionTimeout = 30*time.Second, time.Minute
	})}
	l.simulate(t, o, func(t *testing.T, c *streamtest.Cluster) {
		s := &scene{ledger: l, t: t, c: c, a: c.Start("a")}
		c.AwaitTasks(2)
		before(s)
		s.send(account("m", "k0", "add 1"), account("n", "k1", "add 1"))
		c.Until("a to process", func() bool { return l.runs("m")+l.runs("n") == 2 })
		act(s)
		c.AwaitTasks(2)
		s.send(account("o", "k0", "add 1"), account("p", "k1", "add 1"))
		s.verified()
		s.ranOnce("m", "n", "o", "p")
	})
}

// A waiting rebalance makes the commit due, and the task goes only after it.
func TestR11RevokeWhileATransactionIsOpen(t *testing.T) {
	t.Parallel()
	var revoke *streamtest.StepHook
	atRevocation(t, func(s *scene) {
		revoke = s.a.CallAt(string(step.Revoke), 1, func() {
			if s.a.Steps(string(step.Applied)) == 0 {
				s.t.Error("the task is revoked before the open transaction is committed")
			}
		})
	}, func(s *scene) {
		began := time.Now()
		s.c.Start("b")
		revoke.Await()
		if took := time.Since(began); took > 20*time.Second {
			s.t.Fatalf("the revocation came after %v: it waited for the commit interval", took)
		}
	})
}

// While the owner is held before its commit, its revocation is not answered, so nobody else is given the task, however long it
// takes.
func TestR11TaskMovesOnlyWhenItsOwnerHasLetGo(t *testing.T) {
	t.Parallel()
	atRevocation(t, func(*scene) {}, func(s *scene) {
		held := s.a.FreezeAt(string(step.Seal), 1)
		b := s.c.Start("b")
		held.Await()
		s.c.Pass(10 * time.Second)
		if tasks := b.Tasks(); len(tasks) != 0 {
			s.t.Errorf("b was given %v while a had not committed", tasks)
		}
		held.Thaw()
		s.c.Until("b to have a task", func() bool { return len(b.Tasks()) == 1 })
	})
}

// TestRollingRestart: static members come back within their session; the group never rebalances.
func TestRollingRestart(t *testing.T) {
	t.Parallel()
	l := newLedger(ledgerOptions{})
	l.simulate(t, streamtest.ClusterOptions{Partitions: 6}, func(t *testing.T, c *streamtest.Cluster) {
		names := []string{"a", "b", "c"}
		c.Start(names...)
		c.AwaitTasks(6)
		steady(c, "m", 20, 100*time.Millisecond)
		epoch := c.Broker().GroupInfo("ledger").Epoch
		for i, name := range names {
			if err := c.Process(name).Stop(); err != nil {
				t.Fatal(err)
			}
			steady(c, fmt.Sprint("r", i, "-"), 10, 500*time.Millisecond)
			c.Start(name)
			c.AwaitTasks(6)
		}
		c.Pass(time.Minute)
		if again := c.Broker().GroupInfo("ledger").Epoch; again != epoch {
			t.Fatalf("generation %d, %d before the restarts", again, epoch)
		}
		c.AwaitCommitted("events", 50)
		l.verify(t, c, l.judge(c))
		for id := range l.judge(c).ids {
			l.wantRunsOf(t, id, 1)
		}
	})
}

// TestStaticMemberThatDiesBeforeItJoinsAgain: the plan withholds a task of a member from its next owner until the member has revoked
// it and joined again. The member dies in between, and comes back within its session: the coordinator then hands it the assignment
// without the task and does not rebalance, so that nobody would run it.
func TestStaticMemberThatDiesBeforeItJoinsAgain(t *testing.T) {
	t.Parallel()
	for name, victims := range map[string][]string{"the leader": {"a"}, "another member": {"b"}, "both": {"a", "b"}} {
		for _, at := range []step.Step{step.Revoke, step.Revoke.After()} {
			t.Run(fmt.Sprint(name, "/", at), func(t *testing.T) {
				l := newLedger(ledgerOptions{})
				l.simulate(t, streamtest.ClusterOptions{Partitions: 6}, func(t *testing.T, c *streamtest.Cluster) {
					c.Start("a")
					c.AwaitTasks(6)
					c.Start("b")
					c.Until("b to have three tasks", func() bool { return len(c.Process("b").Tasks()) == 3 })
					steady(c, "m", 20, 100*time.Millisecond)
					var crashes []*streamtest.StepHook
					for _, victim := range victims {
						crashes = append(crashes, c.Process(victim).CrashAt(string(at), 1, 0))
					}
					c.Start("c")
					for _, crash := range crashes {
						crash.Await()
					}
					c.Pass(5 * time.Second) // the group is stable, and within the session
					epoch := c.Broker().GroupInfo("ledger").Epoch
					c.Start(victims...)
					c.Pass(10 * time.Second)
					for _, name := range []string{"a", "b", "c"} {
						if tasks := c.Process(name).Tasks(); len(tasks) != 2 {
							t.Errorf("%s has %v", name, tasks)
						}
					}
					c.Pass(time.Minute)
					// One more for each that asks, and one more if they ask one after the other.
					if more := int(c.Broker().GroupInfo("ledger").Epoch - epoch); more < 1 || more > 2*len(victims) {
						t.Errorf("%d rebalances after the restart", more)
					}
					steady(c, "n", 20, 100*time.Millisecond)
					l.verify(t, c, l.judge(c))
				})
			})
		}
	}
}

// TestWorkersOfOneProcessExchangeTasks: a worker is thrown out of the group by an operator; the other one of its process takes its
// tasks, with their state in memory, and gives them back.
func TestWorkersOfOneProcessExchangeTasks(t *testing.T) {
	t.Parallel()
	l := newLedger(ledgerOptions{})
	o := streamtest.ClusterOptions{Partitions: 4, Configure: configure(func(cfg *oncemill.Config) {
		cfg.Workers = 2
		often(cfg)
	})}
	l.simulate(t, o, func(t *testing.T, c *streamtest.Cluster) {
		a := c.Start("a")
		c.AwaitTasks(4)
		admin := kadm.NewClient(c.NewClient())
		for round := range 6 {
			steady(c, fmt.Sprint("r", round, "-"), 10, 70*time.Millisecond)
			_, err := admin.LeaveGroup(context.Background(), kadm.LeaveGroup("ledger").InstanceIDs(fmt.Sprint("a-", round%2)))
			if err != nil {
				t.Fatal(err)
			}
			steady(c, fmt.Sprint("s", round, "-"), 10, 170*time.Millisecond)
			c.Pass(20 * time.Second)
		}
		c.AwaitTasks(4)
		c.AwaitCommitted("events", 120)
		l.verify(t, c, l.judge(c))
		if starts := a.Steps(string(step.Start)); starts < 8 {
			t.Fatalf("tasks were started %d times: hardly any moved", starts)
		}
	})
}

// TestFrozenDeltaOfATaskThatMovesAwayComesBackAndIsDropped: the ingest of a checkpoint is held up; meanwhile its task goes, works
// elsewhere, and comes back to a disk that must be dropped. What lands late must not bring anything back.
func TestFrozenDeltaOfATaskThatMovesAwayComesBackAndIsDropped(t *testing.T) {
	t.Parallel()
	play(t, with(often), func(s *scene) {
		s.send(account("gone0", "gone", "add 1"))
		s.verified()
		frozen := s.a.FreezeAt(string(step.Ingest), 1)
		s.send(account("gone1", "gone", "add 1"))
		frozen.Await()
		s.verified()
		s.a.Isolate()
		b := s.c.Start("b")
		s.send(account("gone2", "gone", "drop"))
		s.goesOn("b0")
		cut := s.c.Broker().PartitionInfo(balancesLog, 0).HighWatermark
		s.goesOn("b1")
		b.Kill(0)
		b.LoseDisk()
		// The log no longer has what came between, so that a has to drop what it holds.
		if err := s.c.Broker().DeleteRecords(balancesLog, 0, cut); err != nil {
			s.t.Fatal(err)
		}
		s.a.Heal()
		s.c.Until("a to have the task again", func() bool { return s.a.Steps(string(step.Drop)) == 1 })
		s.c.Pass(10 * time.Second)
		frozen.Thaw() // the drop waits for the ingest that is under way
		s.goesOn("after")
		s.c.Pass(10 * time.Second)
		s.verified()
		s.a.Restart(100)
		s.goesOn("again")
		s.ranOnce("m0", "gone0", "gone1", "gone2", "b0", "b1", "after", "again")
	})
}

// TestLeadersAndCoordinatorsMove: under load, on three brokers.
func TestLeadersAndCoordinatorsMove(t *testing.T) {
	t.Parallel()
	l := newLedger(ledgerOptions{})
	l.simulate(t, streamtest.ClusterOptions{Brokers: 3, Partitions: 2}, func(t *testing.T, c *streamtest.Cluster) {
		c.Start("a")
		for i := range 10 {
			steady(c, fmt.Sprint("m", i, "-"), 5, 50*time.Millisecond)
			if c.MoveLeaders(); i%3 == 2 {
				c.MoveCoordinators()
			}
		}
		c.AwaitCommitted("events", 50)
		l.verify(t, c, l.judge(c))
	})
}

// TestLostAnswers: of each request of a commit, once as lost request and once as lost answer.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	for _, key := range []kmsg.Key{kmsg.Produce, kmsg.TxnOffsetCommit, kmsg.EndTxn, kmsg.Heartbeat, kmsg.Fetch, kmsg.InitProducerID, kmsg.OffsetFetch, kmsg.ListOffsets, kmsg.JoinGroup, kmsg.SyncGroup} {
		for _, request := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/request %v", key.Name(), request), func(t *testing.T) {
				l := newLedger(ledgerOptions{})
				l.simulate(t, streamtest.ClusterOptions{}, func(t *testing.T, c *streamtest.Cluster) {
					loss := c.Lose(streamtest.Loss{Key: key, Process: "a", Request: request, Times: 2})
					a := c.Start("a")
					steady(c, "m", 20, 300*time.Millisecond)
					c.AwaitCommitted("events", 20)
					if loss.Hits() != 2 {
						t.Fatalf("%d requests were struck", loss.Hits())
					}
					a.Restart(100)
					c.Produce("commands", account("after", "k0", "add 1"))
					c.AwaitCommitted("events", 21)
					l.verify(t, c, l.judge(c))
				})
			})
		}
	}
}
