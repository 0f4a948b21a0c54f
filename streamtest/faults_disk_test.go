package streamtest_test

import (
	"fmt"
	"reflect"
	"syscall"
	"testing"
	"time"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/internal/step"
	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/streamtest"
)

// often makes checkpoints after every second.
func often(cfg *oncemill.Config) { cfg.CheckpointInterval = time.Second }

// Everything comes back from the changelogs, markers included: a duplicate is still a duplicate.
func TestS44DiskLost(t *testing.T) {
	t.Parallel()
	l := newLedger(ledgerOptions{})
	l.simulate(t, streamtest.ClusterOptions{}, func(t *testing.T, c *streamtest.Cluster) {
		a := c.Start("a")
		c.Produce("commands", adds("m", "k", 5)...)
		c.AwaitCommitted("events", 5)
		c.Settle()
		before := c.State()
		a.RestartWithoutDisk()
		c.AwaitTasks(1)
		after := c.State()
		if fmt.Sprint(before) != fmt.Sprint(after) {
			t.Fatalf("state %v, before %v", after, before)
		}
		c.CheckState()
		c.Produce("commands", append(adds("m", "k", 5), account("n", "k", "add 1"))...)
		c.AwaitCommitted("events", 6)
		l.verify(t, c, l.judge(c))
		for i := range 5 {
			l.wantRunsOf(t, fmt.Sprint("m", i), 1)
		}
	})
}

// Markers lie in buckets, and their changelog is append-only: an evicted marker does not come back with the changelog, and a live one does.
func TestR8EvictedMarkerAfterDiskLoss(t *testing.T) {
	t.Parallel()
	for _, lose := range []bool{false, true} {
		t.Run(fmt.Sprintf("disk lost %v", lose), func(t *testing.T) {
			l := newLedger(ledgerOptions{window: time.Minute})
			l.simulate(t, streamtest.ClusterOptions{}, func(t *testing.T, c *streamtest.Cluster) {
				now := time.Now()
				a := c.Start("a")
				c.Produce("commands", account("old", "k", "add 1").At(now.Add(-2*time.Hour)))
				c.AwaitCommitted("events", 1)
				c.Settle()
				c.Produce("commands", account("middle", "k", "add 1").At(now.Add(-time.Hour)))
				c.AwaitCommitted("events", 2)
				c.Settle()
				c.Produce("commands", account("new", "k", "add 1").At(now))
				c.AwaitCommitted("events", 3)
				c.Settle()
				const markers = "ledger-commands-markers-changelog"
				for _, r := range c.Uncommitted(markers) {
					if r.Value == nil {
						t.Fatalf("%s is a tombstone: expired buckets are cut off", r.Position)
					}
				}
				c.Until("expired markers to be cut off, and no other", func() bool {
					return c.Broker().PartitionInfo(markers, 0).LogStartOffset > 0 && len(c.Committed(markers)) == 1
				})
				if lose {
					a.RestartWithoutDisk()
				} else {
					a.Restart(0)
				}
				c.AwaitTasks(1)
				if m := c.Markers(); len(m) != 1 {
					t.Fatalf("%d markers are left, want one", len(m))
				}
				c.CheckState()
				c.Produce("commands", account("new", "k", "add 1").At(now), account("old", "k", "add 1").At(now), account("old", "k", "add 1").At(now))
				c.AwaitCommitted("events", 4)
				c.Settle()
				c.CheckState()
				l.wantRunsOf(t, "new", 1)
				l.wantRunsOf(t, "old", 2)
				if got := streamtest.FreshEntries(c, l.balances); len(got) != 1 || got[0].Value != 4 {
					t.Fatalf("balances %v", got)
				}
			})
		})
	}
}

