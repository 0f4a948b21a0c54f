package oncemill

import (
	"context"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/metrics"
	"github.com/oncemill/oncemill/statestore"
)

// sampler measures what no event tells: how far inputs are behind, and where memory is. It asks the brokers for the ends of
// the inputs; the positions come from the workers, with each commit.
type sampler struct {
	every time.Duration // sampleInterval, except in tests
	mu    struct {
		sync.Mutex
		places map[topicPartition]place
	}
	// of the sampler's goroutine
	lags map[topicPartition]*lag
}

// place is the position of a running task in one of its inputs.
type place struct {
	task string
	next int64
}

const (
	// sampleInterval is how often values are measured; it is also the resolution of lag in time.
	sampleInterval = 5 * time.Second
	// sampleTimeout bounds one look at the brokers; without an answer the values stay as they are.
	sampleTimeout = 3 * time.Second
	// sampleCount bounds how many timers and parked records of a task are counted at once after its start.
	sampleCount = 10_000
)

// keepHouse runs what the application does beside processing, until ctx ends.
func (a *App) keepHouse(ctx context.Context, admin *kadm.Client) {
	var wg sync.WaitGroup
	wg.Go(func() { a.sample(ctx, admin) })
	a.cleanUp(ctx, admin)
	wg.Wait()
}

// note remembers the positions of a task that runs.
func (s *sampler) note(r *running) {
	name := r.task.ID().String()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.places == nil {
		s.mu.places = map[topicPartition]place{}
	}
	for i, in := range r.task.Inputs() {
		s.mu.places[topicPartition{in.Topic, r.task.ID().Partition}] = place{name, r.task.Next(i)}
	}
}

// forget drops the positions of a task that does not run here any more.
func (s *sampler) forget(task string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for tp, p := range s.mu.places {
		if p.task == task {
			delete(s.mu.places, tp)
		}
	}
}

func (s *sampler) snapshot() map[topicPartition]place {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[topicPartition]place, len(s.mu.places))
	for tp, p := range s.mu.places {
		out[tp] = p
	}
	return out
}

// sample measures until ctx ends.
func (a *App) sample(ctx context.Context, admin *kadm.Client) {
	l := &a.cfg.Listener
	if l.LagMeasured == nil && l.MemoryMeasured == nil && l.EngineMeasured == nil {
		return
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(a.sampler.every):
		}
		a.measureStore()
		if l.LagMeasured != nil {
			a.measureLag(ctx, admin)
		}
	}
}

// measureStore tells where the memory is, and how the engine is.
func (a *App) measureStore() {
	if a.db == nil {
		return
	}
	m := a.db.Metrics()
	if l := a.cfg.Listener.MemoryMeasured; l != nil {
		u := a.db.MemoryUsed()
		l(metrics.Memory{Budget: u.Budget, Overlays: u.Overlays, Active: u.Active, Frozen: u.Frozen, Clean: u.Clean, Cache: m.BlockCacheBytes})
	}
	if l := a.cfg.Listener.EngineMeasured; l != nil {
		l(metrics.Engine{DiskBytes: m.DiskBytes, ReadAmp: m.ReadAmp, CompactionDebt: m.CompactionDebt,
			CacheHits: uint64(m.BlockCacheHits), CacheMisses: uint64(m.BlockCacheMisses)})
	}
}

// measureLag compares the positions with the ends of the inputs.
func (a *App) measureLag(ctx context.Context, admin *kadm.Client) {
	places := a.sampler.snapshot()
	if len(places) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, sampleTimeout)
	defer cancel()
	stable, err := admin.ListCommittedOffsets(ctx, a.inputTopics()...)
	if err != nil {
		return // a measurement less; the workers deal with outages
	}
	ends, err := admin.ListEndOffsets(ctx, a.inputTopics()...)
	if err != nil {
		return
	}
	now := time.Now()
	if a.sampler.lags == nil {
		a.sampler.lags = map[topicPartition]*lag{}
	}
	for tp := range a.sampler.lags {
		if _, ours := places[tp]; !ours {
			delete(a.sampler.lags, tp)
		}
	}
	for tp, p := range places {
		lso, ok := stable.Lookup(tp.topic, tp.partition)
		end, ok2 := ends.Lookup(tp.topic, tp.partition)
		if !ok || !ok2 || lso.Err != nil || end.Err != nil {
			continue
		}
		h := a.sampler.lags[tp]
		if h == nil {
			h = &lag{}
			a.sampler.lags[tp] = h
		}
		e := h.measure(p.next, lso.Offset, end.Offset, now)
		if e.Records > 0 && h.idle(p.next, lso.Offset) && !h.checked(p.next, lso.Offset) {
			if empty, err := a.onlyMarkers(ctx, tp, p.next, lso.Offset); err == nil && empty {
				h.emptyFrom, h.emptyTo = p.next, lso.Offset
				e = h.measure(p.next, lso.Offset, end.Offset, now)
			}
		}
		e.Task, e.Topic, e.Partition = p.task, tp.topic, tp.partition
		a.cfg.Listener.LagMeasured(e)
	}
}

