package streamtest_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/internal/task"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/streamtest"
)

// A changelog that was deleted and created again is another one, however long it is: the state that was built from the old one is
// dropped, and what the new one holds counts.
func TestRestoreOfARecreatedChangelog(t *testing.T) {
	t.Parallel()
	play(t, setting{}, func(s *scene) {
		s.stop(s.a)
		before := s.c.Broker().PartitionInfo(balancesLog, 0).HighWatermark
		s.c.Recreate(balancesLog)
		for range before {
			s.c.Produce(balancesLog, streamtest.Encode(serde.String(), serde.Int64(), "k", 41))
		}
		s.a.Start()
		s.send(account("after", "k", "add 1"))
		events := s.c.AwaitCommitted("events", 4)
		if s.wantDropped(); string(events[3].Value) != "42" {
			t.Fatalf("the balance is %s, want 42: the new log has 41", events[3].Value)
		}
		s.c.CheckState()
	})
}

// The changelog of one store has lost its end, and that of the task, which has the counter, has not: the state is refused, not served
// without what was lost.
func TestChangelogOfOneStoreThatLostItsEndIsRefused(t *testing.T) {
	t.Parallel()
	play(t, setting{}, func(s *scene) {
		s.stop(s.a)
		s.c.Recreate(balancesLog)
		s.a.Start()
		s.wantRefused(problem.StateBehind, balancesLog+"/0 ends at 0")
	})
}

// State ahead of what the group has committed is dropped, and nothing is processed from it: the offsets were set back with their metadata,
// or the group has lost its last commits.
func TestStateAheadOfTheCommittedOffsetsIsDropped(t *testing.T) {
	t.Parallel()
	playStopped(t, setting{}, func(s *scene, admin *kadm.Client) {
		fetched, err := admin.FetchOffsets(s.t.Context(), "ledger")
		if err != nil {
			s.t.Fatal(err)
		}
		earlier := fetched.Offsets()
		for topic, partitions := range earlier {
			for p, o := range partitions {
				m, ours, err := task.DecodeMetadata(o.Metadata)
				if err != nil || !ours {
					s.t.Fatalf("%s/%d: %q, %v", topic, p, o.Metadata, err)
				}
				m.N--
				o.Metadata = m.Encode()
				partitions[p] = o
			}
		}
		if _, err := admin.CommitOffsets(s.t.Context(), "ledger", earlier); err != nil {
			s.t.Fatal(err)
		}
	}, func(s *scene) {
		s.wantRefused(problem.InvariantBroken, "committed is")
		s.wantDropped()
		s.ranOnce("m0", "m1", "m2")
	})
}

// Records of a repartition topic are deleted when they were processed, and not one earlier.
func TestOnlyProcessedRecordsAreDeleted(t *testing.T) {
	t.Parallel()
	s := newSales()
	streamtest.Simulate(t, streamtest.ClusterOptions{Topology: s.topo}, func(t *testing.T, c *streamtest.Cluster) {
		var mu sync.Mutex
		cuts := map[int32]int64{}
		watchEach(c, func(req *kmsg.DeleteRecordsRequest) {
			mu.Lock()
			defer mu.Unlock()
			for _, topic := range req.Topics {
				for _, p := range topic.Partitions {
					if topic.Topic == byProductTopic {
						cuts[p.Partition] = max(cuts[p.Partition], p.Offset)
					}
				}
			}
		})
		c.Start("a")
		for i := range 6 {
			c.Produce("lines", line(fmt.Sprint("line", i), "customer", "apple pear"))
			c.Settle()
		}
		c.Pass(2 * time.Minute)
		mu.Lock()
		defer mu.Unlock()
		if len(cuts) == 0 {
			t.Fatal("nothing was deleted")
		}
		for p, at := range c.Commits(byProductTopic) {
			if cut, ok := cuts[p]; ok && cut != at.Offset {
				t.Errorf("partition %d: deleted up to %d, processed up to %d", p, cut, at.Offset)
			}
		}
	})
}
