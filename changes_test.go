package oncemill_test

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/oncemill/oncemill/internal/embedded"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/topology"
)

// stateless counts nothing.
func stateless(app string) *topology.Topology {
	t := topology.New(app)
	in := topology.Source(t, "words", "words", serde.String(), serde.String())
	topology.Sink(t, "counted", topology.Process(t, "count", in, pass), "counted", serde.String(), serde.String())
	return t
}

// A store that was renamed would begin empty, and the old one would be forgotten: the start is refused, and nothing is made for
// the new name.
func TestStateDirectoryOfAnotherTopologyIsRefusedWithTheDifference(t *testing.T) {
	b, cfg := stateOf(t)
	for name, c := range map[string]struct {
		topo  *topology.Topology
		words []string
	}{
		"store renamed": {countingInto("owner", "sums"), []string{"1 changes", `store "counts"`, "sums", `Config.AcceptChanges drop-store:counts`}},
		"no store":      {stateless("owner"), []string{`store "counts"`, `Config.AcceptChanges drop-store:counts`}},
	} {
		t.Run(name, func(t *testing.T) {
			changed := cfg
			changed.Topology = c.topo
			refuseUntouched(t, b, changed, problem.FingerprintChanged, append(c.words, "not fit what is stored")...)
		})
	}
	countWords(t, b, cfg, 1)
	wantTotals(t, b, "key-0 3", "key-1 2", "key-2 1")
}

// The removal of a store is accepted with the word of the refusal. The store that comes back later is empty.
func TestStoreIsDroppedOnPurposeAndComesBackEmpty(t *testing.T) {
	b, cfg := stateOf(t)
	other := cfg
	other.Topology, other.AcceptChanges = countingInto("owner", "sums"), []string{"drop-store:counts"}
	b.Cluster().ControlKey(kmsg.DeleteTopics.Int16(), func(r kmsg.Request) (kmsg.Response, error, bool) { // once
		req := r.(*kmsg.DeleteTopicsRequest)
		resp := req.ResponseKind().(*kmsg.DeleteTopicsResponse)
		for _, asked := range req.Topics {
			topic := kmsg.NewDeleteTopicsResponseTopic()
			topic.Topic, topic.TopicID, topic.ErrorCode = asked.Topic, asked.TopicID, kerr.TopicDeletionDisabled.Code
			resp.Topics = append(resp.Topics, topic)
		}
		return resp, nil, true
	})
	refuse(t, other, problem.BrokersRefused, "owner-counts-changelog", "delete.topic.enable=true")
	countWords(t, b, other, 3)
	wantTotals(t, b, "key-0 1", "key-1 1", "key-2 1")
	if b.Cluster().TopicInfo("owner-counts-changelog") != nil {
		t.Error("the changelog of the dropped store is still there")
	}
	cfg.AcceptChanges = []string{"drop-store:sums"}
	countWords(t, b, cfg, 3)
	wantTotals(t, b, "key-0 1", "key-1 1", "key-2 1")
}

// A store that is added begins empty beside the others, which keep what they have.
func TestStoreThatIsAddedLeavesTheOthersAlone(t *testing.T) {
	b, cfg := stateOf(t)
	cfg.Topology = countingInto("owner", "counts", "sums")
	countWords(t, b, cfg, 3)
	wantTotals(t, b, "key-0 3", "key-1 3", "key-2 2")
}

// An application without state gets its first store, where its offsets are.
func TestFirstStoreOfAStatelessApp(t *testing.T) {
	b := startBroker(t, map[string]int{"words": 2, "counted": 2})
	cfg := configOf(t, b, stateless("grown"))
	countWords(t, b, cfg, 4)
	cfg.Topology = countingInto("grown", "counts")
	countWords(t, b, cfg, 3)
	whileReady(t, cfg, nil)
	wantTotals(t, b, "key-0 1", "key-1 1", "key-2 1")
}

// What the changelogs were written by is told by the committed offsets, when the directory is new. The refusal holds at every
// try: the directory does not remember a topology that was refused.
func TestChangelogsOfAnotherTopologyAreRefusedInANewDirectory(t *testing.T) {
	b, cfg := stateOf(t)
	cfg.StateDir = filepath.Join(t.TempDir(), "new")
	fresh := cfg
	cfg.Topology = countingInto("owner", "counts", "sums")
	for range 2 {
		refuseStart(t, b, cfg, problem.FingerprintChanged, `sub-topology "words": its changelogs were written by topology`,
			"start once with the old state directory", `set Config.AcceptChanges to "changelogs:words"`)
	}
	accepting := cfg
	accepting.AcceptChanges = []string{"changelogs:words"}
	countWords(t, b, accepting, 1)
	countWords(t, b, cfg, 1) // accepted once
	wantTotals(t, b, "key-0 4", "key-1 2", "key-2 1")
	fresh.StateDir = filepath.Join(t.TempDir(), "newer")
	refuseStart(t, b, fresh, problem.FingerprintChanged, "changelogs:words")
}

// The same topology in a new directory is no news: everything comes from the changelogs.
func TestNewDirectoryOfTheSameTopologyIsRestored(t *testing.T) {
	b, cfg := stateOf(t)
	cfg.StateDir = filepath.Join(t.TempDir(), "new")
	countWords(t, b, cfg, 3)
	wantTotals(t, b, "key-0 3", "key-1 3", "key-2 2")
}

func wantTotals(t *testing.T, b *embedded.Broker, want ...string) {
	t.Helper()
	if got := totals(t, b); !slices.Equal(got, want) {
		t.Errorf("totals %v, want %v", got, want)
	}
}

// totals are lastTotals as text, sorted.
func totals(t *testing.T, b *embedded.Broker) (list []string) {
	t.Helper()
	for key, n := range lastTotals(t, b) {
		list = append(list, fmt.Sprintf("%s %d", key, n))
	}
	slices.Sort(list)
	return list
}

// lastTotals are the last counts that were put out, by key.
func lastTotals(t *testing.T, b *embedded.Broker) map[string]int64 {
	t.Helper()
	last := map[string]int64{}
	eachTotal(t, b, func(r *kgo.Record) {
		if n, err := serde.Int64().Decode(r.Value); err == nil {
			last[string(r.Key)] = n
		}
	})
	return last
}

// eachTotal calls fn with every committed total.
func eachTotal(t *testing.T, b *embedded.Broker, fn func(r *kgo.Record)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ends, err := kadm.NewClient(clientOf(t, b)).ListEndOffsets(ctx, "counted")
	if err != nil {
		t.Fatal(err)
	}
	left := map[int32]int64{}
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			left[o.Partition] = o.Offset
		}
	})
	// With the ends of transactions, since the last record of a partition is one.
	client := clientOf(t, b, kgo.ConsumeTopics("counted"), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	for len(left) > 0 && ctx.Err() == nil {
		client.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
			if r.Offset+1 >= left[r.Partition] {
				delete(left, r.Partition)
			}
			if !r.Attrs.IsControl() {
				fn(r)
			}
		})
	}
}