// TestDamagedTable: a checksum error costs the local state, never a record.
func TestDamagedTable(t *testing.T) {
	t.Parallel()
	l := newLedger(ledgerOptions{})
	l.simulate(t, streamtest.ClusterOptions{Partitions: 3}, func(t *testing.T, c *streamtest.Cluster) {
		a := c.Start("a")
		for i := range 30 {
			c.Produce("commands", account(fmt.Sprint("m", i), fmt.Sprint("k", i%7), "add 1"))
		}
		c.AwaitCommitted("events", 30)
		c.Settle()
		if err := a.Stop(); err != nil {
			t.Fatal(err)
		}
		if a.DamageDisk() == 0 {
			t.Fatal("there is no table to damage")
		}
		a.Start()
		c.Produce("commands", account("m3", "k3", "add 1"), account("after", "k3", "add 1"))
		c.AwaitCommitted("events", 31)
		l.verify(t, c, l.judge(c))
	})
}

// TestDamagedManifest: a store that cannot even be opened costs the local state too: all of it comes back from the changelogs, byte by
// byte. With a store that is whole nothing is restored.
func TestDamagedManifest(t *testing.T) {
	t.Parallel()
	for _, damaged := range []bool{false, true} {
		t.Run(fmt.Sprintf("damaged %v", damaged), func(t *testing.T) {
			const partitions = 3
			l := newLedger(ledgerOptions{})
			l.simulate(t, streamtest.ClusterOptions{Partitions: partitions}, func(t *testing.T, c *streamtest.Cluster) {
				a := c.Start("a")
				for i := range 30 {
					c.Produce("commands", account(fmt.Sprint("m", i), fmt.Sprint("k", i%7), "add 1"))
				}
				c.AwaitCommitted("events", 30)
				c.Settle()
				c.CheckState()
				before := c.State()
				if err := a.Stop(); err != nil {
					t.Fatal(err)
				}
				if damaged && a.DamageManifest() == 0 {
					t.Fatal("there is no MANIFEST to damage")
				}
				a.Start()
				c.AwaitTasks(partitions)
				c.Settle()
				var restored int64
				for _, task := range a.Tasks() {
					restored += task.Restored
				}
				if damaged && restored < int64(len(before)) || !damaged && restored > 0 {
					t.Errorf("%d records were restored, of a state of %d entries", restored, len(before))
				}
				if after := c.State(); len(before) == 0 || !reflect.DeepEqual(before, after) {
					t.Errorf("state %v, before %v", after, before)
				}
				c.CheckState() // the disk too
				c.Produce("commands", account("m3", "k3", "add 1"), account("after", "k3", "add 1"))
				c.AwaitCommitted("events", 31)
				l.verify(t, c, l.judge(c))
			})
		})
	}
}

// TestDiskFull: a checkpoint that cannot be written is tried again; meanwhile the work goes on in memory, and a crash replays.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	for _, crash := range []bool{false, true} {
		t.Run(fmt.Sprintf("crash %v", crash), func(t *testing.T) {
			l := newLedger(ledgerOptions{})
			l.simulate(t, streamtest.ClusterOptions{Configure: configure(often)}, func(t *testing.T, c *streamtest.Cluster) {
				a := c.Start("a")
				c.Produce("commands", adds("before", "k", 3)...)
				c.AwaitCommitted("events", 3)
				c.Pass(5 * time.Second)
				a.FailWrites(syscall.ENOSPC)
				c.Produce("commands", adds("during", "k", 3)...)
				c.AwaitCommitted("events", 6)
				frozen := a.Steps(string(step.Freeze))
				c.Pass(time.Minute)
				if crash {
					a.Restart(50) // onto another disk, which has room
				} else {
					a.FailWrites(nil)
				}
				c.Produce("commands", adds("after", "k", 3)...)
				c.AwaitCommitted("events", 9)
				c.Pass(time.Minute)
				if a.Steps(string(step.Freeze)) <= frozen {
					t.Fatal("there was no checkpoint after the disk had room again")
				}
				l.verify(t, c, l.judge(c))
			})
		})
	}
}

