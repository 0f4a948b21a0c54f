package delta

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/bits"
)

const (
	// MaxKey is the length of the longest key: its length is kept in 16 bits.
	MaxKey = 1<<16 - 1
	// MaxValue is the length of the longest value.
	MaxValue = 1<<31 - 1

	headerSize = 8
	// bigValue is the length from which a value gets memory of its own, which is freed as soon as it is overwritten. Smaller
	// ones waste at most a quarter of a chunk.
	bigValue   = 16 << 10
	firstSlots = 16
	// rewriteMin is the dead bytes below which a table is not worth rewriting.
	rewriteMin = chunkSize
)

const (
	flagTombstone = 1 << iota
	flagBig       // the value is in Table.big; the entry holds the index
	flagAgain     // the key has an earlier entry: its place in the order of first writes is there
)

// Errors of Set. Nothing was changed.
var (
	ErrKeyTooLong   = errors.New("delta: the key is longer than 65535 bytes")
	ErrValueTooLong = errors.New("delta: the value is longer than 2 GiB")
	ErrFull         = errors.New("delta: the table has 32 GiB")
)

// State is what a table knows of a key.
type State uint8

// Absent: ask the next older table. Deleted: there is a tombstone, ask no further.
const (
	Absent State = iota
	Present
	Deleted
)

// Table maps keys to values or tombstones. It belongs to one goroutine while it is written; afterwards any number may
// read it. A nil Table is empty.
//
// An entry in the arena is
//
//	key length 2 | flags 2 | value length 4 | key | value (or the index of a big one, 4)
//
// padded to 8 bytes. A slot is hash<<32 | reference; a reference is chunk<<13 | offset/8, and 0 is an empty slot.
// References rise with time, which is what a rollback relies on.
type Table struct {
	pool    *Pool
	account *Account

	chunks [][]byte // each cut to what is used; the last one is filled up to its capacity
	big    [][]byte
	slots  []uint64
	shift  uint8 // 32 - log2(len(slots)): the upper bits of the hash are the home slot

	len        int
	tombstones int
	used, live int64 // bytes of the arena: written, and of current entries
	bigBytes   int64
	bytes      int64 // charged. Invariant: chunks + headers + big + slots + order
	maxEntry   int
	floor      uint32 // entries below it are not overwritten in place: a rollback may need them
	again      bool   // some key has more than one entry, or was removed
	removed    struct {
		below uint64 // keys of buckets below it
		end   uint32 // whose entries lie before it
	}
	order   *order
	version uint64 // changes whenever a Cursor must find its place again
}

// NewTable makes an empty table; it takes memory at the first write.
func NewTable(pool *Pool, account *Account) *Table {
	return &Table{pool: pool, account: account, shift: 32}
}

// Len is the number of keys, tombstones included.
func (t *Table) Len() int {
	if t == nil {
		return 0
	}
	return t.len
}

// Tombstones is the number of keys that are deleted.
func (t *Table) Tombstones() int {
	if t == nil {
		return 0
	}
	return t.tombstones
}

// Bytes is the memory that the table holds.
func (t *Table) Bytes() int64 {
	if t == nil {
		return 0
	}
	return t.bytes
}

// MoveTo charges the table to another account.
func (t *Table) MoveTo(a *Account) {
	t.account.Add(-t.bytes)
	a.Add(t.bytes)
	t.account = a
}

func (t *Table) charge(n int64) {
	t.bytes += n
	t.account.Add(n)
}

// Free gives the memory back. The table is then empty, and values that it returned are gone.
func (t *Table) Free() {
	if t == nil {
		return
	}
	for _, c := range t.chunks {
		t.pool.put(c)
	}
	t.charge(-t.bytes)
	t.version++
	*t = Table{pool: t.pool, account: t.account, shift: 32, order: t.order, version: t.version}
	if t.order != nil {
		t.order.tree.Clear()
	}
}

// Get looks a key up; h is its Pool.Hash. The value is valid until the table changes.
func (t *Table) Get(h uint32, key []byte) ([]byte, State) {
	if t == nil || t.len == 0 {
		return nil, Absent
	}
	_, ref := t.find(h, key)
	if ref == 0 {
		return nil, Absent
	}
	e := t.at(ref)
	if e[2]&flagTombstone != 0 {
		return nil, Deleted
	}
	return t.value(e), Present
}

// Set writes a value, or a tombstone. The key and the value are copied.
func (t *Table) Set(h uint32, key, value []byte, tombstone bool) error {
	_, _, err := t.set(h, key, value, tombstone)
	return err
}

