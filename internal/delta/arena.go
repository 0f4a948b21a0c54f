package delta

import "encoding/binary"

// The arena of a table: entries, one behind the other, in chunks. See Table for the layout.

// appendEntry writes a new entry at the end of the arena.
func (t *Table) appendEntry(key, value []byte, flags uint16) (uint32, error) {
	if len(value) >= bigValue {
		b := make([]byte, len(value))
		copy(b, value)
		ref, err := t.appendBig(key, b, flags)
		if err == nil {
			t.charge(int64(cap(b)))
		}
		return ref, err
	}
	ref, e, err := t.alloc(headerSize + len(key) + len(value))
	if err != nil {
		return 0, err
	}
	putHeader(e, key, len(value), flags)
	copy(e[headerSize+len(key):], value)
	return ref, nil
}

// appendBig writes an entry whose value is b itself. The caller has charged b, or does.
func (t *Table) appendBig(key, b []byte, flags uint16) (uint32, error) {
	ref, e, err := t.alloc(headerSize + len(key) + 4)
	if err != nil {
		return 0, err
	}
	putHeader(e, key, len(b), flags|flagBig)
	binary.LittleEndian.PutUint32(e[headerSize+len(key):], uint32(len(t.big)))
	t.big = append(t.big, b)
	t.bigBytes += int64(cap(b))
	t.charge(chunkHeader)
	return ref, nil
}

func putHeader(e, key []byte, valueLen int, flags uint16) {
	binary.LittleEndian.PutUint16(e, uint16(len(key)))
	binary.LittleEndian.PutUint16(e[2:], flags)
	binary.LittleEndian.PutUint32(e[4:], uint32(valueLen))
	copy(e[headerSize:], key)
}

// alloc returns room for an entry of at least size bytes at the end of the arena.
func (t *Table) alloc(size int) (uint32, []byte, error) {
	size = (size + 7) &^ 7
	last := len(t.chunks) - 1
	if last < 0 || len(t.chunks[last])+size > cap(t.chunks[last]) {
		if len(t.chunks) == maxChunks {
			return 0, nil, ErrFull
		}
		t.addChunk(size)
		last++
	}
	c := t.chunks[last]
	off := len(c)
	t.chunks[last] = c[:off+size]
	t.used += int64(size)
	t.live += int64(size)
	t.maxEntry = max(t.maxEntry, size)
	return uint32(last)<<refShift | uint32(off>>3), c[off : off+size], nil
}

func (t *Table) addChunk(size int) {
	class, used, bytes := t.nextChunk(size)
	var c []byte
	if bytes == chunkClasses[class] {
		c = t.pool.get(class)
	} else {
		c = make([]byte, bytes)
	}
	t.chunks = append(t.chunks, c[:used])
	t.charge(int64(cap(c)) + chunkHeader)
}

// nextChunk is the class and the size of a chunk that begins with an entry of size bytes, behind the bytes used.
func (t *Table) nextChunk(size int) (class, used, bytes int) {
	if len(t.chunks) == 0 {
		used = headerSize // so that no reference is 0
	}
	class = chunkClass(len(t.chunks))
	for class < len(chunkClasses)-1 && used+size > chunkClasses[class] {
		class++
	}
	return class, used, max(chunkClasses[class], used+size) // one entry of a key may be nearly as long as a chunk
}

// end is a reference above all entries and not above the next one.
func (t *Table) end() uint32 {
	if len(t.chunks) == 0 {
		return 1
	}
	last := len(t.chunks) - 1
	return min(uint32(last)<<refShift|uint32(len(t.chunks[last])>>3), uint32(len(t.chunks))<<refShift)
}

func (t *Table) at(ref uint32) []byte {
	return t.chunks[ref>>refShift][(ref&(1<<refShift-1))<<3:]
}

func (t *Table) key(ref uint32) []byte {
	e := t.at(ref)
	n := headerSize + int(binary.LittleEndian.Uint16(e))
	return e[headerSize:n:n]
}

// entry returns what an entry holds. The slices are valid until the table changes.
func (t *Table) entry(e []byte) (key, value []byte, tombstone bool) {
	n := headerSize + int(binary.LittleEndian.Uint16(e))
	if e[2]&flagTombstone != 0 {
		return e[headerSize:n:n], nil, true
	}
	return e[headerSize:n:n], t.value(e), false
}

func (t *Table) value(e []byte) []byte {
	if e[2]&flagBig != 0 {
		return t.big[bigIndex(e)]
	}
	from := headerSize + int(binary.LittleEndian.Uint16(e))
	to := from + int(binary.LittleEndian.Uint32(e[4:]))
	return e[from:to:to]
}

func bigIndex(e []byte) uint32 {
	return binary.LittleEndian.Uint32(e[headerSize+int(binary.LittleEndian.Uint16(e)):])
}

func entrySize(e []byte) int {
	n := headerSize + int(binary.LittleEndian.Uint16(e))
	if e[2]&flagBig != 0 {
		n += 4
	} else {
		n += int(binary.LittleEndian.Uint32(e[4:]))
	}
	return (n + 7) &^ 7
}
