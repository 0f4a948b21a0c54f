package streamtest_test

import (
	"fmt"
	"maps"
	"sync"
	"testing"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/internal/step"
	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/streamtest"
	"github.com/oncemill/oncemill/topology"
)

// hoard keeps every value that it is sent, large ones too, and confirms its key.
type hoard struct {
	topo  *topology.Topology
	store *statestore.KeyValueStore[string, []byte]
	mu    struct {
		sync.Mutex
		runs map[string]int
	}
}

func newHoard() *hoard {
	h := &hoard{topo: topology.New("hoard"), store: statestore.KeyValue("values", serde.String(), serde.Bytes())}
	h.mu.runs = map[string]int{}
	in := topology.Source(h.topo, "in", "in", serde.String(), serde.Bytes(),
		topology.Deduplicate(dedup.Config{ID: dedup.Header(idName), Window: window}))
	kept := topology.Process(h.topo, "keep", in, func(ctx *processor.Context[string, string], r record.Record[string, []byte]) error {
		h.mu.Lock()
		h.mu.runs[r.Key]++
		h.mu.Unlock()
		if err := h.store.Put(ctx, r.Key, r.Value); err != nil {
			return err
		}
		return ctx.Forward(record.New(r.Key, fmt.Sprint(len(r.Value))))
	}, topology.Uses(h.store))
	topology.Sink(h.topo, "out", kept, "out", serde.String(), serde.String())
	return h
}

const hoardBytes = 64 << 10

// simulate runs a test with the smallest memory budget that there is.
func (h *hoard) simulate(t *testing.T, test func(t *testing.T, c *streamtest.Cluster)) {
	t.Helper()
	o := streamtest.ClusterOptions{Topology: h.topo, Configure: configure(func(cfg *oncemill.Config) {
		cfg.MemoryBudget, cfg.CommitBytes = 16<<20, 1<<20
	})}
	streamtest.Simulate(t, o, test)
}

// send produces values from one number up to another, each with an id.
func (h *hoard) send(c *streamtest.Cluster, from, to int) {
	value := make([]byte, hoardBytes)
	for i := from; i < to; i++ {
		value[i%hoardBytes]++
		key := fmt.Sprintf("k%04d", i)
		c.Produce("in", streamtest.Bytes([]byte(key), value).With(idName, key))
	}
}

// sendOn is send to one partition.
func (h *hoard) sendOn(c *streamtest.Cluster, partition int32, from, to int) {
	value := make([]byte, hoardBytes)
	for i := from; i < to; i++ {
		value[i%hoardBytes]++
		key := fmt.Sprintf("k%04d", i)
		c.Produce("in", streamtest.Bytes([]byte(key), value).With(idName, key).On(partition))
	}
}

// verify demands n values: each confirmed once, kept, and seen by the handler.
func (h *hoard) verify(t *testing.T, c *streamtest.Cluster, n int) {
	t.Helper()
	c.Settle()
	confirmed, kept := map[string]int{}, map[string]int{}
	for _, r := range c.Committed("out") {
		confirmed[string(r.Key)]++
	}
	for _, e := range streamtest.FreshEntries(c, h.store) {
		kept[e.Key]++
	}
	if len(confirmed) != n || !maps.Equal(confirmed, kept) {
		t.Fatalf("%d keys are confirmed and %d kept, want each of %d once", len(confirmed), len(kept), n)
	}
	h.mu.Lock()
	seen := len(h.mu.runs)
	h.mu.Unlock()
	if markers := c.Markers(); len(markers) != n || seen != n {
		t.Fatalf("%d markers, %d keys seen by the handler, want %d", len(markers), seen, n)
	}
	c.CheckState()
}

// TestKillDuringARestoreThatWritesChunks: a state above the memory budget is written while it is restored, with its position;
// the next start goes on from there, and a half restored task is never served.
func TestKillDuringARestoreThatWritesChunks(t *testing.T) {
	t.Parallel()
	h := newHoard()
	h.simulate(t, func(t *testing.T, c *streamtest.Cluster) {
		const n = 400
		a := c.Start("a")
		h.send(c, 0, n)
		c.Settle()
		a.Kill(100)
		a.LoseDisk()
		frozen := a.FreezeAt(string(step.Ingest), 1)
		a.Start()
		frozen.Await()
		frozen.Thaw()
		crash := a.CrashAt(string(step.Ingest), 1, 100)
		crash.Await() // the second chunk: the first one is on the disk
		a.Start()
		c.AwaitTasks(1)
		records := int64(0)
		for _, log := range []string{"values", "in-task", "in-markers"} {
			records += int64(len(c.Committed("hoard-" + log + "-changelog")))
		}
		if task := a.Tasks()[0]; task.Restored == 0 || task.Restored >= records {
			t.Fatalf("%d of %d records were restored after the crash", task.Restored, records)
		}
		h.verify(t, c, n)
	})
}
