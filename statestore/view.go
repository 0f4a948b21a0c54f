package statestore

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/oncemill/oncemill/internal/delta"
	"github.com/oncemill/oncemill/internal/problem"
)

// View is one store of one task as the current transaction sees it: overlay, active, frozen or clean generation, engine,
// in this order; a tombstone ends the search. It belongs to the goroutine that owns the task.
type View struct {
	// OnDelete, if set, is called by Delete before the key is deleted. The task sets it, to cancel the key's timers. After
	// an error of it nothing is deleted.
	OnDelete func(key []byte) error
	// Timed, if set, is called after each Get, Put and Delete. The task sets it for records that it samples.
	Timed func(op Op, took time.Duration)
	// MaxBytes bounds key and value together: what is larger its changelog refuses, so it fails when it is written (StateTooLarge).
	// The task sets it; before it is math.MaxInt.
	MaxBytes int

	task    *Task
	decl    *Declaration
	id      uint32
	overlay *delta.Overlay
	active  *delta.Table // nil until the generation has a key of the store
	prev    *delta.Table // F or C

	// horizon is the first live bucket, committed; pending and marked that of the open transaction and of its mark, or 0.
	horizon, pending, marked uint64
	// buckets are those of a KindMarkers store that were touched; top is above all that ever had a key in memory.
	buckets  []bucketState
	top      uint64
	topKnown bool

	engineKey []byte // the store's prefix, with room for a key
	count     struct {
		epoch uint64
		n     uint64
		known bool
	}
	spare *Iterator // a closed one, for the next
	// Scratch of the typed handles, which are shared by tasks.
	keyScratch, valueScratch []byte
}

func newView(t *Task, d *Declaration) *View {
	prefix := storePrefix(t.st.prefix, d.ID())
	v := &View{task: t, decl: d, id: d.ID(), MaxBytes: math.MaxInt, engineKey: append(make([]byte, 0, 128), prefix[:]...)}
	v.overlay = delta.NewOverlay(t.db.pool, &t.db.accounts.overlays)
	if d.Ordered || d.Kind == KindTimers || d.Kind == KindParked {
		v.overlay.Table().EnableOrder()
	}
	return v
}

func (v *View) release() {
	v.overlay.Free()
	v.forgetBuckets()
	v.active, v.prev = nil, nil
}

// Declaration is the store's declaration.
func (v *View) Declaration() *Declaration { return v.decl }

// bucketOf is the bucket of a marker's key.
func bucketOf(key []byte) uint64 {
	if len(key) < 8 {
		return 0
	}
	return binary.BigEndian.Uint64(key)
}

// firstLive is the first live bucket as this transaction sees it.
func (v *View) firstLive() uint64 { return max(v.horizon, v.pending) }

func (v *View) expired(key []byte) bool {
	live := v.firstLive()
	return live > 0 && bucketOf(key) < live
}

// setHorizon raises the committed horizon.
func (v *View) setHorizon(bucket uint64) {
	if v.decl.Kind != KindMarkers || bucket <= v.horizon {
		return
	}
	v.horizon = bucket
	v.dropExpiredBuckets()
}

func (v *View) checkKey(key []byte) error {
	if len(key) > delta.MaxKey {
		return v.refuse(key[:32], delta.ErrKeyTooLong)
	}
	if v.decl.Kind == KindMarkers && len(key) < 8 {
		return v.refuse(key, fmt.Errorf("the key of a marker begins with its bucket, 8 bytes; it has %d", len(key)))
	}
	return nil
}

func (v *View) refuse(key []byte, err error) error {
	return problem.Wrap(problem.EncodeFailed, fmt.Sprintf("store %s, key %q", v.decl.Name, key), err)
}

// Op is an operation on a store, for measurements.
type Op uint8

// Operations.
const (
	OpGet Op = iota
	OpPut
	OpDelete
)

// String returns the name used in metrics.
func (op Op) String() string { return [...]string{"get", "put", "delete"}[op] }

// Get looks a key up. The value is valid until the next call on the task, and must not be changed.
func (v *View) Get(key []byte) (value []byte, found bool, err error) {
	if v.Timed == nil {
		return v.get(key)
	}
	began := time.Now()
	value, found, err = v.get(key)
	v.Timed(OpGet, time.Since(began))
	return value, found, err
}

