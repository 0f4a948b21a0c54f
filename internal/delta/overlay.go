package delta

import "github.com/oncemill/oncemill/internal/invariants"

// undoBytes is the memory of one step of the undo log.
const undoBytes = 8

// shrinkSlots is the index up to which a reset overlay keeps it although it was badly used.
const shrinkSlots = 1024

// undo is one step to take back: ref replaced old, or was new if old is 0.
type undo struct{ ref, old uint32 }

// Overlay is a table of writes that are not committed, with one level of rollback. It belongs to one goroutine.
//
// After Mark, an entry from before it is never changed in place, and each replacement is logged: Rollback puts the old
// references back and cuts the arena. Invariant: table.floor is the end of the arena at the mark.
type Overlay struct {
	table  Table
	log    []undo
	marked bool
	// The arena at the mark.
	chunks, last, bigs int
	used               int64
}

// NewOverlay makes an empty overlay.
func NewOverlay(pool *Pool, account *Account) *Overlay {
	return &Overlay{table: Table{pool: pool, account: account, shift: 32}}
}

// Table gives read access to the overlay's table.
func (o *Overlay) Table() *Table { return &o.table }

// Bytes is the memory that the overlay holds.
func (o *Overlay) Bytes() int64 { return o.table.bytes + int64(cap(o.log))*undoBytes }

// Get looks a key up; h is its Pool.Hash. The value is valid until the overlay changes.
func (o *Overlay) Get(h uint32, key []byte) ([]byte, State) { return o.table.Get(h, key) }

// Set writes a value, or a tombstone.
func (o *Overlay) Set(h uint32, key, value []byte, tombstone bool) error {
	ref, old, err := o.table.set(h, key, value, tombstone)
	if err != nil || ref == 0 || !o.marked {
		return err
	}
	before := cap(o.log)
	o.log = append(o.log, undo{ref, old})
	o.table.account.Add(int64(cap(o.log)-before) * undoBytes)
	return nil
}

// Mark is the point that Rollback goes back to. An earlier mark is forgotten.
func (o *Overlay) Mark() {
	t := &o.table
	for _, u := range o.log {
		if u.old != 0 {
			t.freeBig(t.at(u.old))
		}
	}
	o.log = o.log[:0]
	t.floor = 0
	if t.WantsRewrite() {
		t.Rewrite()
	}
	o.marked = true
	o.chunks, o.bigs, o.used, o.last = len(t.chunks), len(t.big), t.used, 0
	if o.chunks > 0 {
		o.last = len(t.chunks[o.chunks-1])
	}
	t.floor = t.end()
}

// Rollback undoes what was written since Mark, or everything if there was none.
func (o *Overlay) Rollback() {
	if !o.marked {
		o.Reset()
		return
	}
	if len(o.log) == 0 {
		return
	}
	for i := len(o.log) - 1; i >= 0; i-- {
		o.takeBack(o.log[i])
	}
	o.log = o.log[:0]
	o.cut(o.chunks, o.last, o.bigs)
	o.table.used = o.used
}

func (o *Overlay) takeBack(u undo) {
	t := &o.table
	key := t.key(u.ref)
	h := t.pool.Hash(key)
	slot, ref := t.find(h, key)
	invariants.Must(ref == u.ref, "delta", "the undo log has %d, the table %d", u.ref, ref)
	t.bury(u.ref, false)
	if u.old == 0 {
		t.order.remove(t, u.ref)
		t.clearSlot(slot)
		t.len--
		return
	}
	t.slots[slot] = uint64(h)<<32 | uint64(u.old)
	t.revive(u.old)
	t.order.replace(t, u.ref, u.old)
}

// cut frees what lies beyond the given ends of the arena.
func (o *Overlay) cut(chunks, last, bigs int) {
	t := &o.table
	for _, b := range t.big[bigs:] {
		t.bigBytes -= int64(cap(b))
		t.charge(-int64(cap(b)) - chunkHeader)
	}
	clear(t.big[bigs:])
	t.big = t.big[:bigs]
	for i := chunks; i < len(t.chunks); i++ {
		t.charge(-int64(cap(t.chunks[i])) - chunkHeader)
		t.pool.put(t.chunks[i])
		t.chunks[i] = nil
	}
	t.chunks = t.chunks[:chunks]
	if chunks > 0 {
		t.chunks[chunks-1] = t.chunks[chunks-1][:last]
	}
	t.version++
}

// Reset empties the overlay and forgets the mark. It keeps a first chunk and an index that was well used, so that a task
// that commits often does not allocate.
func (o *Overlay) Reset() {
	t := &o.table
	if len(t.chunks) > 0 && cap(t.chunks[0]) == chunkClasses[0] {
		o.cut(1, headerSize, 0)
	} else {
		o.cut(0, 0, 0)
	}
	if t.order != nil {
		t.order.tree.Clear()
		t.charge(-int64(t.len) * orderBytes)
	}
	switch {
	case len(t.slots) > shrinkSlots && t.len*8 < len(t.slots):
		t.charge(-int64(len(t.slots)) * 8)
		t.slots, t.shift = nil, 32
	case t.len > 0:
		clear(t.slots)
	}
	t.len, t.tombstones, t.used, t.live, t.maxEntry, t.again, t.floor = 0, 0, 0, 0, 0, false, 0
	if cap(o.log) > shrinkSlots {
		o.table.account.Add(-int64(cap(o.log)) * undoBytes)
		o.log = nil
	}
	o.log, o.marked = o.log[:0], false
	if invariants.Enabled {
		t.audit()
	}
}

// Free gives all memory back. The overlay is then empty and may be used again.
func (o *Overlay) Free() {
	o.table.Free()
	o.table.account.Add(-int64(cap(o.log)) * undoBytes)
	o.log, o.marked = nil, false
}
