package oncemill_test

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/metrics"
	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/streamtest"
	"github.com/oncemill/oncemill/topology"
)

// heard is what a listener was told.
type heard struct {
	mu       sync.Mutex
	version  string
	nodes    map[string][]time.Duration
	ops      []string
	failures []metrics.Failure
	letters  []metrics.DeadLetter
	evicted  map[string]uint64
}

func (h *heard) listener() metrics.Listener {
	h.nodes, h.evicted = map[string][]time.Duration{}, map[string]uint64{}
	locked := func(fn func()) {
		h.mu.Lock()
		defer h.mu.Unlock()
		fn()
	}
	return metrics.Listener{
		AppStarted:   func(e metrics.AppStart) { locked(func() { h.version = e.Version }) },
		NodeTimed:    func(e metrics.NodeTiming) { locked(func() { h.nodes[e.Node] = append(h.nodes[e.Node], e.Duration) }) },
		StoreTimed:   func(e metrics.StoreTiming) { locked(func() { h.ops = append(h.ops, e.Store+" "+e.Op) }) },
		Failed:       func(e metrics.Failure) { locked(func() { h.failures = append(h.failures, e) }) },
		DeadLettered: func(e metrics.DeadLetter) { locked(func() { h.letters = append(h.letters, e) }) },
		TaskCommitted: func(e metrics.TaskCommit) {
			locked(func() {
				for _, s := range e.Evicted {
					h.evicted[s.Scope] += s.Count
				}
			})
		},
	}
}

// chain has two processors that take 3 ms and 5 ms for a word; the second one fails for the words "skip", "letter" and "stop".
func chain() *topology.Topology {
	counts := statestore.KeyValue("counts", serde.String(), serde.Int64())
	t := topology.New("chain")
	in := topology.Source(t, "words", "words", serde.String(), serde.String(),
		topology.Deduplicate(dedup.Config{ID: dedup.Header("id"), Window: time.Minute}))
	first := topology.Process(t, "first", in, func(ctx *processor.Context[string, string], r record.Record[string, string]) error {
		<-time.After(2 * time.Millisecond)
		if err := ctx.Forward(r); err != nil {
			return err
		}
		<-time.After(time.Millisecond)
		return nil
	})
	fails := func(name, word string, policy processor.Policy) {
		out := topology.Process(t, name, first, func(ctx *processor.Context[string, string], r record.Record[string, string]) error {
			<-time.After(5 * time.Millisecond)
			n, _, err := counts.Get(ctx, r.Key)
			if err != nil {
				return err
			}
			if err := counts.Put(ctx, r.Key, n+1); err != nil {
				return err
			}
			if r.Value == word {
				return errors.New(word)
			}
			return ctx.Forward(r)
		}, topology.Uses(counts), topology.OnFailure(policy))
		topology.Sink(t, name+"-out", out, "counted", serde.String(), serde.String())
	}
	fails("skipper", "skip", processor.Skip())
	fails("writer", "letter", processor.DeadLetter())
	fails("stopper", "stop", processor.Stop())
	return t
}

func TestListenersHearOfTimingsFailuresAndEvictions(t *testing.T) {
	h := &heard{}
	o := streamtest.ClusterOptions{Topology: chain(), Configure: func(_ string, cfg *oncemill.Config) { cfg.Listener = h.listener() }}
	streamtest.Simulate(t, o, func(t *testing.T, c *streamtest.Cluster) {
		a := c.Start("a")
		c.AwaitTasks(1)
		word := func(id, text string) streamtest.Message { return streamtest.Text("k", text).With("id", id) }
		c.Produce("words", word("1", "x"), word("2", "skip"), word("3", "letter"))
		c.AwaitCommitted("chain-dead-letters", 1)
		c.Pass(10 * time.Minute)
		c.Produce("words", word("4", "x"))
		c.AwaitCommitted("counted", 6)
		c.Produce("words", word("5", "stop"))
		if err := a.Wait(); err == nil {
			t.Fatal("it goes on after a stop")
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.version == "" {
			t.Error("no version")
		}
		if !slices.Equal(h.nodes["first"], []time.Duration{3 * time.Millisecond}) || !slices.Equal(h.nodes["writer"], []time.Duration{5 * time.Millisecond}) {
			t.Errorf("times of nodes, of the first record: %v", h.nodes)
		}
		if want := []string{"counts get", "counts put", "counts get", "counts put", "counts get", "counts put"}; !slices.Equal(h.ops, want) {
			t.Errorf("operations of the first record: %v", h.ops)
		}
		var what []string
		for _, f := range h.failures {
			what = append(what, f.Node+" "+f.Phase+" "+string(f.Policy)+" "+f.Place)
		}
		if want := []string{"skipper process skip words/0@1", "writer process dead_letter words/0@2", "stopper process stop words/0@4"}; !slices.Equal(what, want) {
			t.Errorf("failures %v", what)
		}
		if len(h.letters) != 1 || h.letters[0].Place != "words/0@2" {
			t.Errorf("dead letters %v", h.letters)
		}
		if h.evicted["words"] == 0 {
			t.Errorf("evicted buckets %v", h.evicted)
		}
	})
}