func (v *View) get(key []byte) (value []byte, found bool, err error) {
	if v.task.err != nil {
		return nil, false, v.task.err
	}
	if v.expired(key) {
		return nil, false, nil
	}
	h64 := v.task.db.pool.Hash64(key)
	var bucket *bucketState
	if v.decl.Kind == KindMarkers {
		if bucket, err = v.bucket(bucketOf(key)); err != nil || bucket.denies(h64) {
			return nil, false, err
		}
	}
	h := delta.TableHash(h64)
	if value, state := v.overlay.Get(h, key); state != delta.Absent {
		return value, state == delta.Present, nil
	}
	if value, state := v.active.Get(h, key); state != delta.Absent {
		return value, state == delta.Present, nil
	}
	if value, state := v.prev.Get(h, key); state != delta.Absent {
		return value, state == delta.Present, nil
	}
	if bucket != nil {
		if err := v.askEngine(bucket); err != nil || bucket.engine == none {
			return nil, false, err
		}
	}
	v.engineKey = append(v.engineKey[:storePrefixLen], key...)
	return v.task.reader.Get(v.engineKey)
}

// Put writes a key in the current transaction. Key and value are copied. A marker in an expired bucket is not seen.
func (v *View) Put(key, value []byte) error { return v.set(key, value, false) }

// Delete removes a key in the current transaction.
func (v *View) Delete(key []byte) error {
	if v.OnDelete != nil {
		if err := v.OnDelete(key); err != nil {
			return err
		}
	}
	return v.set(key, nil, true)
}

// Fits returns the error that writing a key and a value of so many bytes together would return for their size.
func (v *View) Fits(bytes int) error {
	if bytes > v.MaxBytes {
		return v.tooLarge(nil, bytes)
	}
	return nil
}

func (v *View) tooLarge(key []byte, bytes int) error {
	return problem.New(problem.StateTooLarge, fmt.Sprintf("store %s, key %q", v.decl.Name, key[:min(len(key), 32)]),
		"key and value have %d bytes, its changelog takes %d", bytes, v.MaxBytes)
}

func (v *View) set(key, value []byte, tombstone bool) error {
	if v.Timed == nil {
		return v.write(key, value, tombstone)
	}
	began, op := time.Now(), OpPut
	if tombstone {
		op = OpDelete
	}
	err := v.write(key, value, tombstone)
	v.Timed(op, time.Since(began))
	return err
}

func (v *View) write(key, value []byte, tombstone bool) error {
	t := v.task
	if t.err != nil {
		return t.err
	}
	if len(key)+len(value) > v.MaxBytes {
		return v.tooLarge(key, len(key)+len(value))
	}
	if len(key) > delta.MaxKey || v.decl.Kind == KindMarkers {
		if err := v.checkKey(key); err != nil {
			return err
		}
	}
	h, err := v.addToFilter(key)
	if err != nil {
		return err
	}
	if err := v.overlay.Set(h, key, value, tombstone); err != nil {
		return v.refuse(key[:min(len(key), 32)], err)
	}
	if v.overlay.Bytes() > t.db.cfg.MemoryBudget {
		return problem.New(problem.MemoryBudgetTooSmall, "store "+v.decl.Name, "one transaction wrote %d bytes; the budget is %d",
			v.overlay.Bytes(), t.db.cfg.MemoryBudget)
	}
	return nil
}

// ApproximateCount estimates the number of keys: what the engine estimates, plus the keys and minus the tombstones in
// memory. A key that was overwritten or deleted since its last checkpoint counts more than once, or less than none.
func (v *View) ApproximateCount() (uint64, error) {
	t := v.task
	if t.err != nil {
		return 0, t.err
	}
	if epoch := t.db.cfg.Engine.Epoch(); !v.count.known || v.count.epoch != epoch {
		prefix := storePrefix(t.st.prefix, v.id)
		lower := prefix[:]
		if v.horizon > 0 {
			lower = bucketKey(t.st.prefix, v.id, v.horizon)
		}
		n, err := t.db.cfg.Engine.ApproximateCount(lower, prefixEnd(prefix[:]))
		if err != nil {
			return 0, err
		}
		v.count.epoch, v.count.n, v.count.known = epoch, n, true
	}
	n := int64(v.count.n)
	tables := []*delta.Table{v.overlay.Table(), v.active}
	if f := t.st.frozen; f != nil && f.ingested.Load() == 0 {
		tables = append(tables, v.prev)
	}
	for _, table := range tables {
		n += int64(table.Len() - 2*table.Tombstones())
	}
	return uint64(max(0, n)), nil
}