// lag is the history of one input partition.
type lag struct {
	// seen are last stable offsets with the time at which each was first seen, ascending, none at or below the position.
	seen []seenEnd
	// held is since when records beyond the same last stable offset are seen.
	held    time.Time
	heldLSO int64
	// next and lso are of the measurement before.
	next, lso int64
	// From emptyFrom to emptyTo there are only markers of transactions.
	emptyFrom, emptyTo int64
	lastNext, lastLSO  int64
}

type seenEnd struct {
	lso int64
	at  time.Time
}

// maxSeen bounds the history. When it is full every other entry goes: the resolution falls as the lag grows.
const maxSeen = 256

// measure adds one look. The first record that waits was there when an end above it was first seen.
func (h *lag) measure(next, lso, end int64, now time.Time) metrics.Lag {
	if n := len(h.seen); n == 0 || h.seen[n-1].lso < lso {
		h.seen = append(h.seen, seenEnd{lso, now})
	}
	for len(h.seen) > 0 && h.seen[0].lso <= next {
		h.seen = h.seen[1:]
	}
	if len(h.seen) > maxSeen {
		kept := h.seen[:0]
		for i := 0; i < len(h.seen); i += 2 {
			kept = append(kept, h.seen[i])
		}
		h.seen = kept
	}
	var e metrics.Lag
	if lso > next && !(next >= h.emptyFrom && lso <= h.emptyTo) {
		e.Records = lso - next
		if len(h.seen) > 0 {
			e.Time = now.Sub(h.seen[0].at)
		}
	}
	switch {
	case end <= lso:
		h.held = time.Time{}
	case h.held.IsZero() || h.heldLSO != lso:
		h.held, h.heldLSO = now, lso
	}
	if end > lso {
		e.UnstableRecords, e.UnstableTime = end-lso, now.Sub(h.held)
	}
	h.lastNext, h.next = h.next, next
	h.lastLSO, h.lso = h.lso, lso
	return e
}

// idle reports that neither position nor end moved since the measurement before: then what lies between may be markers only.
func (h *lag) idle(next, lso int64) bool { return h.lastNext == next && h.lastLSO == lso }

// checked reports that it was found out before.
func (h *lag) checked(next, lso int64) bool { return h.emptyFrom == next && h.emptyTo == lso }

// onlyMarkers reads from a position to the last stable offset, which stand still, and reports that no record is there.
func (a *App) onlyMarkers(ctx context.Context, tp topicPartition, from, to int64) (bool, error) {
	client, err := kgo.NewClient(append(a.cfg.clientOptions("sampler"),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(), kgo.FetchMaxBytes(1<<16), kgo.FetchMaxWait(fetchWait),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{tp.topic: {tp.partition: kgo.NewOffset().At(from)}}))...)
	if err != nil {
		return false, err
	}
	defer client.Close()
	for next := from; next < to; {
		fetches := client.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			return false, err
		}
		for it := fetches.RecordIter(); !it.Done(); {
			r := it.Next()
			if r.Offset < to && !r.Attrs.IsControl() {
				return false, nil
			}
			next = r.Offset + 1
		}
	}
	return true, nil
}

// sampleTasks measures the tasks of the worker now and then. It is called between transactions.
func (w *worker) sampleTasks() error {
	l, now := &w.app.cfg.Listener, time.Now()
	if l.TaskMeasured == nil && l.StoreMeasured == nil || now.Sub(w.timing.sampled) < w.app.sampler.every {
		return nil
	}
	w.timing.sampled = now
	for id, r := range w.tasks {
		if r.state == nil {
			continue
		}
		if err := w.sampleTask(id, r); err != nil {
			return err
		}
	}
	return nil
}

func (w *worker) sampleTask(id statestore.TaskID, r *running) error {
	l := &w.app.cfg.Listener
	sub := w.app.sub(id.SubTopology)
	if l.TaskMeasured != nil {
		s, err := r.task.Sample(sampleCount)
		if err != nil {
			return err
		}
		e := metrics.TaskSample{Task: id.String(), StreamTimers: s.StreamTimers, WallTimers: s.WallTimers, ParkedRecords: s.Parked}
		for _, m := range s.Markers {
			changelog := sub.ByKind(statestore.KindMarkers, m.Source).Changelog
			out := metrics.MarkerSample{Scope: w.app.scopeOf(m.Source), Markers: int64(m.Count), Bytes: w.timing.sizes[changelog].of(m.Count)}
			if m.HasHorizon {
				out.Horizon = time.UnixMilli(m.HorizonMillis)
			}
			e.Markers = append(e.Markers, out)
		}
		l.TaskMeasured(e)
	}
	if l.StoreMeasured == nil {
		return nil
	}
	for _, st := range sub.Stores {
		if st.Internal {
			continue
		}
		n, err := r.state.View(st.Declaration).ApproximateCount()
		if err != nil {
			return err
		}
		l.StoreMeasured(metrics.StoreSample{Task: id.String(), Store: st.Name, Entries: int64(n), Bytes: w.timing.sizes[st.Changelog].of(n)})
	}
	return nil
}

// meanSize is the mean size of the changelog records that the worker wrote: what an entry takes, about.
type meanSize struct{ records, bytes uint64 }

func (m meanSize) of(entries uint64) int64 {
	if m.records == 0 {
		return 0
	}
	return int64(float64(m.bytes) / float64(m.records) * float64(entries))
}
