package delta

import (
	"bytes"
	"encoding/binary"
	"slices"
)

// Ref names an entry for the time in which the table does not change. Prefix orders most pairs of keys without a look at
// them.
type Ref struct {
	prefix uint64
	ref    uint32
}

// RefBytes is the memory of one Ref.
const RefBytes = 16

// Sorted returns all entries in key order. It only reads the table.
func (t *Table) Sorted() []Ref {
	if t.Len() == 0 {
		return nil
	}
	refs := t.refs()
	skip := t.commonPrefix(refs)
	for i := range refs {
		refs[i].prefix = keyPrefix(t.key(refs[i].ref)[skip:])
	}
	t.sortRefs(refs, 56, skip)
	return refs
}

// refs returns all entries, where possible in the order in which they lie in memory: those of a large table are in no cache.
func (t *Table) refs() []Ref {
	refs := make([]Ref, 0, t.len)
	if t.again { // some are dead
		for _, s := range t.slots {
			if s != 0 {
				refs = append(refs, Ref{ref: uint32(s)})
			}
		}
		return refs
	}
	for i, c := range t.chunks {
		off := 0
		if i == 0 {
			off = headerSize
		}
		for off < len(c) {
			refs = append(refs, Ref{ref: uint32(i)<<refShift | uint32(off>>3)})
			off += entrySize(c[off:])
		}
	}
	return refs
}

// fewRefs are sorted faster by comparing.
const fewRefs = 48

// sortRefs sorts by the byte of the prefix that lies at shift, in place, and what shares that byte by the next one (the American
// flag sort of McIlroy, Bostic and McIlroy 1993). All keys share their first skip bytes.
func (t *Table) sortRefs(refs []Ref, shift, skip int) {
	if len(refs) <= fewRefs || shift < 0 {
		t.compareRefs(refs, skip)
		return
	}
	var ends [256]uint32
	for i := range refs {
		ends[uint8(refs[i].prefix>>shift)]++
	}
	var next [256]uint32
	sum := uint32(0)
	for b, n := range ends {
		next[b] = sum
		sum += n
		ends[b] = sum
	}
	for b := range next {
		for next[b] < ends[b] {
			r := refs[next[b]]
			to := uint8(r.prefix >> shift)
			for int(to) != b { // what lies where r belongs is the next to be moved
				refs[next[to]], r = r, refs[next[to]]
				next[to]++
				to = uint8(r.prefix >> shift)
			}
			refs[next[b]] = r
			next[b]++
		}
	}
	from := uint32(0)
	for _, end := range ends {
		if end-from > 1 {
			t.sortRefs(refs[from:end], shift-8, skip)
		}
		from = end
	}
}

func (t *Table) compareRefs(refs []Ref, skip int) {
	slices.SortFunc(refs, func(a, b Ref) int {
		if a.prefix != b.prefix {
			if a.prefix < b.prefix {
				return -1
			}
			return 1
		}
		return bytes.Compare(t.key(a.ref)[skip:], t.key(b.ref)[skip:])
	})
}

// commonPrefix is the length of the prefix that all keys share: markers of one bucket share its 8 bytes.
func (t *Table) commonPrefix(refs []Ref) int {
	first := t.key(refs[0].ref)
	n := len(first)
	for _, r := range refs[1:] {
		k := t.key(r.ref)
		n = min(n, len(k))
		i := 0
		for i < n && k[i] == first[i] {
			i++
		}
		n = i
	}
	return n
}

// At returns the entry of a Ref. The slices are valid until the table changes.
func (t *Table) At(r Ref) (key, value []byte, tombstone bool) { return t.entry(t.at(r.ref)) }

// keyPrefix is the first 8 bytes of a key, padded with zeros: it never orders two keys the wrong way.
func keyPrefix(key []byte) uint64 {
	if len(key) >= 8 {
		return binary.BigEndian.Uint64(key)
	}
	var b [8]byte
	copy(b[:], key)
	return binary.BigEndian.Uint64(b[:])
}
