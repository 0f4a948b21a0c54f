package oncemill

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/metrics"
	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/topology"
)

// heard sums up what a listener was told. Keys are the labels.
type heard struct {
	sync.Mutex
	counts map[string]uint64
	gauges map[string]float64
}

func (h *heard) add(n uint64, format string, args ...any) {
	h.Lock()
	defer h.Unlock()
	h.counts[fmt.Sprintf(format, args...)] += n
}

func (h *heard) set(v float64, format string, args ...any) {
	h.Lock()
	defer h.Unlock()
	h.gauges[fmt.Sprintf(format, args...)] = v
}

func (h *heard) count(key string) uint64 {
	h.Lock()
	defer h.Unlock()
	return h.counts[key]
}

func (h *heard) gauge(key string) (float64, bool) {
	h.Lock()
	defer h.Unlock()
	v, ok := h.gauges[key]
	return v, ok
}

func (h *heard) listener() metrics.Listener {
	return metrics.Listener{
		TaskCommitted: func(e metrics.TaskCommit) { h.taskCommitted(e) },
		TransactionEnded: func(e metrics.TransactionEnd) {
			h.add(1, "transaction %s", e.Outcome)
			h.add(e.Outputs, "outputs")
			h.add(e.Changelog, "changelog")
			h.add(uint64(e.Phases.Changelog), "phase changelog")
			h.add(uint64(e.Phases.Flush), "phase flush")
			h.add(uint64(e.Phases.Offsets), "phase offsets")
			h.add(uint64(e.Phases.End), "phase end")
			h.add(uint64(e.Phases.Apply), "phase apply")
		},
		TaskStateChanged: func(e metrics.TaskStateChange) { h.add(uint64(e.Unavailable), "away %s %s", e.Task, e.Reason) },
		WorkerActive:     func(e metrics.Activity) { h.add(uint64(e.Duration), "active %s", e.Kind) },
		Failed:           func(e metrics.Failure) { h.add(1, "failed %s %s %s %s", e.Node, e.Phase, e.Policy, e.Place) },
		DeadLettered:     func(e metrics.DeadLetter) { h.add(1, "dead letter %s %s", e.Node, e.Place) },
		LagMeasured: func(e metrics.Lag) {
			h.set(float64(e.Records), "lag %s/%d", e.Topic, e.Partition)
		},
		TaskMeasured: func(e metrics.TaskSample) {
			for _, m := range e.Markers {
				h.set(float64(m.Markers), "markers %s %s", e.Task, m.Scope)
			}
		},
		StoreMeasured:  func(e metrics.StoreSample) { h.set(float64(e.Entries), "entries %s %s", e.Task, e.Store) },
		MemoryMeasured: func(e metrics.Memory) { h.set(float64(e.Budget), "budget") },
		EngineMeasured: func(e metrics.Engine) { h.set(float64(e.DiskBytes), "disk") },
	}
}

func (h *heard) taskCommitted(e metrics.TaskCommit) {
	for _, c := range e.Consumed {
		h.add(c.Records, "consumed %s", c.Topic)
	}
	for _, c := range e.Produced {
		h.add(c.Records, "produced %s", c.Topic)
		h.add(c.Bytes, "produced bytes %s", c.Topic)
	}
	for _, a := range e.Ages {
		h.add(1, "ages %s %t", a.Topic, a.Oldest >= a.Newest)
	}
	for _, v := range e.Verdicts {
		h.add(v.Count, "verdict %s %s", v.Scope, v.Verdict)
	}
	for _, f := range e.Failures {
		h.add(f.Count, "failure %s %s %s", f.Node, f.Phase, f.Policy)
	}
	for _, d := range e.Dropped {
		h.add(d.Count, "dropped %s %s", d.Node, d.Reason)
	}
	for _, s := range e.Changelog {
		h.add(s.Records, "changelog %s", s.Store)
		h.add(s.Bytes, "changelog bytes %s", s.Store)
	}
}

// reporting has two inputs in one task, a node that skips, a node that sends to the dead letters, and two sinks.
func reporting() *topology.Topology {
	seen := statestore.KeyValue("seen", serde.String(), serde.String())
	text := serde.String()
	t := topology.New("reporting")
	a := topology.Source(t, "a", "in-a", text, text, topology.Deduplicate(dedup.Config{ID: dedup.Header("id"), Window: time.Hour, Scope: "orders"}))
	b := topology.Source(t, "b", "in-b", text, text)
	both := topology.Merge(t, "both", a, b)
	kept := topology.Process(t, "keep", both, func(ctx *processor.Context[string, string], r record.Record[string, string]) error {
		if r.Value == "poison" {
			return errors.New("poison")
		}
		if err := seen.Put(ctx, r.Key, r.Value); err != nil {
			return err
		}
		return ctx.Forward(record.New(r.Key, r.Value))
	}, topology.Uses(seen), topology.OnFailure(processor.DeadLetter()))
	picky := topology.Process(t, "pick", kept, func(ctx *processor.Context[string, string], r record.Record[string, string]) error {
		if r.Value == "skip me" {
			return errors.New("not this one")
		}
		return ctx.Forward(record.New(r.Key, r.Value))
	}, topology.OnFailure(processor.Skip()))
	topology.Sink(t, "one", kept, "out-1", text, text)
	topology.Sink(t, "two", picky, "out-2", text, text)
	return t
}

