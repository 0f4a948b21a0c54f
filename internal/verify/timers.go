package verify

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/internal/graph"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/internal/task"
	"github.com/oncemill/oncemill/statestore"
)

// timerCheck demands of every timer both its keys and the state it is set on, and of every parked record a way back.
type timerCheck struct {
	r       *run
	t       *taskCut
	orders  *sorter // due key -> which of the keys, offset, identity
	wanted  *sorter // store, key -> offset of the identity key, identity
	queues  *sorter // entries of queues, in the order in which each is worked off
	numbers *sorter // number of a parked record -> 'p', 'q' or 't'; 'h' at the head of its queue; 'l' when written since
	// again has the identity keys that were written since, and alone those of due keys without one.
	again, alone *sorter
}

func (r *run) newTimerCheck(t *taskCut) *timerCheck {
	return &timerCheck{r: r, t: t, orders: r.newSorter(), wanted: r.newSorter(), queues: r.newSorter(), numbers: r.newSorter(),
		again: r.newSorter(), alone: r.newSorter()}
}

func (w *timerCheck) close() {
	for _, s := range []*sorter{w.orders, w.wanted, w.queues, w.numbers, w.again, w.alone} {
		_ = s.close() // files without a name
	}
}

// Which of the two keys of a timer an entry is.
const (
	identityEntry byte = iota
	dueEntry
	// laterEntry is a due key that was written since the cut: what is missing of it may have been compacted away.
	laterEntry
)

// here is where an entry of a store lies in its changelog.
func (w *timerCheck) here(st *graph.Store, offset int64) evidence {
	e := evidence{place: fmt.Sprintf("task %s, store %s", w.t.id, st.Name), task: w.t.id.String(), store: st.Name,
		records: []Spot{{st.Changelog, w.t.id.Partition, offset}}}
	return e
}

func (w *timerCheck) store(kind statestore.Kind) *graph.Store { return w.t.sub.ByKind(kind, -1) }

// timer notes an entry of the store of timers.
func (w *timerCheck) timer(st *graph.Store, c *cells) error {
	k, err := task.ReadTimerKey(c.key, c.value)
	if err != nil {
		w.unreadable(st, c, err)
		return nil
	}
	which := identityEntry
	if k.Due {
		which = dueEntry
	}
	place := binary.BigEndian.AppendUint64(nil, uint64(c.offset))
	if err := w.orders.add(k.Order[:], append(append([]byte{which}, place...), k.Identity...)); err != nil || k.Due {
		return err
	}
	if number, ok := w.parkedTimer(c.key); ok {
		if err := w.numbers.add(number, []byte{'t'}); err != nil {
			return err
		}
	}
	return w.wanted.add(append(binary.BigEndian.AppendUint32(nil, k.Store), k.Key...), append(place, k.Identity...))
}

func (w *timerCheck) unreadable(st *graph.Store, c *cells, err error) {
	e := w.here(st, c.offset)
	e.key, e.has = excerpt(c.key), excerpt(c.value)
	w.r.check(CheckTimers).Checked++
	w.r.found(CheckTimers, problem.FindingState, e, "key %s: %v", e.key, err)
}

// parked notes an entry of the store of parked records.
func (w *timerCheck) parked(st *graph.Store, c *cells) error {
	p, err := task.ReadParked(c.key, c.value)
	if err != nil {
		w.unreadable(st, c, err)
		return nil
	}
	number := binary.BigEndian.AppendUint64(nil, p.Number)
	if p.Queued {
		return errors.Join(w.queues.add(c.key, nil), w.numbers.add(number, []byte{'q'}))
	}
	if err := w.numbers.add(number, binary.BigEndian.AppendUint64([]byte{'p'}, uint64(c.offset))); err != nil {
		return err
	}
	n := w.r.Plan.Node(p.Source)
	if n == nil || n.Dedup == nil {
		return nil
	}
	trace := w.t.guards[n.Index].Trace(&p.Record, dedup.FromParked)
	if !w.r.Sample.Has(trace.ID[:]) {
		return nil
	}
	value := parkedPlace(p.Record.Position.String(), Spot{st.Changelog, w.t.id.Partition, c.offset}.String())
	return w.r.identities.add(identityKey(n.Index, w.t.id.Partition, trace.ID, kindParked, p.Record.Offset), value)
}