// TestCrashInACheckpoint: before the freeze, while it is being written, before the reader is renewed.
func TestCrashInACheckpoint(t *testing.T) {
	t.Parallel()
	for _, at := range []step.Step{step.Freeze, step.Ingest, step.Renew} {
		for _, lost := range losses {
			t.Run(fmt.Sprintf("%s/%d%%", at, lost), func(t *testing.T) {
				l := newLedger(ledgerOptions{})
				l.simulate(t, streamtest.ClusterOptions{Configure: configure(often)}, func(t *testing.T, c *streamtest.Cluster) {
					a := c.Start("a")
					c.Produce("commands", adds("before", "k", 3)...)
					c.AwaitCommitted("events", 3)
					c.Pass(10 * time.Second)
					crash := a.CrashAt(string(at), 1, lost)
					c.Produce("commands", adds("m", "k", 3)...)
					crash.Await()
					a.Start()
					c.Produce("commands", account("after", "k", "add 1"))
					c.AwaitCommitted("events", 7)
					l.verify(t, c, l.judge(c))
					for i := range 3 {
						l.wantRunsOf(t, fmt.Sprint("m", i), 1)
					}
				})
			})
		}
	}
}

// TestLongAbsence: tombstones are gone when the process comes back, so its old keys must not rise again. Their age alone says so: the
// logs go on from where the state ends. (Compaction in kfake moves the start of a log to its first record, which compaction in Kafka
// does not do; the first record of each log here is one that stays.)
func TestLongAbsence(t *testing.T) {
	t.Parallel()
	l := newLedger(ledgerOptions{window: 7 * 24 * time.Hour})
	l.simulate(t, streamtest.ClusterOptions{}, func(t *testing.T, c *streamtest.Cluster) {
		const taskLog = "ledger-commands-task-changelog"
		a := c.Start("a")
		c.AwaitTasks(1)
		stays := statestore.EncodeCheckpoint(nil, &statestore.Checkpoint{StreamTime: statestore.MinStreamTime})
		c.Produce(taskLog, streamtest.Bytes([]byte("stays"), stays))
		c.Produce("commands", account("m0", "stays", "add 1"))
		c.Settle()
		c.Produce("commands", account("m1", "gone", "add 1"))
		c.AwaitCommitted("events", 2)
		c.Settle()
		if err := a.Stop(); err != nil {
			t.Fatal(err)
		}
		b := c.Start("b")
		c.Produce("commands", account("m2", "gone", "drop"), account("m3", "other", "add 1"))
		c.AwaitCommitted("events", 3)
		c.Settle()
		b.Kill(0)
		b.LoseDisk()
		c.Pass(30 * time.Hour)
		c.Broker().Compact()
		for _, r := range c.Committed(balancesLog) {
			if string(r.Key) == "gone" {
				t.Fatalf("the log still has %q at %d: this shows nothing", r.Key, r.Offset)
			}
		}
		for _, log := range []string{balancesLog, taskLog} {
			if info := c.Broker().PartitionInfo(log, 0); info.LogStartOffset != 0 {
				t.Fatalf("%s begins at %d: that alone would say that the state is too old", log, info.LogStartOffset)
			}
		}
		a.Start()
		c.Produce("commands", account("m4", "stays", "add 1"))
		c.AwaitCommitted("events", 4)
		if a.Steps(string(step.Drop)) != 1 {
			t.Fatalf("the old state was dropped %d times", a.Steps(string(step.Drop)))
		}
		l.verify(t, c, l.judge(c))
	})
}

// TestLongAbsenceOfAnIdleTask: a position that equals the end of the log is fresh, whatever its age.
func TestLongAbsenceOfAnIdleTask(t *testing.T) {
	t.Parallel()
	l := newLedger(ledgerOptions{window: 7 * 24 * time.Hour})
	l.simulate(t, streamtest.ClusterOptions{}, func(t *testing.T, c *streamtest.Cluster) {
		a := c.Start("a")
		c.Produce("commands", adds("m", "k", 3)...)
		c.AwaitCommitted("events", 3)
		c.Settle()
		if err := a.Stop(); err != nil {
			t.Fatal(err)
		}
		c.Pass(30 * time.Hour)
		a.Start()
		c.Produce("commands", account("after", "k", "add 1"))
		c.AwaitCommitted("events", 4)
		l.verify(t, c, l.judge(c))
		if task := a.Tasks()[0]; a.Steps(string(step.Drop)) != 0 || task.Restored != 0 {
			t.Fatalf("%d drops, %d records restored; the state was fresh", a.Steps(string(step.Drop)), task.Restored)
		}
	})
}