func TestWhatListenersAreTold(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "in-a", "in-b", "out-1", "out-2"))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 40*time.Second)
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	with := func(id, value string) *kgo.Record {
		return &kgo.Record{Topic: "in-a", Key: []byte("k" + id), Value: []byte(value), Headers: []kgo.RecordHeader{{Key: "id", Value: []byte(id)}}}
	}
	records := []*kgo.Record{with("1", "x"), with("2", "poison"), with("1", "x"), with("3", "skip me"),
		{Topic: "in-b", Key: []byte("b"), Value: []byte("y")}, {Topic: "in-b", Key: []byte("c"), Value: []byte("y")}}
	if err := client.ProduceSync(ctx, records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	h := &heard{counts: map[string]uint64{}, gauges: map[string]float64{}}
	app, err := New(Config{Brokers: cluster.ListenAddrs(), StateDir: t.TempDir(), Topology: reporting(), Logger: slog.New(slog.DiscardHandler),
		Listener: h.listener()})
	if err != nil {
		t.Fatal(err)
	}
	app.sampler.every = 100 * time.Millisecond
	running, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- app.Run(running) }()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	measured := func() bool {
		for _, key := range []string{"lag in-a/0", "markers a_0 orders", "entries a_0 seen", "budget", "disk"} {
			if _, ok := h.gauge(key); !ok {
				return false
			}
		}
		lag, _ := h.gauge("lag in-a/0")
		entries, _ := h.gauge("entries a_0 seen")
		return lag == 0 && entries == 3 && h.count("active process") > 0 && h.count("active idle") > 0
	}
	for h.count("consumed in-a")+h.count("consumed in-b") < 6 || !measured() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("counts %v, gauges %v", h.counts, h.gauges)
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	want := map[string]uint64{ // a record that is skipped is rolled back as a whole
		"consumed in-a": 4, "consumed in-b": 2, "produced out-1": 3, "produced out-2": 3, "produced reporting-dead-letters": 1,
		"verdict orders new": 3, "verdict orders duplicate": 1, "failure keep process dead_letter": 1, "failure pick process skip": 1,
		"dropped pick skip": 1, "changelog seen": 3, "failed keep process dead_letter in-a/0@1": 1, "dead letter keep in-a/0@1": 1,
		"failed pick process skip in-a/0@3": 1,
	}
	for key, n := range want {
		if got := h.counts[key]; got != n {
			t.Errorf("%s: %d, want %d", key, got, n)
		}
	}
	for _, key := range []string{"phase changelog", "phase flush", "phase offsets", "phase end", "phase apply", "changelog bytes seen", "produced bytes out-1",
		"transaction committed", "ages in-a true", "outputs", "changelog"} {
		if h.counts[key] == 0 {
			t.Errorf("%s: nothing", key)
		}
	}
	for key := range h.counts {
		if strings.HasPrefix(key, "away a_0") && h.counts[key] > 0 {
			return
		}
	}
	t.Errorf("nobody says how long the task was away: %v", h.counts)
}

func TestLagInTimeIsSinceTheRecordWasSeen(t *testing.T) {
	at := func(seconds int) time.Time { return time.Unix(int64(1000+seconds), 0) }
	var h lag
	for _, c := range []struct {
		next, lso, end int64
		now            int
		records        int64
		age            int
		unstable       int64
		unstableAge    int
	}{
		{0, 0, 0, 0, 0, 0, 0, 0},
		{0, 10, 10, 5, 10, 0, 0, 0},
		{0, 20, 20, 10, 20, 5, 0, 0},
		{10, 20, 20, 15, 10, 5, 0, 0}, // the first that waits was seen at 10
		{20, 20, 25, 20, 0, 0, 5, 0},
		{20, 20, 30, 30, 0, 0, 10, 10}, // the same transaction holds
		{20, 30, 31, 35, 10, 0, 1, 0},
	} {
		e := h.measure(c.next, c.lso, c.end, at(c.now))
		got := fmt.Sprint(e.Records, e.Time, e.UnstableRecords, e.UnstableTime)
		if want := fmt.Sprint(c.records, time.Duration(c.age)*time.Second, c.unstable, time.Duration(c.unstableAge)*time.Second); got != want {
			t.Errorf("at %d s: %s, want %s", c.now, got, want)
		}
	}
	for i := range 10 * maxSeen {
		h.measure(20, 31+int64(i), 31+int64(i), at(40+i))
	}
	if e := h.measure(20, 31+int64(10*maxSeen), 31+int64(10*maxSeen), at(40+10*maxSeen)); e.Time < time.Duration(10*maxSeen)*time.Second || len(h.seen) > maxSeen+1 {
		t.Errorf("after a long history: %v, %d entries", e.Time, len(h.seen))
	}
}
