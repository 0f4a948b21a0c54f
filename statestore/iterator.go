package statestore

import (
	"bytes"
	"errors"

	"github.com/oncemill/oncemill/internal/delta"
)

// ErrIteratorOver is the error of an iterator that was moved after the transaction that it was opened in.
var ErrIteratorOver = errors.New("statestore: the iterator outlived its transaction")

// sources are the tables that an iterator merges, newest first; the engine comes after them.
const sources = 3

// Iterator walks over a view in key order, over overlay, generations and engine at once.
//
// Put and Delete are allowed while it is open: it goes on behind the key that it stands on, and meets keys ahead as they
// then are. Everything else that changes the task (Rollback, Apply, Discard, a freeze, Tick, Drop, Release) ends it with
// ErrIteratorOver.
type Iterator struct {
	view     *View
	from, to []byte // to nil: no bound
	reverse  bool
	epoch    uint64
	tables   [sources]*delta.Table
	cursors  [sources]delta.Cursor
	at       [sources]bool // the cursor stands on a key
	engine   Cursor
	atEngine bool
	started  bool
	done     bool
	key      []byte // a copy: the place survives any write
	value    []byte
	err      error
}

// Iterate opens an iterator over [from, to), from the first key or, if reverse, from the last one; nil means no bound. It must
// be closed. The first one of a store builds the order of its tables in memory, which they keep from then on.
func (v *View) Iterate(from, to []byte, reverse bool) *Iterator {
	it := v.spare
	v.spare = nil
	if it == nil {
		it = &Iterator{view: v}
	}
	t := v.task
	it.from, it.to = append(it.from[:0], from...), nil
	if to != nil {
		it.to = append([]byte{}, to...)
	}
	if live := v.firstLive(); live > bucketOf(it.from) {
		it.from = append(it.from[:0], bucketKey(t.st.prefix, v.id, live)[storePrefixLen:]...)
	}
	it.reverse, it.epoch, it.err = reverse, t.epoch, t.err
	it.started, it.value, it.key = false, nil, it.key[:0]
	it.done = it.err != nil || it.to != nil && bytes.Compare(it.from, it.to) >= 0
	if it.done {
		return it
	}
	it.tables = [sources]*delta.Table{v.overlay.Table(), v.active, v.prev}
	for i := range it.tables {
		it.cursors[i].Init(it.tables[i])
	}
	it.openEngine()
	return it
}

func (it *Iterator) openEngine() {
	v := it.view
	prefix := storePrefix(v.task.st.prefix, v.id)
	lower := append(prefix[:], it.from...)
	upper := prefixEnd(prefix[:])
	if it.to != nil {
		upper = append(append([]byte{}, prefix[:]...), it.to...)
	}
	c, err := v.task.reader.Cursor(lower, upper)
	if err != nil {
		it.end(err)
		return
	}
	it.engine = c
	v.task.iterators++
}

// Next moves on and reports whether there is a key. After false, Err tells an error from the end.
func (it *Iterator) Next() bool {
	if it.done {
		return false
	}
	if it.epoch != it.view.task.epoch {
		return it.end(ErrIteratorOver)
	}
	for {
		it.view.task.iteratorSteps++
		for i := range it.cursors {
			it.moveTable(i)
		}
		it.moveEngine()
		if it.engine.Err() != nil {
			return it.end(it.engine.Err())
		}
		it.started = true
		found, tombstone := it.pick()
		if !found || it.err != nil {
			return it.end(it.err)
		}
		if !tombstone && !it.view.expired(it.key) {
			return true
		}
	}
}

func (it *Iterator) end(err error) bool {
	it.done, it.err = true, err
	return false
}

// moveTable brings a cursor behind the current key.
func (it *Iterator) moveTable(i int) {
	c := &it.cursors[i]
	switch {
	case !it.started:
		it.at[i] = it.seekFirst(c)
	case c.Stale():
		it.at[i] = it.seekBehind(c)
	case it.at[i]:
		if key, _, _ := c.Entry(); bytes.Equal(key, it.key) {
			it.at[i] = it.step(c)
		}
	}
}

func (it *Iterator) seekFirst(c *delta.Cursor) bool {
	switch {
	case !it.reverse:
		return c.SeekGE(it.from)
	case it.to == nil:
		return c.Last()
	default:
		return c.SeekLT(it.to)
	}
}

func (it *Iterator) seekBehind(c *delta.Cursor) bool {
	if it.reverse {
		return c.SeekLT(it.key)
	}
	if !c.SeekGE(it.key) {
		return false
	}
	if key, _, _ := c.Entry(); bytes.Equal(key, it.key) {
		return c.Next()
	}
	return true
}

func (it *Iterator) step(c *delta.Cursor) bool {
	if it.reverse {
		return c.Prev()
	}
	return c.Next()
}

func (it *Iterator) moveEngine() {
	prefix := storePrefix(it.view.task.st.prefix, it.view.id)
	switch {
	case !it.started && it.reverse:
		it.atEngine = it.engine.SeekLT(prefixEnd(prefix[:]))
	case !it.started:
		it.atEngine = it.engine.SeekGE(prefix[:])
	case it.atEngine && bytes.Equal(it.engine.Key()[storePrefixLen:], it.key):
		if it.reverse {
			it.atEngine = it.engine.Prev()
		} else {
			it.atEngine = it.engine.Next()
		}
	}
}

// pick takes the nearest key of all sources, from the newest source that has it.
func (it *Iterator) pick() (found, tombstone bool) {
	var key []byte
	for i := range it.cursors {
		if !it.at[i] {
			continue
		}
		k, v, deleted := it.cursors[i].Entry()
		if it.outside(k) {
			it.at[i] = false
		} else if !found || it.before(k, key) {
			found, key, it.value, tombstone = true, k, v, deleted
		}
	}
	if it.atEngine {
		if k := it.engine.Key()[storePrefixLen:]; !found || it.before(k, key) {
			found, key, tombstone = true, k, false
			it.value, it.err = it.engine.Value()
		}
	}
	it.key = append(it.key[:0], key...)
	return found, tombstone
}

func (it *Iterator) outside(key []byte) bool {
	if it.reverse {
		return bytes.Compare(key, it.from) < 0
	}
	return it.to != nil && bytes.Compare(key, it.to) >= 0
}

func (it *Iterator) before(a, b []byte) bool {
	if it.reverse {
		return bytes.Compare(a, b) > 0
	}
	return bytes.Compare(a, b) < 0
}

// Key is the current key, valid until the next move.
func (it *Iterator) Key() []byte { return it.key }

// Value is the value of the current key, valid until the next call on the task.
func (it *Iterator) Value() []byte { return it.value }

// Err is the error that ended the iteration, if any.
func (it *Iterator) Err() error { return it.err }

// Close releases the iterator, which must not be used afterwards. Its error, if any, is that of Err.
func (it *Iterator) Close() {
	if it.engine != nil {
		if err := it.engine.Close(); it.err == nil {
			it.err = err
		}
		it.engine = nil
		it.view.task.iterators--
	}
	if it.view.spare == nil && it.err == nil {
		it.tables = [sources]*delta.Table{}
		it.view.spare = it
	}
	it.done = true
}