// set also returns the references of the new entry and of the one that it replaced: both 0 if it was overwritten in place.
func (t *Table) set(h uint32, key, value []byte, tombstone bool) (ref, old uint32, err error) {
	if len(key) > MaxKey {
		return 0, 0, ErrKeyTooLong
	}
	if len(value) > MaxValue {
		return 0, 0, ErrValueTooLong
	}
	if (t.len+1)*4 > len(t.slots)*3 {
		t.resize(max(firstSlots, len(t.slots)*2))
	}
	slot, old := t.find(h, key)
	if old != 0 && old >= t.floor && t.overwrite(old, value, tombstone) {
		return 0, 0, nil
	}
	var flags uint16
	if tombstone {
		flags, value = flagTombstone, nil
	}
	if old != 0 {
		flags |= flagAgain
	}
	if ref, err = t.appendEntry(key, value, flags); err != nil {
		return 0, 0, err
	}
	t.slots[slot] = uint64(h)<<32 | uint64(ref)
	if old == 0 {
		t.len++
	} else {
		t.bury(old, old >= t.floor)
		t.again = true
	}
	if tombstone {
		t.tombstones++
	}
	t.order.replace(t, old, ref)
	t.version++
	return ref, old, nil
}

// overwrite writes in place where the length allows it. A tombstone keeps the room of the value that it replaced.
func (t *Table) overwrite(ref uint32, value []byte, tombstone bool) bool {
	e := t.at(ref)
	was := e[2]&flagTombstone != 0
	if tombstone {
		if !was {
			t.freeBig(e)
			e[2] |= flagTombstone
			t.tombstones++
		}
		return true
	}
	if e[2]&flagBig != 0 || int(binary.LittleEndian.Uint32(e[4:])) != len(value) {
		return false
	}
	if was {
		e[2] &^= flagTombstone
		t.tombstones--
	}
	copy(t.value(e), value)
	return true
}

// bury counts an entry as dead that no slot refers to any more.
func (t *Table) bury(ref uint32, free bool) {
	e := t.at(ref)
	t.live -= int64(entrySize(e))
	if e[2]&flagTombstone != 0 {
		t.tombstones--
	}
	if free {
		t.freeBig(e)
	}
}

// revive takes bury back; a rollback does that.
func (t *Table) revive(ref uint32) {
	e := t.at(ref)
	t.live += int64(entrySize(e))
	if e[2]&flagTombstone != 0 {
		t.tombstones++
	}
}

func (t *Table) freeBig(e []byte) {
	if e[2]&flagBig == 0 {
		return
	}
	i := bigIndex(e)
	n := int64(cap(t.big[i])) // 0 if it was freed before
	t.big[i] = nil
	t.bigBytes -= n
	t.charge(-n)
}

// find returns the slot of the key and its entry, or the free slot where it belongs and 0.
func (t *Table) find(h uint32, key []byte) (slot uint64, ref uint32) {
	if len(t.slots) == 0 {
		return 0, 0
	}
	mask := uint64(len(t.slots) - 1)
	for i := t.home(h); ; i = (i + 1) & mask {
		s := t.slots[i]
		if s == 0 {
			return i, 0
		}
		if uint32(s>>32) == h && bytes.Equal(t.key(uint32(s)), key) {
			return i, uint32(s)
		}
	}
}

// home is the slot that a hash belongs to. It needs the stored bits only, so growing touches no key.
func (t *Table) home(h uint32) uint64 { return uint64(h) >> t.shift }

// resize makes room for n slots, a power of two.
func (t *Table) resize(n int) {
	old := t.slots
	t.charge(int64(n) * 8)
	t.slots = make([]uint64, n)
	t.shift = uint8(32 - bits.TrailingZeros(uint(n)))
	for _, s := range old {
		if s != 0 {
			t.place(s)
		}
	}
	t.charge(-int64(len(old)) * 8)
}

func (t *Table) place(s uint64) {
	mask := uint64(len(t.slots) - 1)
	i := t.home(uint32(s >> 32))
	for t.slots[i] != 0 {
		i = (i + 1) & mask
	}
	t.slots[i] = s
}

// clearSlot empties a slot and closes the gap, so that no search ends too early.
func (t *Table) clearSlot(i uint64) {
	mask := uint64(len(t.slots) - 1)
	for j := (i + 1) & mask; t.slots[j] != 0; j = (j + 1) & mask {
		home := t.home(uint32(t.slots[j] >> 32))
		if (j-home)&mask >= (j-i)&mask { // the entry at j may live at i
			t.slots[i] = t.slots[j]
			i = j
		}
	}
	t.slots[i] = 0
}
