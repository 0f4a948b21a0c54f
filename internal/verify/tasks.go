package verify

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/internal/graph"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/statestore"
)

// readTasks reads the changelogs of every task, one after the other, and holds them against offsets and state.
func (r *run) readTasks(ctx context.Context) error {
	total := int64(0)
	for _, t := range r.tasks {
		for _, st := range t.sub.Stores {
			if log := r.topics[st.Changelog]; t.id.Partition < log.Partitions {
				total += t.logs[st.Changelog] - log.Starts[t.id.Partition]
			}
		}
	}
	r.Progress.Step("state", total)
	for _, t := range r.tasks {
		if !t.sub.Stateful() {
			continue
		}
		if err := r.openState(t); err != nil {
			return err
		}
		if err := r.readTask(ctx, t); err != nil {
			return fmt.Errorf("task %s: %w", t.id, err)
		}
		if t.state != nil {
			t.state.Release()
			t.state = nil
		}
	}
	return nil
}

func (r *run) openState(t *taskCut) error {
	if r.State == nil {
		return nil
	}
	var err error
	if t.state, err = r.State.Acquire(t.id, t.sub.Declarations()); err != nil {
		return err
	}
	t.position, t.hasState = t.state.Position()
	return nil
}

// readTask looks at the checkpoint record first, which has the horizons, and then at the timers: what they are set on is
// demanded of the stores.
func (r *run) readTask(ctx context.Context, t *taskCut) error {
	timers := r.newTimerCheck(t)
	defer timers.close()
	stores := slices.Clone(t.sub.Stores)
	slices.SortStableFunc(stores, func(a, b *graph.Store) int { return rank(a.Kind) - rank(b.Kind) })
	for _, st := range stores {
		if err := r.readStore(ctx, t, st, timers); err != nil {
			return fmt.Errorf("store %s: %w", st.Name, err)
		}
	}
	if err := timers.judge(); err != nil {
		return err
	}
	r.judgePositions(t)
	return nil
}

func rank(k statestore.Kind) int {
	switch k {
	case statestore.KindTask:
		return 0
	case statestore.KindTimers:
		return 1
	}
	return 2
}

func (r *run) readStore(ctx context.Context, t *taskCut, st *graph.Store, timers *timerCheck) (err error) {
	log, err := r.changelog(ctx, t, st, r.Progress.Add)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.close()) }()
	c, err := cellsOf(log, t.meta.End(st.Changelog))
	if err != nil {
		return err
	}
	for c.next() {
		if !c.present {
			continue
		}
		switch st.Kind {
		case statestore.KindTask:
			t.latest, err = statestore.DecodeCheckpoint(c.value)
		case statestore.KindTimers:
			err = timers.timer(st, c.key, c.value)
		case statestore.KindParked:
			err = timers.parked(st, c.key, c.value)
		}
		if err != nil {
			return err
		}
	}
	if c.err != nil {
		return c.err
	}
	if st.Kind != statestore.KindTimers {
		if err := timers.owners(st, log); err != nil {
			return err
		}
	}
	if st.Kind == statestore.KindMarkers && t.ours {
		if err := r.noteMarkers(t, st, log); err != nil {
			return err
		}
	}
	switch {
	case t.hasState:
		return r.compareStore(t, st, log)
	case t.state != nil:
		return r.stateWithoutPosition(t, st)
	}
	return nil
}

