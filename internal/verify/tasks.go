package verify

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

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

// lastCheckpoint reads the last checkpoint record of a changelog.
func lastCheckpoint(log *sorter) (statestore.Checkpoint, error) {
	c, err := cellsOf(log, math.MaxInt64)
	if err != nil {
		return statestore.Checkpoint{}, err
	}
	if !c.next() || !c.present {
		return statestore.Checkpoint{}, c.err
	}
	return statestore.DecodeCheckpoint(c.value)
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
		switch {
		case !c.present && c.later && st.Kind == statestore.KindTask:
			t.replaced = true
			t.latest, err = lastCheckpoint(log)
		case !c.present && c.later:
			err = timers.unsure(st, c.key)
		case !c.present:
		case st.Kind == statestore.KindTask:
			t.latest, err = statestore.DecodeCheckpoint(c.value)
		case st.Kind == statestore.KindTimers:
			err = timers.timer(st, c)
		case st.Kind == statestore.KindParked:
			err = timers.parked(st, c)
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
// what the offsets say are reported. Of stores of the application only the keys of the sample are kept.
func (r *run) changelog(ctx context.Context, t *taskCut, st *graph.Store, progress func(int64)) (*sorter, error) {
	topic, p := r.topics[st.Changelog], t.id.Partition
	if p >= topic.Partitions {
		return nil, problem.New(problem.PartitionsChanged, fmt.Sprintf("topic %q", st.Changelog), "it has %d partitions, its task is %s", topic.Partitions, t.id)
	}
	committed := t.meta.End(st.Changelog)
	s := r.newSorter()
	deleted := &deletion{task: t, store: st, starts: topic.Starts, known: topic.Starts[p]}
	var head []byte
	err := r.read(ctx, st.Changelog, p, topic.Starts[p], t.logs[st.Changelog], func(raw *record.Raw) error {
		progress(1)
		if raw.Offset >= committed {
			r.check(CheckPositions).Checked++
			r.found(CheckPositions, problem.FindingCounter, evidence{records: []Spot{spotOf(raw.Position)}, task: t.id.String(), store: st.Name, fetch: true},
				"it is committed, but the committed offsets of task %s cover its changelog up to %d only", t.id, committed)
			return nil
		}
		deleted.before(raw)
		if st.Kind == statestore.KindKeyValue && !r.Sample.Has(raw.Key) {
			return nil
		}
		head = binary.BigEndian.AppendUint64(head[:0], uint64(raw.Offset))
		return s.add(raw.Key, append(append(head, flag(raw.Value != nil, cellPresent)|flag(r.old(raw.Timestamp), cellOld)), raw.Value...))
	})
	deleted.end()
	if err == nil && topic.Compacted {
		err = r.later(ctx, t, st, s)
	}
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// deletion notes what a running application deletes of its markers while they are read: buckets that have expired since. What is
// left begins with the first record of the oldest bucket that is live by now.
type deletion struct {
	task   *taskCut
	store  *graph.Store
	starts []int64 // as run.read keeps them
	known  int64
}

func (d *deletion) before(raw *record.Raw) {
	start := d.starts[raw.Partition]
	if d.store.Kind != statestore.KindMarkers || start == d.known || raw.Offset < start {
		return
	}
	if bucket, _, ok := dedup.MarkerKey(raw.Key); ok {
		d.task.cut[d.store.ID()], d.known = bucket, start
	}
}

// end: where nothing is left, every bucket has expired.
func (d *deletion) end() {
	if d.store.Kind == statestore.KindMarkers && d.starts[d.task.id.Partition] != d.known {
		d.task.cut[d.store.ID()] = math.MaxUint64
	}
}

// quickly is what a pass over the tail of a changelog may take. A log is compacted once in many seconds, at most.
const quickly = time.Second

// later notes which keys a running application has written since the cut. Compaction may have removed their records below it
// while they were read, so that something missing there proves nothing: it removes none without leaving a later one. What is
// written while the tail is read is read, too, until that goes quickly.
func (r *run) later(ctx context.Context, t *taskCut, st *graph.Store, s *sorter) error {
	p := t.id.Partition
	var head []byte
	for from, done := t.logs[st.Changelog], false; !done; {
		began := time.Now()
		now, err := r.topicNow(ctx, st.Changelog)
		if err != nil {
			return err
		}
		err = r.read(ctx, st.Changelog, p, from, now.Ends[p], func(raw *record.Raw) error {
			if st.Kind == statestore.KindKeyValue && !r.Sample.Has(raw.Key) {
				return nil
			}
			head = append(binary.BigEndian.AppendUint64(head[:0], uint64(raw.Offset)), flag(raw.Value != nil, cellPresent))
			if st.Kind == statestore.KindTask { // of which compaction keeps one only
				head = append(head, raw.Value...)
			}
			return s.add(raw.Key, head)
		})
		if err != nil {
			return err
		}
		from, done = max(from, now.Ends[p]), time.Since(began) < quickly
	}
	return nil
}

// Flags of a record in the sorter of a changelog.
const (
	cellPresent byte = 1 << iota // no tombstone
	cellOld                      // older than Config.Since
)

// cells walks over the compacted view of a changelog: for each key its last record below an offset. Key and value are valid
// until the next move.
type cells struct {
	c     *cursor
	below int64
	more  bool // c stands on the first entry of the next key
	err   error

	key, value []byte
	present    bool // the last record below is there, and no tombstone
	old        bool // it is older than Config.Since
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
	w.present, w.old, w.later, w.value, w.offset = false, false, false, w.value[:0], -1
	for w.more && bytes.Equal(w.key, w.c.key) {
		if at := int64(binary.BigEndian.Uint64(w.c.value)); at < w.below {
			w.offset, w.present, w.old = at, w.c.value[8]&cellPresent != 0, w.c.value[8]&cellOld != 0
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
	horizon := max(horizonIn(t.latest.Horizons, st.ID()), t.cut[st.ID()])
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
		here := Spot{st.Changelog, t.id.Partition, c.offset}
		if !ok || err != nil {
			r.check(CheckOrphans).Checked++
			r.found(CheckOrphans, problem.FindingMarker, at(here), "the marker cannot be read")
			continue
		}
		// The hash of a refusal is not that of the id: it is not known whether the id is in the sample.
		if m.Outcome != dedup.DeadLettered && !r.Sample.Has(hash[:]) {
			continue
		}
		if err := r.noteMarker(t, st.Source, bucket, hash, &m, c, here); err != nil {
			return err
		}
	}
	return c.err
}

func (r *run) noteMarker(t *taskCut, source int, bucket uint64, hash [16]byte, m *dedup.Marker, c *cells, here Spot) error {
	key := identityKey(source, t.id.Partition, hash, kindMarker, int64(bucket))
	if err := r.identities.add(key, c.value); err != nil {
		return err
	}
	for i, in := range t.sub.Inputs {
		if in.Source != source || !m.WrittenFor(r.topics[in.Topic].ID) {
			continue
		}
		if err := r.missing.add(backwards(r.number[in.Topic], t.id.Partition, m.Offset), binary.BigEndian.AppendUint64([]byte{markedInput}, bucket)); err != nil {
			return err
		}
		switch {
		case c.old:
			r.skip(CheckOrphans, beforeSince)
		case m.Offset >= t.next[i]:
			named := Spot{in.Topic, t.id.Partition, m.Offset}
			r.check(CheckOrphans).Checked++
			r.found(CheckOrphans, problem.FindingMarker, at(here, named), "it names %s, which was not processed: the position is %d", named, t.next[i])
		default:
			p := markerPlace{hash: hash, bucket: bucket, place: here.String()}
			return r.markerPlaces.add(placeKey(r.number[in.Topic], t.id.Partition, m.Offset), p.append(nil))
		}
		return nil
	}
	r.skip(CheckOrphans, "of a topic that was deleted and created again")
	return nil
}

// judgePositions holds offsets, checkpoint record and state against each other.
func (r *run) judgePositions(t *taskCut) {
	wrong := func(what string, where evidence, format string, args ...any) {
		where.place, where.task = fmt.Sprintf("task %s, %s", t.id, what), t.id.String()
		r.found(CheckPositions, problem.FindingCounter, where, format, args...)
	}
	recorded, stored := r.checkpointPlace(t), r.checkpointPlace(t)
	recorded.has, stored.has = showCheckpoint(&t.latest), showCheckpoint(&t.position.Checkpoint)
	if t.replaced {
		r.skip(CheckPositions, replacedSince)
	} else {
		r.check(CheckPositions).Checked++
	}
	switch {
	case t.replaced:
	case !t.ours && (t.latest.N > 0 || t.hasState && t.position.N > 0):
		wrong("committed offset", recorded, "there is none, but state of transaction %d", max(t.latest.N, t.position.N))
	case t.ours && t.latest.N != t.meta.N:
		wrong("checkpoint record", recorded, "it is of transaction %d, the committed offsets are of %d", t.latest.N, t.meta.N)
	case t.ours:
		r.comparePositions(t, "checkpoint record", &t.latest, recorded, wrong)
	}
	if !t.hasState || !t.ours {
		return
	}
	r.check(CheckPositions).Checked++
	switch {
	case t.position.N > t.meta.N:
		wrong("state", stored, "it is of transaction %d, the committed offsets are of %d", t.position.N, t.meta.N)
	case t.position.N == t.meta.N:
		r.comparePositions(t, "state", &t.position.Checkpoint, stored, wrong)
	}
	for _, l := range t.position.Logs {
		if end := max(r.topics[l.Topic].Ends[t.id.Partition], t.meta.End(l.Topic)); l.Next > end {
			stored.records = []Spot{{l.Topic, t.id.Partition, -1}}
			wrong("state", stored, "it includes %s/%d up to %d, the topic ends at %d", l.Topic, t.id.Partition, l.Next, end)
		}
	}
}

// replacedSince is why something that a running application has written again is not judged.
const replacedSince = "written again while it was read"

// checkpointPlace is where the checkpoint records of a task are.
func (r *run) checkpointPlace(t *taskCut) evidence {
	st := t.sub.ByKind(statestore.KindTask, -1)
	return evidence{records: []Spot{{st.Changelog, t.id.Partition, -1}}, wants: fmt.Sprintf("transaction %d, stream time %d ms", t.meta.N, t.meta.StreamTime)}
}

func showCheckpoint(c *statestore.Checkpoint) string {
	return fmt.Sprintf("transaction %d, stream time %d ms, positions %v", c.N, c.StreamTime, c.Inputs)
}

func (r *run) comparePositions(t *taskCut, what string, c *statestore.Checkpoint, e evidence,
	wrong func(what string, e evidence, format string, args ...any)) {
	if c.StreamTime != t.meta.StreamTime {
		wrong(what, e, "its stream time is %d ms, that of the committed offsets %d ms", c.StreamTime, t.meta.StreamTime)
	}
	for i, in := range t.sub.Inputs {
		j := slices.IndexFunc(c.Inputs, func(have statestore.Input) bool { return have.Topic == in.Topic })
		switch {
		case j < 0:
			wrong(what, e, "it has no position of %s/%d, committed is %d", in.Topic, t.id.Partition, t.next[i])
		case c.Inputs[j].Next != t.next[i]:
			wrong(what, e, "its position of %s/%d is %d, committed is %d", in.Topic, t.id.Partition, c.Inputs[j].Next, t.next[i])
		}
	}
}
