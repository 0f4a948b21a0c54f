package streamtest

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/internal/host"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/internal/task"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/statestore"
)

// Output returns what a reader with read_committed sees of a topic, in the order in which it became visible.
func (d *Driver) Output(topic string) []record.Raw {
	return d.read(topic, func(k kind) bool { return k == committed })
}

// Probe returns what a reader with read_uncommitted sees of a topic: the records of aborted transactions too, and those of
// the open one, which have no offset yet.
func (d *Driver) Probe(topic string) []record.Raw {
	out := d.read(topic, func(k kind) bool { return k != control })
	for i := range d.pending {
		if d.pending[i].output.Topic == topic {
			raw := cloneRaw(&d.pending[i].raw)
			raw.Offset = -1
			out = append(out, raw)
		}
	}
	return out
}

func (d *Driver) read(name string, want func(kind) bool) []record.Raw {
	if d.tb != nil {
		d.tb.Helper()
	}
	t := d.topics.byName[name]
	if t == nil {
		d.fail(problem.New(problem.TopicMissing, fmt.Sprintf("topic %q", name), "the topology does not have it"))
		return nil
	}
	var found []*entry
	for _, p := range t.partitions {
		for i := range p.entries {
			if want(p.entries[i].kind) {
				found = append(found, &p.entries[i])
			}
		}
	}
	slices.SortFunc(found, func(a, b *entry) int { return cmp.Compare(a.order, b.order) })
	out := make([]record.Raw, len(found))
	for i, e := range found {
		out[i] = cloneRaw(&e.raw)
	}
	return out
}

// Read decodes what Output returns.
func Read[K, V any](d *Driver, topic string, keys serde.Serde[K], values serde.Serde[V]) []record.Record[K, V] {
	if d.tb != nil {
		d.tb.Helper()
	}
	var out []record.Record[K, V]
	for _, raw := range d.Output(topic) {
		r := record.Record[K, V]{Timestamp: raw.Timestamp, Headers: raw.Headers, Position: raw.Position}
		var err error
		if r.Key, err = keys.Decode(raw.Key); err == nil {
			r.Value, err = values.Decode(raw.Value)
		}
		if err != nil {
			d.failf("decode %s: %w", raw.Position, err)
			return out
		}
		out = append(out, r)
	}
	return out
}

// DeadLetters returns the committed dead letters.
func (d *Driver) DeadLetters() []record.Raw {
	if d.plan.DeadLetters == "" {
		return nil
	}
	return d.Output(d.plan.DeadLetters)
}

// scope lets a typed store read the state of one task.
type scope struct{ state *statestore.Task }

func (s scope) OpenStore(d *statestore.Declaration) (*statestore.View, error) {
	return s.state.View(d), nil
}

func (scope) ScheduleTimer(*statestore.Declaration, []byte, statestore.Timer) error {
	return errReadOnly
}

func (scope) CancelTimer(*statestore.Declaration, []byte, string) (bool, error) {
	return false, errReadOnly
}

var errReadOnly = fmt.Errorf("streamtest: a test reads stores, it does not set timers")

// Get looks a key up in the tasks that have the store, in the order of their partitions. The open transaction is seen.
func Get[K, V any](d *Driver, store *statestore.KeyValueStore[K, V], key K) (value V, found bool) {
	if d.tb != nil {
		d.tb.Helper()
	}
	for _, s := range d.holders(store.Declaration()) {
		v, ok, err := store.Get(scope{s.state}, key)
		if err != nil {
			d.fail(err)
			return value, false
		}
		if ok {
			return v, true
		}
	}
	return value, false
}

// Entries returns all entries of a store, by partition and then in the order of the encoded keys. The open transaction is
// seen.
func Entries[K, V any](d *Driver, store *statestore.KeyValueStore[K, V]) []statestore.Entry[K, V] {
	if d.tb != nil {
		d.tb.Helper()
	}
	var out []statestore.Entry[K, V]
	for _, s := range d.holders(store.Declaration()) {
		for e, err := range store.All(scope{s.state}) {
			if err != nil {
				d.fail(err)
				return out
			}
			out = append(out, e)
		}
	}
	return out
}