// parkedPlace is where a parked record came from, and where it lies.
func parkedPlace(record, entry string) []byte { return []byte(record + "\x00" + entry) }

func readParkedPlace(b []byte) (record, entry Spot) {
	from, place, _ := bytes.Cut(b, []byte{0})
	return parseSpot(string(from)), parseSpot(string(place))
}

// unsure notes a key that has no record below the cut, and one above it: compaction may have removed what it was.
func (w *timerCheck) unsure(st *graph.Store, key []byte) error {
	switch {
	case st.Kind == statestore.KindTimers && len(key) == 18 && key[0] == 'd':
		return w.orders.add(key, []byte{laterEntry})
	case st.Kind == statestore.KindTimers:
		if number, ok := w.parkedTimer(key); ok {
			return errors.Join(w.again.add(key, nil), w.numbers.add(number, []byte{'l'}))
		}
		return w.again.add(key, nil)
	case st.Kind == statestore.KindParked && len(key) == 25 && key[0] == 'q': // it was the head of its queue, perhaps
		return errors.Join(w.queues.add(key, nil), w.numbers.add(key[17:], []byte{'l'}))
	case st.Kind == statestore.KindParked && len(key) == 9:
		return w.numbers.add(key[1:], []byte{'l'})
	}
	return nil
}

// parkedTimer reads the number of the parked record out of the identity key of its timer.
func (w *timerCheck) parkedTimer(identity []byte) (number []byte, ok bool) {
	k, err := task.ReadTimerKey(identity, make([]byte, 17)) // the value leads to the due key, which is not asked for
	parked := w.store(statestore.KindParked)
	if err != nil || parked == nil || parked.ID() != k.Store || len(k.Key) != 9 {
		return nil, false
	}
	return k.Key[1:], true
}

// owners demands the keys of a store that timers are set on.
func (w *timerCheck) owners(st *graph.Store, log *sorter) error {
	want, err := w.wanted.sorted()
	if err != nil {
		return err
	}
	have, err := cellsOf(log, w.t.meta.End(st.Changelog))
	if err != nil {
		return err
	}
	more := have.next()
	for want.next() {
		if binary.BigEndian.Uint32(want.key) != st.ID() {
			continue
		}
		key := want.key[4:]
		if !w.r.Sample.hasKey(st.Kind, key) {
			continue
		}
		for more && bytes.Compare(have.key, key) < 0 {
			more = have.next()
		}
		there := more && bytes.Equal(have.key, key)
		if there && !have.present && have.later {
			w.r.skip(CheckTimers, replacedSince)
			continue
		}
		if w.r.check(CheckTimers).Checked++; there && have.present {
			continue
		}
		e := w.here(st, -1)
		if there { // a tombstone
			e.records[0].Offset = have.offset
		}
		timers := w.store(statestore.KindTimers)
		e.records = append(e.records, Spot{timers.Changelog, w.t.id.Partition, int64(binary.BigEndian.Uint64(want.value))})
		e.key, e.has = excerpt(key), nothing
		w.r.found(CheckTimers, problem.FindingState, e, "a timer is set on the key %s, which has no state; the timer is %s", e.key, excerpt(want.value[8:]))
	}
	return errors.Join(want.err, have.err)
}

func (w *timerCheck) judge() error {
	if err := w.pairs(); err != nil {
		return err
	}
	if err := w.heads(); err != nil {
		return err
	}
	return groups(w.numbers, func(key []byte, values [][]byte) error {
		w.number(binary.BigEndian.Uint64(key), values)
		return nil
	})
}

