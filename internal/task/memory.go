package task

import "github.com/oncemill/oncemill/record"

// memory holds the bytes and headers of a transaction's outputs. They are handed to the client without a copy, so they stay
// until the transaction has ended; then the chunks are used again.
type memory struct {
	bytes   [][]byte // full chunks and, last, the current one
	headers [][]record.Header
	free    [][]byte
	slabs   [][]record.Header // free, cleared
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
	last := len(m.headers) - 1
	if last < 0 || cap(m.headers[last])-len(m.headers[last]) < n {
		m.headers = append(m.headers, m.slab(n))
		last++
	}
	h := m.headers[last]
	m.headers[last] = h[:len(h)+n]
	return h[len(h) : len(h) : len(h)+n]
}

func (m *memory) slab(n int) []record.Header {
	if last := len(m.slabs) - 1; last >= 0 && n <= chunkHeaders {
		s := m.slabs[last]
		m.slabs = m.slabs[:last]
		return s
	}
	return make([]record.Header, 0, max(chunkHeaders, n))
}

// reset makes all of it free. The client must have let go of the outputs.
func (m *memory) reset() {
	const (
		keepChunks = 64 // 4 MiB of idle memory at most
		keepSlabs  = 64 // 1.3 MiB
	)
	for _, c := range m.bytes {
		if len(m.free) < keepChunks {
			m.free = append(m.free, c)
		}
	}
	clear(m.bytes)
	m.bytes = m.bytes[:0]
	for _, h := range m.headers {
		if len(m.slabs) < keepSlabs && cap(h) == chunkHeaders {
			clear(h) // it must not keep the records' headers alive
			m.slabs = append(m.slabs, h[:0])
		}
	}
	clear(m.headers)
	m.headers = m.headers[:0]
}

// size is the number of bytes in use, up to the size of a chunk.
func (m *memory) size() int64 { return int64(len(m.bytes)) * chunkBytes }