// changelog reads a changelog partition into a sorter: by key, and then in the order of the log. Committed records beyond
// what the offsets say are reported.
func (r *run) changelog(ctx context.Context, t *taskCut, st *graph.Store, progress func(int64)) (*sorter, error) {
	topic, p := r.topics[st.Changelog], t.id.Partition
	if p >= topic.Partitions {
		return nil, problem.New(problem.PartitionsChanged, fmt.Sprintf("topic %q", st.Changelog), "it has %d partitions, its task is %s", topic.Partitions, t.id)
	}
	committed := t.meta.End(st.Changelog)
	s := newSorter(r.dir)
	var head []byte
	err := r.Log.Read(ctx, st.Changelog, p, topic.Starts[p], t.logs[st.Changelog], func(raw *record.Raw) error {
		progress(1)
		if raw.Offset >= committed {
			r.found(CheckPositions, problem.FindingCounter, raw.Position.String(),
				"it is committed, but the committed offsets of task %s cover its changelog up to %d only", t.id, committed)
			return nil
		}
		head = binary.BigEndian.AppendUint64(head[:0], uint64(raw.Offset))
		present := byte(1)
		if raw.Value == nil {
			present = 0
		}
		return s.add(raw.Key, append(append(head, present), raw.Value...))
	})
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// cells walks over the compacted view of a changelog: for each key its last record below an offset. Key and value are valid
// until the next move.
type cells struct {
	c     *cursor
	below int64
	more  bool // c stands on the first entry of the next key
	err   error

	key, value []byte
	present    bool // the last record below is there, and no tombstone
	offset     int64
	later      bool // there are records of the key at or above
}

func cellsOf(s *sorter, below int64) (*cells, error) {
	c, err := s.sorted()
	if err != nil {
		return nil, err
	}
	w := &cells{c: c, below: below}
	w.more = c.next()
	return w, nil
}

func (w *cells) next() bool {
	if !w.more {
		w.err = w.c.err
		return false
	}
	w.key = append(w.key[:0], w.c.key...)
	w.present, w.later, w.value, w.offset = false, false, w.value[:0], -1
	for w.more && bytes.Equal(w.key, w.c.key) {
		if at := int64(binary.BigEndian.Uint64(w.c.value)); at < w.below {
			w.offset, w.present = at, w.c.value[8] == 1
			w.value = append(w.value[:0], w.c.value[9:]...)
		} else {
			w.later = true
		}
		w.more = w.c.next()
	}
	return true
}

// noteMarkers puts the live markers where inputs look for them, and the places that they name where inputs are looked for.
func (r *run) noteMarkers(t *taskCut, st *graph.Store, log *sorter) error {
	horizon := horizonIn(t.latest.Horizons, st.ID())
	c, err := cellsOf(log, t.meta.End(st.Changelog))
	if err != nil {
		return err
	}
	for c.next() {
		bucket, hash, ok := dedup.MarkerKey(c.key)
		if !c.present || bucket < horizon && ok {
			continue
		}
		m, err := dedup.DecodeMarker(c.value)
		place := fmt.Sprintf("%s/%d@%d", st.Changelog, t.id.Partition, c.offset)
		if !ok || err != nil {
			r.found(CheckOrphans, problem.FindingMarker, place, "the marker cannot be read: key %s, value %s", excerpt(c.key), excerpt(c.value))
			continue
		}
		if err := r.noteMarker(t, st.Source, bucket, hash, &m, c.value, place); err != nil {
			return err
		}
	}
	return c.err
}

func (r *run) noteMarker(t *taskCut, source int, bucket uint64, hash [16]byte, m *dedup.Marker, value []byte, place string) error {
	key := identityKey(source, t.id.Partition, hash, kindMarker, int64(bucket))
	if err := r.identities.add(key, value); err != nil {
		return err
	}
	r.check(CheckOrphans).Checked++
	for i, in := range t.sub.Inputs {
		if in.Source != source || !m.WrittenFor(r.topics[in.Topic].ID) {
			continue
		}
		if m.Offset >= t.next[i] {
			r.found(CheckOrphans, problem.FindingMarker, place, "it names %s/%d@%d, which was not processed: the position is %d", in.Topic, t.id.Partition, m.Offset, t.next[i])
			return nil
		}
		b := append(append([]byte(nil), hash[:]...), place...)
		return r.markerPlaces.add(placeKey(r.number[in.Topic], t.id.Partition, m.Offset), b)
	}
	r.skip(CheckOrphans, "of a topic that was deleted and created again")
	return nil
}

// judgePositions holds offsets, checkpoint record and state against each other.
func (r *run) judgePositions(t *taskCut) {
	check := r.check(CheckPositions)
	wrong := func(what, format string, args ...any) {
		r.found(CheckPositions, problem.FindingCounter, fmt.Sprintf("task %s, %s", t.id, what), format, args...)
	}
	check.Checked++
	switch {
	case !t.ours && (t.latest.N > 0 || t.hasState && t.position.N > 0):
		wrong("committed offset", "there is none, but state of transaction %d", max(t.latest.N, t.position.N))
	case t.ours && t.latest.N != t.meta.N:
		wrong("checkpoint record", "it is of transaction %d, the committed offsets are of %d", t.latest.N, t.meta.N)
	case t.ours:
		r.comparePositions(t, "checkpoint record", &t.latest, wrong)
	}
	if !t.hasState || !t.ours {
		return
	}
	check.Checked++
	switch {
	case t.position.N > t.meta.N:
		wrong("state", "it is of transaction %d, the committed offsets are of %d", t.position.N, t.meta.N)
	case t.position.N == t.meta.N:
		r.comparePositions(t, "state", &t.position.Checkpoint, wrong)
	}
	for _, l := range t.position.Logs {
		if end := max(r.topics[l.Topic].Ends[t.id.Partition], t.meta.End(l.Topic)); l.Next > end {
			wrong("state", "it includes %s/%d up to %d, the topic ends at %d", l.Topic, t.id.Partition, l.Next, end)
		}
	}
}

func (r *run) comparePositions(t *taskCut, what string, c *statestore.Checkpoint, wrong func(what, format string, args ...any)) {
	if c.StreamTime != t.meta.StreamTime {
		wrong(what, "its stream time is %d ms, that of the committed offsets %d ms", c.StreamTime, t.meta.StreamTime)
	}
	for i, in := range t.sub.Inputs {
		j := slices.IndexFunc(c.Inputs, func(have statestore.Input) bool { return have.Topic == in.Topic })
		switch {
		case j < 0:
			wrong(what, "it has no position of %s/%d, committed is %d", in.Topic, t.id.Partition, t.next[i])
		case c.Inputs[j].Next != t.next[i]:
			wrong(what, "its position of %s/%d is %d, committed is %d", in.Topic, t.id.Partition, c.Inputs[j].Next, t.next[i])
		}
	}
}
