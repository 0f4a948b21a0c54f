package topology

import (
	"unicode/utf8"
	"unsafe"

	"github.com/oncemill/oncemill/serde"
)

// decoderOf is the Decode of a serde for one source of one task. For plain strings and bytes, whose decoding is a copy and
// nothing else, several copies share one allocation.
func decoderOf[T any](s serde.Serde[T]) func(b []byte) (T, error) {
	var decode any
	switch any(s) {
	case any(serde.String()):
		var c copies
		plain := serde.String()
		decode = func(b []byte) (string, error) {
			if b == nil || !utf8.Valid(b) {
				return plain.Decode(b) // the error
			}
			b = c.of(b)
			return unsafe.String(unsafe.SliceData(b), len(b)), nil // nobody else has these bytes
		}
	case any(serde.Bytes()):
		var c copies
		decode = func(b []byte) ([]byte, error) {
			if b == nil {
				return nil, nil
			}
			return c.of(b), nil
		}
	default:
		return s.Decode
	}
	return decode.(func(b []byte) (T, error))
}

// copies makes copies that share their memory, which is never used again: user code may keep them. A copy that is kept holds
// its whole chunk, so chunks are small.
type copies struct{ rest []byte }

const copyChunk = 2 << 10

func (c *copies) of(b []byte) []byte {
	if len(b) > copyChunk/4 {
		return append(make([]byte, 0, len(b)), b...)
	}
	if len(b) > len(c.rest) || c.rest == nil {
		c.rest = make([]byte, copyChunk)
	}
	n := copy(c.rest, b)
	out := c.rest[:n:n]
	c.rest = c.rest[n:]
	return out
}
