package streamtest_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/internal/step"
	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/streamtest"
	"github.com/oncemill/oncemill/topology"
)

// A restore is interrupted after a chunk was written. The chunk says "written now", although it lies before tombstones that are
// already old. When the next start comes 20 h later, they are gone, the chunk counts as younger than 24 h, and a deleted key is
// back for ever.
func TestADeletedKeyDoesNotRiseFromAnInterruptedRestore(t *testing.T) {
	t.Parallel()
	h := &hoard{topo: topology.New("hoard"), store: statestore.KeyValue("values", serde.String(), serde.Bytes())}
	in := topology.Source(h.topo, "in", "in", serde.String(), serde.Bytes())
	topology.Process(h.topo, "keep", in, func(ctx *processor.Context[string, []byte], r record.Record[string, []byte]) error {
		if string(r.Value) == "delete" {
			return h.store.Delete(ctx, r.Key)
		}
		return h.store.Put(ctx, r.Key, r.Value)
	}, topology.Uses(h.store))
	o := streamtest.ClusterOptions{Topology: h.topo, Configure: configure(func(cfg *oncemill.Config) { cfg.MemoryBudget = 16 << 20 })}
	streamtest.Simulate(t, o, func(t *testing.T, c *streamtest.Cluster) {
		const n, size = 400, 64 << 10
		a := c.Start("a")
		c.AwaitTasks(1)
		// 200 s in the place of 24 h: kfake compacts by itself after some minutes, and then moves the start of the log, which Kafka does not.
		retention := "200000"
		client := c.NewClient()
		if _, err := kadm.NewClient(client).AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "delete.retention.ms", Value: &retention}}, "hoard-values-changelog"); err != nil {
			t.Fatal(err)
		}
		c.Produce("in", streamtest.Bytes([]byte("first"), []byte("x"))) // stays: kfake moves the start of a log whose first batch is compacted
		c.Settle()
		c.Produce("in", streamtest.Bytes([]byte("k000"), []byte("x")))
		c.Settle()
		if err := a.Stop(); err != nil { // its state, with k000, is on its disk
			t.Fatal(err)
		}
		b := c.Start("b")
		value := make([]byte, size)
		for i := range n {
			value[i%size]++
			c.Produce("in", streamtest.Bytes(fmt.Appendf(nil, "m%03d", i), value))
		}
		c.Settle()
		c.Produce("in", streamtest.Bytes([]byte("k000"), []byte("delete")))
		c.Settle()
		b.Kill(100)
		b.LoseDisk()
		c.Pass(150 * time.Second)
		// kfake moves the start of a compacted log, Kafka does not: so compaction runs once, at the end.
		if !hasTombstone(c, "hoard-values-changelog") {
			t.Fatal("the tombstone is gone too early: the test shows nothing")
		}
		frozen := a.FreezeAt(string(step.Ingest), 1)
		a.Start()
		frozen.Await()
		frozen.Thaw()
		crash := a.CrashAt(string(step.Ingest), 1, 100)
		crash.Await() // the second chunk: the first one is on the disk
		c.Pass(150 * time.Second)
		c.Broker().Compact() // 300 s after the deletion
		a.Start()
		c.AwaitTasks(1)
		t.Logf("%+v, %d drops", a.Tasks()[0], a.Steps(string(step.Drop)))
		for _, e := range streamtest.FreshEntries(c, h.store) {
			if e.Key == "k000" {
				t.Fatal("the log still has k000: the test shows nothing")
			}
		}
		if err := a.Stop(); err != nil {
			t.Fatal(err)
		}
		c.CheckState()
	})
}

func hasTombstone(c *streamtest.Cluster, topic string) bool {
	for _, r := range c.Committed(topic) {
		if r.Value == nil {
			return true
		}
	}
	return false
}

// The old owner deletes expired markers from the changelog (it does so up to 30 s after the commit that made them superfluous)
// between the new owner's ListOffsets and its first Fetch.
func TestRestoreWhileTheOldOwnerCutsTheMarkers(t *testing.T) {
	t.Parallel()
	const markersLog = "ledger-commands-markers-changelog"
	l := newLedger(ledgerOptions{})
	l.simulate(t, streamtest.ClusterOptions{}, func(t *testing.T, c *streamtest.Cluster) {
		a := c.Start("a")
		c.Produce("commands", adds("m", "k", 3)...)
		c.AwaitCommitted("events", 3)
		c.Settle()
		a.Kill(100)
		a.LoseDisk()
		slowFetches(c)
		f := c.Broker().Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: markersLog, Err: kerr.NotLeaderForPartition, Count: -1})
		frozen := a.FreezeAt(string(step.RestoreChunk), 1)
		a.Start()
		frozen.Await()
		if err := c.Broker().DeleteRecords(markersLog, 0, 1); err != nil {
			t.Fatal(err)
		}
		f.Remove()
		frozen.Thaw()
		c.Pass(10 * time.Second)
		c.AwaitTasks(1)
	})
}

