package dedup

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"

	"github.com/cespare/xxhash/v2"
)

// Sizes of hashes. 128 bits of SHA-256 are collision-resistant enough that an id from outside cannot be made to collide
// with someone else's command; the body hash only tells a careless producer from a correct one, 64 bits of a fast hash do.
const (
	hashBytes = 16
	bodyBytes = 8
)

// Domains keep hashes of different things apart, whatever their content. They are durable: never reuse a number.
const (
	domainAnonymous = 2  // scope, kind, content
	domainRefusal   = 3  // scope, kind, id, content, replay number
	domainContent   = 4  // key, value
	domainMessage   = 5  // application, scope, kind, id: the marker's key and the cause
	domainPosition  = 6  // application, scope, topic id, partition
	domainTimer     = 7  // application, store, key, name, number
	domainOutput    = 8  // node, number
	domainNewID     = 9  // cause, node, number
	domainSeed      = 10 // cause, node
)

// fields is the input of one hash: a domain byte, then every field behind its length, so that no two lists of fields give
// one stream of bytes ("ab","c" and "a","bc"). Its methods return the longer slice, as append does: a pointer receiver
// would move the callers' arrays to the heap.
type fields []byte

func (f fields) domain(d byte) fields { return append(f[:0], d) }

func (f fields) bytes(b []byte) fields {
	return append(binary.AppendUvarint(f, uint64(len(b))), b...)
}

func (f fields) string(s string) fields {
	return append(binary.AppendUvarint(f, uint64(len(s))), s...)
}

func (f fields) number(n uint64) fields { return binary.BigEndian.AppendUint64(f, n) }

// short is the hash in the length of marker keys.
func (f fields) short() [hashBytes]byte {
	sum := sha256.Sum256(f)
	return [hashBytes]byte(sum[:hashBytes])
}

// contentHasher hashes key and value without copying them; it is reused from record to record and allocates nothing.
type contentHasher struct {
	sha   hash.Hash
	fast  xxhash.Digest
	frame [1 + 2*binary.MaxVarintLen64]byte
	sum   [sha256.Size]byte
}

func newContentHasher() *contentHasher { return &contentHasher{sha: sha256.New()} }

// of is the hash of key and value, and of nothing else. Both lengths come first, as length+1, with 0 for Kafka's null.
func (h *contentHasher) of(key, value []byte) [hashBytes]byte {
	h.sha.Reset()
	// A hash.Hash never returns an error.
	_, _ = h.sha.Write(h.framing(key, value))
	_, _ = h.sha.Write(key)
	_, _ = h.sha.Write(value)
	return [hashBytes]byte(h.sha.Sum(h.sum[:0])[:hashBytes])
}

// body is what conflicts are recognised by: XXH64 of the same bytes as of, and of what a header carries behind them. It is not
// made to resist a forger, who could only turn a conflict of his own into a duplicate of his own. Key and value have their
// lengths in front, so that the end needs none; no carried bytes and none at all are one thing.
func (h *contentHasher) body(key, value, carried []byte) (sum [bodyBytes]byte) {
	h.fast.Reset()
	_, _ = h.fast.Write(h.framing(key, value))
	_, _ = h.fast.Write(key)
	_, _ = h.fast.Write(value)
	_, _ = h.fast.Write(carried)
	binary.BigEndian.PutUint64(sum[:], h.fast.Sum64())
	return sum
}

func (h *contentHasher) framing(key, value []byte) []byte {
	frame := append(h.frame[:0], domainContent)
	frame = binary.AppendUvarint(frame, nullableLength(key))
	return binary.AppendUvarint(frame, nullableLength(value))
}

func nullableLength(b []byte) uint64 {
	if b == nil {
		return 0
	}
	return uint64(len(b)) + 1
}
