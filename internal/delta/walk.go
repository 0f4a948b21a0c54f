package delta

import (
	"encoding/binary"
	"math/bits"

	"github.com/oncemill/oncemill/internal/invariants"
)

// Each calls fn with every key in the order of first writes, until fn returns false. The slices are valid until the table
// changes. The order depends on the writes only, never on the hash.
func (t *Table) Each(fn func(key, value []byte, tombstone bool) bool) {
	t.eachEntry(func(e []byte) bool { return fn(t.entry(e)) })
}

// eachEntry calls fn with the current entry of every key, in the order of first writes.
func (t *Table) eachEntry(fn func(e []byte) bool) {
	if t == nil || t.len == 0 {
		return
	}
	for i, c := range t.chunks {
		off := 0
		if i == 0 {
			off = headerSize
		}
		for off < len(c) {
			e, from := c[off:], off
			off += entrySize(e)
			if t.again {
				if t.wasRemoved(e, uint32(i)<<refShift|uint32(from>>3)) {
					continue
				}
				if e = t.current(e); e == nil {
					continue
				}
			}
			if !fn(e) {
				return
			}
		}
	}
}

// current returns the entry that now stands for the key that was first written in e; nil if e is not a first one or the
// key was removed.
func (t *Table) current(e []byte) []byte {
	if e[2]&flagAgain != 0 {
		return nil
	}
	key := e[headerSize : headerSize+int(binary.LittleEndian.Uint16(e))]
	_, ref := t.find(t.pool.Hash(key), key)
	if ref == 0 {
		return nil
	}
	return t.at(ref)
}

// Growth is an upper bound of the memory that Merge of src takes, at its peak.
func (t *Table) Growth(src *Table) int64 {
	if src.Len() == 0 {
		return 0
	}
	growth := t.arenaGrowth(src)
	growth += src.bigBytes + int64(len(src.big))*chunkHeader
	if n := slotsFor(t.len + src.len); n > len(t.slots) {
		growth += int64(n) * 8
	}
	if t.order != nil {
		growth += int64(src.len) * orderBytes
	}
	return growth
}

// SetGrowth is an upper bound of the memory that Set takes, at its peak.
func (t *Table) SetGrowth(key, value []byte) int64 {
	var growth int64
	if (t.len+1)*4 > len(t.slots)*3 {
		growth = int64(max(firstSlots, len(t.slots)*2)) * 8
	}
	size := headerSize + len(key) + len(value)
	if len(value) >= bigValue {
		growth += int64(len(value)) + chunkHeader
		size = headerSize + len(key) + 4
	}
	size = (size + 7) &^ 7
	if last := len(t.chunks) - 1; last < 0 || len(t.chunks[last])+size > cap(t.chunks[last]) {
		_, _, bytes := t.nextChunk(size)
		growth += int64(bytes) + chunkHeader
	}
	if t.order != nil {
		growth += orderBytes
	}
	return growth
}

// arenaGrowth bounds the chunks that the entries of src need.
func (t *Table) arenaGrowth(src *Table) int64 {
	if src.maxEntry > chunkSize/2 { // two chunks in a row hold at least the bytes of one
		return (2*src.live/chunkSize+3)*(chunkSize+chunkHeader) + src.live
	}
	// At the end of each chunk less than maxEntry is unused, the chunk at hand included.
	need := src.live + headerSize + int64(src.maxEntry)
	n := len(t.chunks)
	if n > 0 {
		need -= int64(cap(t.chunks[n-1]) - len(t.chunks[n-1]))
	}
	var growth int64
	for ; need > 0; n++ {
		size := chunkClasses[chunkClass(n)]
		growth += int64(size) + chunkHeader
		need -= int64(max(0, size-src.maxEntry-headerSize)) // a small first chunk may hold next to nothing
	}
	return growth
}

// Merge writes every key of src. It can fail only with ErrFull, which CanMerge excludes.
func (t *Table) Merge(src *Table) error {
	if src.Len() == 0 {
		return nil
	}
	if n := slotsFor(t.len + src.len); n > len(t.slots) {
		t.resize(n)
	}
	var batch [Together]merging
	n, err := 0, error(nil)
	flush := func() bool {
		t.askForSlots(batch[:n])
		for _, m := range batch[:n] {
			key, value, tombstone := src.entry(m.entry)
			if err = t.Set(m.hash, key, value, tombstone); err != nil {
				return false
			}
		}
		n = 0
		return true
	}
	src.eachEntry(func(e []byte) bool {
		batch[n] = merging{e, t.pool.Hash(e[headerSize : headerSize+int(binary.LittleEndian.Uint16(e))])}
		n++
		return n < Together || flush()
	})
	if err == nil {
		flush()
	}
	return err
}

// merging is an entry on its way into another table.
type merging struct {
	entry []byte
	hash  uint32
}