// The previous owner deletes expired markers after the restore has listed the starts of the changelogs.
func TestRestoreAfterMarkersWereCutSinceItsBegin(t *testing.T) {
	t.Parallel()
	l := newLedger(ledgerOptions{})
	l.simulate(t, streamtest.ClusterOptions{}, func(t *testing.T, c *streamtest.Cluster) {
		a := c.Start("a")
		for i := range 5 {
			c.Produce("commands", account(fmt.Sprint("m", i), "k", "add 1"))
			c.AwaitCommitted("events", i+1)
			c.Pass(window)
		}
		a.Kill(100)
		a.LoseDisk()
		log := c.Broker().PartitionInfo("ledger-commands-markers-changelog", 0)
		cut := a.CallAt(string(step.ListEnds), 1, func() {})
		var once atomic.Bool
		watchEach(c, func(*kmsg.FetchRequest) {
			if cut.Reached() && once.CompareAndSwap(false, true) {
				c.Broker().SleepControl(func() {
					if err := c.Broker().DeleteRecords("ledger-commands-markers-changelog", 0, log.LogStartOffset+1); err != nil {
						t.Error(err)
					}
				})
			}
		})
		a.Start()
		c.Pass(time.Minute)
		if !once.Load() {
			t.Fatal("nothing was deleted")
		}
		if !a.Running() {
			t.Fatalf("the process has ended: %v", a.Wait())
		}
		c.Produce("commands", account("after", "k", "add 1"))
		c.AwaitCommitted("events", 6)
	})
}

// Several buckets are live: the changelog of the markers is cut below the oldest of them, no further.
func TestMarkersOfEveryLiveBucketSurviveTheCut(t *testing.T) {
	t.Parallel()
	play(t, setting{}, func(s *scene) {
		for _, id := range []string{"a", "b", "c"} {
			s.c.Pass(window / 4)
			s.goesOn(id)
		}
		s.c.Pass(2 * time.Minute) // cleanUpInterval, a few times
		s.a.Kill(100)
		s.a.LoseDisk()
		s.a.Start()
		s.c.AwaitTasks(1)
		s.goesOn("a", "b", "c", "d") // duplicates, but for the last
		s.c.Pass(2 * time.Minute)    // cut by what was restored
		s.a.Kill(100)
		s.a.LoseDisk()
		s.a.Start()
		s.c.AwaitTasks(1)
		s.goesOn("m0", "a", "b", "c", "d", "e")
	})
}

// The oldest live bucket begins behind expired ones: its first marker stays.
func TestMarkersAreCutBelowTheOldestLiveOne(t *testing.T) {
	t.Parallel()
	play(t, setting{}, func(s *scene) {
		s.c.Pass(2 * window)
		s.send(account("n", "k", "add 1"))
		s.c.Settle()
		s.c.Pass(2 * time.Minute)
		if start := s.c.Broker().PartitionInfo("ledger-commands-markers-changelog", 0).LogStartOffset; start == 0 {
			s.t.Fatal("nothing was cut")
		}
		s.a.Kill(100)
		s.a.LoseDisk()
		s.a.Start()
		s.c.AwaitTasks(1)
		s.send(account("n", "k", "add 1"), account("o", "k", "add 1"))
		s.c.AwaitCommitted("events", 5)
		s.c.Settle()
		s.ranOnce("n", "o")
	})
}

// Somebody deletes records of a changelog of state while it is restored: that is no cut of expired markers.
func TestStateIsDeletedFromAChangelogDuringItsRestore(t *testing.T) {
	t.Parallel()
	play(t, setting{}, func(s *scene) {
		s.send(account("x", "other", "add 1"), account("y", "k", "add 1"))
		s.verified()
		s.a.Kill(100)
		s.a.LoseDisk()
		before := s.a.Steps(string(step.ListEnds))
		f := s.c.Broker().Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: balancesLog, Err: kerr.NotLeaderForPartition, Count: -1})
		s.a.Start()
		s.c.Until("the ends to be listed", func() bool { return s.a.Steps(string(step.ListEnds)) > before && f.Hits() > 0 })
		info := s.c.Broker().PartitionInfo(balancesLog, 0)
		if err := s.c.Broker().DeleteRecords(balancesLog, 0, info.HighWatermark-1); err != nil {
			s.t.Fatal(err)
		}
		f.Remove()
		s.c.Pass(time.Minute)
		if s.a.Running() {
			s.t.Fatalf("serves %v with balances %v", s.a.Tasks(), streamtest.FreshEntries(s.c, s.balances))
		}
		s.wantRefused(problem.RestoreFailed, "")
	})
}
