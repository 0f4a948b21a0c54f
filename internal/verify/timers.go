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
	orders  *sorter // due key -> is it the due entry, identity
	wanted  *sorter // store, key -> identity
	queues  *sorter // entries of queues, in the order in which each is worked off
	numbers *sorter // number of a parked record -> 'p', 'q' or 't'; 'h' at the head of its queue
}

func (r *run) newTimerCheck(t *taskCut) *timerCheck {
	return &timerCheck{r: r, t: t, orders: newSorter(r.dir), wanted: newSorter(r.dir), queues: newSorter(r.dir), numbers: newSorter(r.dir)}
}

func (w *timerCheck) close() {
	for _, s := range []*sorter{w.orders, w.wanted, w.queues, w.numbers} {
		_ = s.close() // files without a name
	}
}

func (w *timerCheck) place(store string) string {
	return fmt.Sprintf("task %s, store %s", w.t.id, store)
}

func (w *timerCheck) timer(st *graph.Store, key, value []byte) error {
	k, err := task.ReadTimerKey(key, value)
	if err != nil {
		w.r.found(CheckTimers, problem.FindingState, w.place(st.Name), "key %s: %v", excerpt(key), err)
		return nil
	}
	due := byte(0)
	if k.Due {
		due = 1
	}
	if err := w.orders.add(k.Order[:], append([]byte{due}, k.Identity...)); err != nil || k.Due {
		return err
	}
	if parked := w.t.sub.ByKind(statestore.KindParked, -1); parked != nil && parked.ID() == k.Store && len(k.Key) == 9 {
		if err := w.numbers.add(k.Key[1:], []byte{'t'}); err != nil {
			return err
		}
	}
	return w.wanted.add(append(binary.BigEndian.AppendUint32(nil, k.Store), k.Key...), k.Identity)
}

func (w *timerCheck) parked(st *graph.Store, key, value []byte) error {
	p, err := task.ReadParked(key, value)
	if err != nil {
		w.r.found(CheckTimers, problem.FindingState, w.place(st.Name), "key %s: %v", excerpt(key), err)
		return nil
	}
	number := binary.BigEndian.AppendUint64(nil, p.Number)
	if p.Queued {
		return errors.Join(w.queues.add(key, nil), w.numbers.add(number, []byte{'q'}))
	}
	if err := w.numbers.add(number, []byte{'p'}); err != nil {
		return err
	}
	n := w.r.Plan.Node(p.Source)
	if n == nil || n.Dedup == nil {
		return nil
	}
	trace := w.t.guards[n.Index].Trace(&p.Record, dedup.FromParked)
	return w.r.identities.add(identityKey(n.Index, w.t.id.Partition, trace.ID, kindParked, p.Record.Offset), []byte(p.Record.Position.String()))
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
		for more && (bytes.Compare(have.key, key) < 0) {
			more = have.next()
		}
		w.r.check(CheckTimers).Checked++
		if !more || !bytes.Equal(have.key, key) || !have.present {
			w.r.found(CheckTimers, problem.FindingState, w.place(st.Name), "a timer is set on the key %s, which has no state", excerpt(key))
		}
	}
	return errors.Join(want.err, have.err)
}

func (w *timerCheck) judge() error {
	if err := groups(w.orders, func(key []byte, values [][]byte) {
		if len(values) == 2 && values[0][0] != values[1][0] && bytes.Equal(values[0][1:], values[1][1:]) {
			return
		}
		w.r.found(CheckTimers, problem.FindingState, w.place("timers"), "the timer with the due key %x has %d of its two keys", key, len(values))
	}); err != nil {
		return err
	}
	if err := w.heads(); err != nil {
		return err
	}
	return groups(w.numbers, func(key []byte, values [][]byte) {
		w.r.check(CheckTimers).Checked++
		has := func(what byte) bool { return bytes.IndexByte(bytes.Join(values, nil), what) >= 0 }
		record, timer, behind := has('p'), has('t'), has('q') && !has('h')
		if !record || !timer && !behind {
			w.r.found(CheckTimers, problem.FindingState, w.place("parked records"),
				"number %d: record %t, timer %t, place behind another in a queue %t", binary.BigEndian.Uint64(key), record, timer, behind)
		}
	})
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
func groups(s *sorter, fn func(key []byte, values [][]byte)) error {
	c, err := s.sorted()
	if err != nil {
		return err
	}
	var key []byte
	var values [][]byte
	for c.next() {
		if len(values) > 0 && !bytes.Equal(key, c.key) {
			fn(key, values)
			values = nil
		}
		key = append(key[:0], c.key...)
		values = append(values, bytes.Clone(c.value))
	}
	if len(values) > 0 {
		fn(key, values)
	}
	return c.err
}
