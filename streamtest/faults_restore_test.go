package streamtest_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/internal/step"
	"github.com/oncemill/oncemill/streamtest"
)

const balancesLog = "ledger-balances-changelog"

func TestRestoreOfAnEmptyChangelog(t *testing.T) {
	l := newLedger(ledgerOptions{})
	l.simulate(t, streamtest.ClusterOptions{}, func(t *testing.T, c *streamtest.Cluster) {
		a := c.Start("a")
		c.AwaitTasks(1)
		if task := a.Tasks()[0]; task.N != 0 || task.Restored != 0 || a.Steps(string(step.RestoreChunk)) != 0 {
			t.Fatalf("%+v after %d chunks", task, a.Steps(string(step.RestoreChunk)))
		}
		a.Restart(0)
		c.Produce("commands", account("m", "k", "add 1"))
		c.AwaitCommitted("events", 1)
		l.verify(t, c, l.judge(c))
	})
}

func TestRestoreOfAStateThatHasCaughtUp(t *testing.T) {
	l := newLedger(ledgerOptions{})
	l.simulate(t, streamtest.ClusterOptions{}, func(t *testing.T, c *streamtest.Cluster) {
		a := c.Start("a")
		c.Produce("commands", adds("m", "k", 3)...)
		c.AwaitCommitted("events", 3)
		c.Settle()
		n := c.Transactions("commands_0")
		if err := a.Stop(); err != nil {
			t.Fatal(err)
		}
		a.Start()
		c.AwaitTasks(1)
		if task := a.Tasks()[0]; task.Restored != 0 || task.N != n {
			t.Fatalf("%+v, want transaction %d and nothing restored", task, n)
		}
		c.Produce("commands", account("after", "k", "add 1"))
		c.AwaitCommitted("events", 4)
		l.verify(t, c, l.judge(c))
	})
}

// TestRestoreOfATailThatIsACommitMarker: a crash right after a commit; all of the log is replayed, to its last record.
func TestRestoreOfATailThatIsACommitMarker(t *testing.T) {
	l := newLedger(ledgerOptions{})
	l.simulate(t, streamtest.ClusterOptions{}, func(t *testing.T, c *streamtest.Cluster) {
		a := c.Start("a")
		c.Produce("commands", adds("m", "k", 3)...)
		c.AwaitCommitted("events", 3)
		c.Settle()
		log := c.Committed(balancesLog)
		if end := c.Broker().PartitionInfo(balancesLog, 0).HighWatermark; end != log[len(log)-1].Offset+2 {
			t.Fatalf("the log ends at %d, its last record is at %d: that is no marker", end, log[len(log)-1].Offset)
		}
		a.Restart(100)
		c.AwaitTasks(1)
		if a.Tasks()[0].Restored == 0 {
			t.Fatal("nothing was restored")
		}
		c.Produce("commands", account("after", "k", "add 1"))
		c.AwaitCommitted("events", 4)
		l.verify(t, c, l.judge(c))
	})
}

// TestRestoreOfATailThatIsAnAbortedBatch: a crash with an open transaction, which the next start aborts.
func TestRestoreOfATailThatIsAnAbortedBatch(t *testing.T) {
	for _, lost := range losses {
		t.Run(fmt.Sprintf("%d%%", lost), func(t *testing.T) {
			l := newLedger(ledgerOptions{})
			l.simulate(t, streamtest.ClusterOptions{}, func(t *testing.T, c *streamtest.Cluster) {
				a := c.Start("a")
				c.Produce("commands", adds("m", "k", 3)...)
				c.AwaitCommitted("events", 3)
				c.Settle()
				crash := a.CrashAt(string(step.EndTxn), 1, lost)
				c.Produce("commands", account("n", "k", "add 1"))
				crash.Await()
				frozen := a.FreezeAt(string(step.RestoreDone), 1) // before anything is committed behind the aborted batch
				a.Start()
				frozen.Await()
				all, committed := c.Uncommitted(balancesLog), c.Committed(balancesLog)
				if len(all) <= len(committed) || all[len(all)-1].Offset < committed[len(committed)-1].Offset {
					t.Fatalf("%d records, %d of them committed: the tail is no aborted batch", len(all), len(committed))
				}
				frozen.Thaw()
				c.AwaitCommitted("events", 4)
				l.verify(t, c, l.judge(c))
			})
		})
	}
}

// TestRestoreWaitsForAnOpenTransactionAtTheTail: that of a process that is cut off. Its offsets may be in the transaction
// (then the stable OffsetFetch waits) or not yet (then the reader does).
func TestRestoreWaitsForAnOpenTransactionAtTheTail(t *testing.T) {
	for _, at := range []step.Step{step.CommitOffsets, step.EndTxn} {
		t.Run(string(at), func(t *testing.T) {
			l := newLedger(ledgerOptions{})
			o := streamtest.ClusterOptions{Configure: configure(func(cfg *oncemill.Config) {
				cfg.SessionTimeout, cfg.TransactionTimeout = 10*time.Second, 2*time.Minute
			})}
			l.simulate(t, o, func(t *testing.T, c *streamtest.Cluster) {
				a := c.Start("a")
				c.Produce("commands", adds("m", "k", 3)...)
				c.AwaitCommitted("events", 3)
				c.Settle()
				frozen := a.FreezeAt(string(at), 1)
				began := time.Now()
				c.Produce("commands", account("n", "k", "add 1"))
				frozen.Await()
				a.Isolate()
				b := c.Start("b")
				c.Until("b to restore", func() bool { return b.Steps(string(step.FetchOffsets)) > 0 })
				c.Pass(30 * time.Second)
				if info := c.Broker().PartitionInfo(balancesLog, 0); info.LastStableOffset == info.HighWatermark || b.Steps(string(step.Start)) != 0 {
					t.Fatalf("the transaction is not open (%+v), or b has started", info)
				}
				c.AwaitCommitted("events", 4)
				if waited := time.Since(began); waited < 2*time.Minute {
					t.Fatalf("b did not wait for the open transaction: %v", waited)
				}
				l.verify(t, c, l.judge(c))
				l.wantRunsOf(t, "n", 2)
				a.Heal()
				frozen.Thaw()
				c.Pass(time.Minute)
				l.verify(t, c, l.judge(c))
			})
		})
	}
}