// holders are the slots whose tasks have the store.
func (d *Driver) holders(decl *statestore.Declaration) []*slot {
	if d.tb != nil {
		d.tb.Helper()
	}
	var out []*slot
	for _, s := range d.slots {
		if st := s.sub.Store(decl.Name); st != nil && st.Declaration == decl && s.state != nil {
			out = append(out, s)
		}
	}
	if out == nil {
		d.failf("store %q is not one of the topology's", decl.Name)
	}
	return out
}

// Cell is one key of one store of one task, in bytes.
type Cell struct {
	Task  string
	Store string
	Key   []byte
	Value []byte
}

// String renders the cell for the report of a difference.
func (c *Cell) String() string {
	return fmt.Sprintf("task %s, store %q, key %q = %q", c.Task, c.Store, c.Key, c.Value)
}

func (c *Cell) compare(o *Cell) int {
	return cmp.Or(strings.Compare(c.Task, o.Task), strings.Compare(c.Store, o.Store), bytes.Compare(c.Key, o.Key))
}

func sortCells(cells []Cell) {
	slices.SortFunc(cells, func(a, b Cell) int { return a.compare(&b) })
}

// State returns everything in all stores, those of the engine included: dedup markers, timers, parked records and the
// checkpoint records of the tasks. The open transaction is seen.
func (d *Driver) State() []Cell {
	if d.tb != nil {
		d.tb.Helper()
	}
	cells, err := d.dump()
	d.fail(err)
	return cells
}

func (d *Driver) dump() ([]Cell, error) {
	var cells []Cell
	for _, s := range d.slots {
		for _, st := range s.sub.Stores {
			it := s.state.View(st.Declaration).Iterate(nil, nil, false)
			for it.Next() {
				cells = append(cells, Cell{Task: s.id.String(), Store: st.Name, Key: bytes.Clone(it.Key()), Value: bytes.Clone(it.Value())})
			}
			err := it.Err()
			it.Close()
			if err != nil {
				return nil, fmt.Errorf("task %s, store %q: %w", s.id, st.Name, err)
			}
		}
	}
	sortCells(cells)
	return cells, nil
}

// Marker is a live dedup marker.
type Marker struct {
	dedup.Marker
	// Source is the source node.
	Source string
	// Task is the task that holds it.
	Task string
}

// Markers returns the live dedup markers, in the order of the messages' positions.
func (d *Driver) Markers() []Marker {
	if d.tb != nil {
		d.tb.Helper()
	}
	var out []Marker
	for _, s := range d.slots {
		if s.task == nil {
			continue
		}
		err := s.task.EachMarker(func(source string, m dedup.Marker) {
			out = append(out, Marker{Marker: m, Source: source, Task: s.id.String()})
		})
		d.fail(err)
	}
	slices.SortStableFunc(out, func(a, b Marker) int {
		return cmp.Or(strings.Compare(a.Source, b.Source), strings.Compare(a.Task, b.Task), cmp.Compare(a.Offset, b.Offset))
	})
	return out
}

// Timer is a timer that is set.
type Timer struct {
	statestore.Timer
	// Store and Key are what it was set on.
	Store string
	Key   []byte
	// Node handles it.
	Node string
	// Task is the task that holds it.
	Task string
}

// Timers returns the timers that are set, by task, clock and time.
func (d *Driver) Timers() []Timer {
	if d.tb != nil {
		d.tb.Helper()
	}
	var out []Timer
	for _, s := range d.slots {
		err := s.task.EachTimer(func(node, store string, key []byte, t statestore.Timer) {
			out = append(out, Timer{Timer: t, Store: store, Key: key, Node: node, Task: s.id.String()})
		})
		d.fail(err)
	}
	return out
}

