package task

import "github.com/oncemill/oncemill/record"

// memory holds the bytes and headers of a transaction's outputs. They are handed to the client without a copy, so they stay
// until the transaction has ended; then the chunks are used again.
type memory struct {
	bytes   [][]byte // full chunks and, last, the current one
	free    [][]byte
	headers [][]record.Header // the ones in use, then free ones
	slab    int               // the current one of headers
	// How many of each to keep: what a transaction needed, falling slowly, so that steady work allocates nothing and a burst
	// is forgotten.
	keepBytes, keepHeaders int
}

const (
	chunkBytes   = 64 << 10
	spareBytes   = 1 << 10 // least room that buffer offers; an encoding that outgrows it has an allocation of its own
	chunkHeaders = 512
)

// buffer returns an empty slice with room behind it.
func (m *memory) buffer(need int) []byte {
	if n := len(m.bytes); n > 0 {
		if c := m.bytes[n-1]; cap(c)-len(c) >= max(need, spareBytes) {
			return c[len(c):]
		}
	}
	if need > chunkBytes {
		return make([]byte, 0, need)
	}
	var c []byte
	if n := len(m.free); n > 0 {
		c, m.free = m.free[n-1][:0], m.free[:n-1]
	} else {
		c = make([]byte, 0, chunkBytes)
	}
	m.bytes = append(m.bytes, c)
	return c
}

// keep marks b, which was appended to the last buffer, as used. An append that moved elsewhere needs nothing.
func (m *memory) keep(b []byte) {
	n := len(m.bytes)
	if n == 0 || len(b) == 0 {
		return
	}
	c := m.bytes[n-1]
	if tail := c[len(c):cap(c)]; len(tail) >= len(b) && &tail[0] == &b[0] {
		m.bytes[n-1] = c[:len(c)+len(b)]
	}
}

// copy keeps a copy of b; nil stays nil.
func (m *memory) copy(b []byte) []byte {
	if b == nil {
		return nil
	}
	out := append(m.buffer(len(b)), b...)
	m.keep(out)
	if out == nil {
		out = []byte{}
	}
	return out[:len(out):len(out)]
}

// newHeaders returns an empty slice with room for n headers.
func (m *memory) newHeaders(n int) []record.Header {
	if n > chunkHeaders {
		return make([]record.Header, 0, n)
	}
	if m.slab < len(m.headers) && cap(m.headers[m.slab])-len(m.headers[m.slab]) < n {
		m.slab++
	}
	if m.slab == len(m.headers) {
		m.headers = append(m.headers, make([]record.Header, 0, chunkHeaders))
	}
	h := m.headers[m.slab]
	m.headers[m.slab] = h[:len(h)+n]
	return h[len(h) : len(h) : len(h)+n]
}

// reset makes all of it free. The client must have let go of the outputs.
func (m *memory) reset() {
	m.keepBytes = falling(m.keepBytes, len(m.bytes))
	m.free = append(m.free, m.bytes...)
	m.free = cut(m.free, m.keepBytes)
	clear(m.bytes)
	m.bytes = m.bytes[:0]

	used := min(m.slab+1, len(m.headers))
	m.keepHeaders = falling(m.keepHeaders, used)
	for i, h := range m.headers[:used] {
		clear(h) // what they refer to
		m.headers[i] = h[:0]
	}
	m.headers, m.slab = cut(m.headers, m.keepHeaders), 0
}

// falling follows a peak at once, and what comes after it by a sixteenth at a time.
func falling(before, now int) int { return max(now, before-before/16-1) }

func cut[T any](s []T, n int) []T {
	if len(s) > n {
		clear(s[n:])
		s = s[:n]
	}
	return s
}

// size is the number of bytes in use, up to the size of a chunk.
func (m *memory) size() int64 { return int64(len(m.bytes)) * chunkBytes }