// pairs demands both keys of a timer.
func (w *timerCheck) pairs() error {
	if err := groups(w.orders, func(order []byte, values [][]byte) error {
		if values[0][0] == laterEntry || values[len(values)-1][0] == laterEntry {
			if len(values) > 1 {
				w.r.skip(CheckTimers, replacedSince)
			}
			return nil
		}
		if len(values) == 1 && values[0][0] == dueEntry {
			return w.alone.add(values[0][9:], append(bytes.Clone(values[0][1:9]), order...))
		}
		if w.r.check(CheckTimers).Checked++; len(values) == 2 && values[0][0] != values[1][0] && bytes.Equal(values[0][9:], values[1][9:]) {
			return nil
		}
		w.broken(order, values[0][1:9], len(values))
		return nil
	}); err != nil {
		return err
	}
	return w.singles()
}

func (w *timerCheck) broken(order, offset []byte, keys int) {
	e := w.here(w.store(statestore.KindTimers), int64(binary.BigEndian.Uint64(offset)))
	e.fetch, e.key = true, excerpt(order)
	w.r.found(CheckTimers, problem.FindingState, e, "the timer with the due key %x has %d of its two keys", order, keys)
}

// singles judges the due keys that have no identity key: one that was set anew since may have lost it to compaction.
func (w *timerCheck) singles() error {
	alone, err := w.alone.sorted()
	if err != nil {
		return err
	}
	again, err := w.again.sorted()
	if err != nil {
		return err
	}
	more := again.next()
	for alone.next() {
		for more && bytes.Compare(again.key, alone.key) < 0 {
			more = again.next()
		}
		if more && bytes.Equal(again.key, alone.key) {
			w.r.skip(CheckTimers, replacedSince)
			continue
		}
		w.r.check(CheckTimers).Checked++
		w.broken(alone.value[8:], alone.value[:8], 1)
	}
	return errors.Join(alone.err, again.err)
}

// number judges what there is under the number of a parked record.
func (w *timerCheck) number(number uint64, values [][]byte) {
	has := func(what byte) bool {
		for _, v := range values {
			if v[0] == what {
				return true
			}
		}
		return false
	}
	record, timer, behind := has('p'), has('t'), has('q') && !has('h')
	if has('l') {
		if record || timer || has('q') {
			w.r.skip(CheckTimers, replacedSince)
		}
		return
	}
	if w.r.check(CheckTimers).Checked++; record && (timer || behind) {
		return
	}
	offset := int64(-1)
	for _, v := range values {
		if v[0] == 'p' {
			offset = int64(binary.BigEndian.Uint64(v[1:]))
		}
	}
	e := w.here(w.store(statestore.KindParked), offset)
	e.place, e.fetch = fmt.Sprintf("task %s, store parked records", w.t.id), offset >= 0
	w.r.found(CheckTimers, problem.FindingState, e, "number %d: record %t, timer %t, place behind another in a queue %t", number, record, timer, behind)
}

// heads notes the first of each queue: nothing but a timer brings it back, and all that is behind it.
func (w *timerCheck) heads() error {
	c, err := w.queues.sorted()
	if err != nil {
		return err
	}
	var queue []byte
	for c.next() {
		at := len(c.key) - 8 // the number
		if bytes.Equal(queue, c.key[:at]) {
			continue
		}
		queue = append(queue[:0], c.key[:at]...)
		if err := w.numbers.add(c.key[at:], []byte{'h'}); err != nil {
			return err
		}
	}
	return c.err
}

// groups calls fn with the values of each key. They are copies.
func groups(s *sorter, fn func(key []byte, values [][]byte) error) error {
	c, err := s.sorted()
	if err != nil {
		return err
	}
	var key []byte
	var values [][]byte
	for c.next() {
		if len(values) > 0 && !bytes.Equal(key, c.key) {
			if err := fn(key, values); err != nil {
				return err
			}
			values = nil
		}
		key = append(key[:0], c.key...)
		values = append(values, bytes.Clone(c.value))
	}
	if len(values) > 0 && c.err == nil {
		return fn(key, values)
	}
	return c.err
}