// TestRestoreOfALogThatBeginsBeyondThePosition: the records between are gone, so the old state has nothing to go on from.
func TestRestoreOfALogThatBeginsBeyondThePosition(t *testing.T) {
	l := newLedger(ledgerOptions{})
	l.simulate(t, streamtest.ClusterOptions{}, func(t *testing.T, c *streamtest.Cluster) {
		a := c.Start("a")
		c.Produce("commands", account("m0", "k", "add 1"), account("m1", "gone", "add 1"))
		c.AwaitCommitted("events", 2)
		c.Settle()
		if err := a.Stop(); err != nil {
			t.Fatal(err)
		}
		b := c.Start("b")
		c.Produce("commands", account("m2", "gone", "drop"))
		c.Settle()
		cut := c.Broker().PartitionInfo(balancesLog, 0).HighWatermark
		c.Produce("commands", account("m3", "k", "add 1"))
		c.Settle()
		b.Kill(0)
		b.LoseDisk()
		if err := c.Broker().DeleteRecords(balancesLog, 0, cut); err != nil {
			t.Fatal(err)
		}
		a.Start()
		c.Produce("commands", account("m4", "k", "add 1"))
		c.AwaitCommitted("events", 4)
		l.verify(t, c, l.judge(c))
		if a.Steps(string(step.Drop)) != 1 {
			t.Fatalf("%d drops", a.Steps(string(step.Drop)))
		}
	})
}

// TestRestoreOfADivergedLog: an election lost records that the local state includes; the leader epochs tell.
func TestRestoreOfADivergedLog(t *testing.T) {
	l := newLedger(ledgerOptions{})
	l.simulate(t, streamtest.ClusterOptions{}, func(t *testing.T, c *streamtest.Cluster) {
		a := c.Start("a")
		c.Produce("commands", adds("m", "k", 3)...)
		c.AwaitCommitted("events", 3)
		c.Settle()
		if err := a.Stop(); err != nil {
			t.Fatal(err)
		}
		asked := 0
		c.Broker().ControlKey(int16(kmsg.OffsetForLeaderEpoch), func(req kmsg.Request) (kmsg.Response, error, bool) {
			epochs := req.(*kmsg.OffsetForLeaderEpochRequest)
			if asked++; epochs.Topics[0].Topic == "commands" {
				return nil, nil, false
			}
			resp := epochs.ResponseKind().(*kmsg.OffsetForLeaderEpochResponse)
			for _, topic := range epochs.Topics {
				out := kmsg.NewOffsetForLeaderEpochResponseTopic()
				out.Topic = topic.Topic
				for _, p := range topic.Partitions {
					part := kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
					part.Partition, part.LeaderEpoch, part.EndOffset = p.Partition, p.LeaderEpoch, 0
					out.Partitions = append(out.Partitions, part)
				}
				resp.Topics = append(resp.Topics, out)
			}
			return resp, nil, true
		})
		a.Start()
		c.Produce("commands", account("after", "k", "add 1"))
		c.AwaitCommitted("events", 4)
		l.verify(t, c, l.judge(c))
		if a.Steps(string(step.Drop)) != 1 || asked == 0 {
			t.Fatalf("%d drops, %d questions", a.Steps(string(step.Drop)), asked)
		}
	})
}

// TestRestoreOfALogThatLostItsRecords: the committed counter says more than the changelog has.
func TestRestoreOfALogThatLostItsRecords(t *testing.T) {
	for _, lose := range []bool{false, true} {
		t.Run(fmt.Sprintf("disk lost %v", lose), func(t *testing.T) {
			l := newLedger(ledgerOptions{})
			l.simulate(t, streamtest.ClusterOptions{}, func(t *testing.T, c *streamtest.Cluster) {
				a := c.Start("a")
				c.Produce("commands", adds("m", "k", 3)...)
				c.AwaitCommitted("events", 3)
				c.Settle()
				if err := a.Stop(); err != nil {
					t.Fatal(err)
				}
				if lose {
					a.LoseDisk()
				}
				c.Recreate("ledger-commands-task-changelog")
				a.Start()
				wantRefused(t, a, problem.StateBehind, "committed is")
			})
		})
	}
}

// TestKillDuringARestore: before each step of it.
func TestKillDuringARestore(t *testing.T) {
	for _, at := range []step.Step{step.Fence, step.FetchOffsets, step.ListEnds, step.RestoreChunk, step.RestoreDone, step.Start} {
		for _, lost := range losses {
			t.Run(fmt.Sprintf("%s/%d%%", at, lost), func(t *testing.T) {
				l := newLedger(ledgerOptions{})
				l.simulate(t, streamtest.ClusterOptions{}, func(t *testing.T, c *streamtest.Cluster) {
					a := c.Start("a")
					c.Produce("commands", adds("m", "k", 3)...)
					c.AwaitCommitted("events", 3)
					c.Settle()
					a.Kill(lost)
					crash := a.CrashAt(string(at), 1, lost)
					a.Start()
					crash.Await()
					a.Start()
					c.Produce("commands", account("after", "k", "add 1"))
					c.AwaitCommitted("events", 4)
					l.verify(t, c, l.judge(c))
				})
			})
		}
	}
}
