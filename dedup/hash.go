package dedup

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
)

// Sizes of truncated hashes. 128 bits are collision-resistant enough that an id from outside cannot be made to collide
// with someone else's command; the body hash only tells a careless producer from a correct one, 64 bits do.
const (
	hashBytes = 16
	bodyBytes = 8
)

// Domains keep hashes of different things apart, whatever their content. They are durable: never reuse a number.
const (
	domainID        = 1  // scope, kind, id
	domainAnonymous = 2  // scope, kind, content
	domainRefusal   = 3  // scope, kind, id, content, replay number
	domainContent   = 4  // key, value
	domainMessage   = 5  // application, scope, kind, id
	domainPosition  = 6  // application, scope, topic id, partition
	domainTimer     = 7  // application, store, key, name, number
	domainOutput    = 8  // cause, node, number
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

// short is the hash in the length of marker keys and output ids.
func (f fields) short() [hashBytes]byte {
	sum := sha256.Sum256(f)
	return [hashBytes]byte(sum[:hashBytes])
}

// contentHasher hashes key and value without copying them; it is reused from record to record and allocates nothing.
type contentHasher struct {
	sha   hash.Hash
	frame [1 + 2*binary.MaxVarintLen64]byte
	sum   [sha256.Size]byte
}

func newContentHasher() *contentHasher { return &contentHasher{sha: sha256.New()} }

// of is the hash of key and value, and of nothing else. Both lengths come first, as length+1, with 0 for Kafka's null.
func (h *contentHasher) of(key, value []byte) [hashBytes]byte {
	frame := append(h.frame[:0], domainContent)
	frame = binary.AppendUvarint(frame, nullableLength(key))
	frame = binary.AppendUvarint(frame, nullableLength(value))
	h.sha.Reset()
	// A hash.Hash never returns an error.
	_, _ = h.sha.Write(frame)
	_, _ = h.sha.Write(key)
	_, _ = h.sha.Write(value)
	return [hashBytes]byte(h.sha.Sum(h.sum[:0])[:hashBytes])
}

func nullableLength(b []byte) uint64 {
	if b == nil {
		return 0
	}
	return uint64(len(b)) + 1
}