// Parked returns the records that wait for a delayed retry.
func (d *Driver) Parked() []record.Raw {
	if d.tb != nil {
		d.tb.Helper()
	}
	var out []record.Raw
	for _, s := range d.slots {
		err := s.task.EachParked(func(_ string, _ int, r *record.Raw) { out = append(out, *r) })
		d.fail(err)
	}
	return out
}

// Position is the committed position of the task that reads a partition of a topic: the offset of the next record.
func (d *Driver) Position(topic string, partition int32) int64 {
	for _, s := range d.slots {
		for _, in := range s.group.Inputs {
			if in.Topic == topic && s.partition == partition {
				return in.Next
			}
		}
	}
	return 0
}

// Transactions is the number of transactions that a task has committed, by the name "<first source>_<partition>".
func (d *Driver) Transactions(task string) uint64 {
	for _, s := range d.slots {
		if s.id.String() == task {
			return s.group.N
		}
	}
	return 0
}

// StreamTime is the stream time of the task that reads a partition of a topic, the open transaction included; the zero time
// before the first record.
func (d *Driver) StreamTime(topic string, partition int32) time.Time {
	for _, s := range d.slots {
		for _, in := range s.task.Inputs() {
			if ms := s.task.StreamTimeMillis(); in.Topic == topic && s.partition == partition && ms != statestore.MinStreamTime {
				return time.UnixMilli(ms).UTC()
			}
		}
	}
	return time.Time{}
}

// Stats counts what the tasks did, over restarts; what was aborted and done again counts twice.
type Stats struct {
	Consumed, Processed uint64
	Verdicts            map[dedup.Verdict]uint64
	// Failures by phase: decode, process, encode, produce, timer, dedup.
	Failures                     map[string]uint64
	Skipped, DeadLetters, Parked uint64
	TimersFired, TimersFailed    uint64
	// Clamped timestamps.
	Clamped         uint64
	OutputsReplayed uint64
	RetriesInPlace  uint64
}

func (s *Stats) add(t task.Stats) {
	if s.Verdicts == nil {
		s.Verdicts, s.Failures = map[dedup.Verdict]uint64{}, map[string]uint64{}
	}
	s.Consumed += t.Consumed
	s.Processed += t.Processed
	for v, n := range t.Verdicts {
		if n > 0 {
			s.Verdicts[dedup.Verdict(v)] += n
		}
	}
	for p := host.PhaseDecode; p <= host.PhaseDedup; p++ {
		if n := t.Failures[p]; n > 0 {
			s.Failures[p.String()] += n
		}
	}
	s.Skipped += t.Skipped
	s.DeadLetters += t.DeadLetters
	s.Parked += t.Parked
	s.TimersFired += t.TimersFired
	s.TimersFailed += t.TimersFailed
	s.Clamped += t.Clamped
	s.OutputsReplayed += t.OutputsReplayed
	s.RetriesInPlace += t.RetriesInPlace
}

// Stats returns the counts of all tasks.
func (d *Driver) Stats() Stats {
	var sum Stats
	sum.add(task.Stats{})
	for _, s := range d.slots {
		if s.task != nil {
			s.stats.add(s.task.TakeStats())
		}
		sum.merge(&s.stats)
	}
	return sum
}

func (s *Stats) merge(o *Stats) {
	for v, n := range o.Verdicts {
		s.Verdicts[v] += n
	}
	for p, n := range o.Failures {
		s.Failures[p] += n
	}
	s.Consumed += o.Consumed
	s.Processed += o.Processed
	s.Skipped += o.Skipped
	s.DeadLetters += o.DeadLetters
	s.Parked += o.Parked
	s.TimersFired += o.TimersFired
	s.TimersFailed += o.TimersFailed
	s.Clamped += o.Clamped
	s.OutputsReplayed += o.OutputsReplayed
	s.RetriesInPlace += o.RetriesInPlace
}