// CanMerge reports that the references suffice for src.
func (t *Table) CanMerge(src *Table) bool { return len(t.chunks)+2*len(src.chunks)+1 < maxChunks }

// slotsFor is the number of slots in which n keys have a load of at most 3/4.
func slotsFor(n int) int {
	need := max(firstSlots, (n*4+2)/3)
	return 1 << bits.Len(uint(need-1))
}

// WantsRewrite reports that half of the arena is dead.
func (t *Table) WantsRewrite() bool {
	return t != nil && t.used-t.live >= rewriteMin && t.used > 2*t.live
}

// RewriteGrowth is an upper bound of the memory that Rewrite takes until it is done.
func (t *Table) RewriteGrowth() int64 {
	return t.live + t.live/2 + 2*chunkSize + int64(slotsFor(t.len))*8 + int64(t.len)*orderBytes
}

// Rewrite copies the live entries to a new arena and lets the old one go. Values that the table returned are gone.
func (t *Table) Rewrite() {
	n := NewTable(t.pool, t.account)
	n.version = t.version + 1
	n.resize(slotsFor(t.len))
	t.eachEntry(func(e []byte) bool {
		n.adopt(t, e)
		return true
	})
	ordered := t.order != nil
	for _, c := range t.chunks {
		t.pool.put(c)
	}
	t.charge(-(t.bytes - t.bigBytes)) // the big values go over to n, which has not charged them
	n.bytes += t.bigBytes
	*t = *n
	if ordered {
		t.EnableOrder()
	}
}

// adopt takes over an entry of another table, its big value without copying it.
func (t *Table) adopt(from *Table, e []byte) {
	key := e[headerSize : headerSize+int(binary.LittleEndian.Uint16(e))]
	var ref uint32
	var err error
	switch {
	case e[2]&flagTombstone != 0:
		ref, err = t.appendEntry(key, nil, flagTombstone)
		t.tombstones++
	case e[2]&flagBig != 0:
		ref, err = t.appendBig(key, from.value(e), 0)
	default:
		ref, err = t.appendEntry(key, from.value(e), 0)
	}
	invariants.Must(err == nil, "delta", "rewriting a table into less room failed: %v", err)
	t.place(uint64(t.pool.Hash(key))<<32 | uint64(ref))
	t.len++
}

// RemoveGrowth is the memory that RemoveBelow takes until it is done.
func (t *Table) RemoveGrowth() int64 {
	if t.Len() == 0 {
		return 0
	}
	return int64(len(t.slots)) * 8
}

// RemoveBelow removes, without tombstones, every key whose first 8 bytes, big-endian, are below bucket, which never falls.
func (t *Table) RemoveBelow(bucket uint64) {
	if t.Len() == 0 {
		return
	}
	t.removed.below, t.removed.end = max(bucket, t.removed.below), t.end()
	old := t.slots
	t.charge(int64(len(old)) * 8)
	t.slots = make([]uint64, len(old))
	for _, s := range old {
		if s == 0 {
			continue
		}
		ref := uint32(s)
		if key := t.key(ref); len(key) >= 8 && binary.BigEndian.Uint64(key) < bucket {
			t.order.remove(t, ref)
			t.bury(ref, true)
			t.len--
			t.again = true
			continue
		}
		t.place(s)
	}
	t.charge(-int64(len(old)) * 8)
	t.version++
}

// wasRemoved reports that RemoveBelow removed the entry. Its key may have been written again since.
func (t *Table) wasRemoved(e []byte, ref uint32) bool {
	if ref >= t.removed.end || binary.LittleEndian.Uint16(e) < 8 {
		return false
	}
	return binary.BigEndian.Uint64(e[headerSize:]) < t.removed.below
}

// audit recomputes what the table counts as it goes, and panics on a difference.
func (t *Table) audit() {
	bytes := int64(len(t.slots))*8 + t.bigBytes + int64(len(t.big))*chunkHeader
	var big int64
	for _, b := range t.big {
		big += int64(cap(b))
	}
	for _, c := range t.chunks {
		bytes += int64(cap(c)) + chunkHeader
	}
	if t.order != nil {
		bytes += int64(t.len) * orderBytes
		invariants.Must(t.order.tree.Len() == t.len, "delta", "order has %d keys, table %d", t.order.tree.Len(), t.len)
	}
	n, tombstones, live := 0, 0, int64(0)
	for _, s := range t.slots {
		if s != 0 {
			e := t.at(uint32(s))
			n++
			live += int64(entrySize(e))
			tombstones += int(e[2] & flagTombstone)
		}
	}
	invariants.Must(n == t.len && live == t.live && tombstones == t.tombstones && bytes == t.bytes && big == t.bigBytes,
		"delta", "counted %d keys, %d tombstones, %d live, %d bytes, %d big; found %d, %d, %d, %d, %d",
		t.len, t.tombstones, t.live, t.bytes, t.bigBytes, n, tombstones, live, bytes, big)
}
