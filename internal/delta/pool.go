// Package delta is the memory of the state store: tables of bytes without a pointer per entry, so that a million entries
// cost the garbage collector nothing. A table is an arena of chunks and an open-addressing index of (hash, reference)
// pairs; an Overlay is a table with one level of rollback. Measurements: docs/DESIGN.md, "The delta".
package delta

import (
	"hash/maphash"
	"sync"
	"sync/atomic"

	"github.com/oncemill/oncemill/internal/invariants"
)

const (
	// chunkShift makes a chunk 64 KiB: a MiB for each of 64 tasks in 3 generations would waste 200 MB.
	chunkShift = 16
	chunkSize  = 1 << chunkShift
	// refShift is the bits of a reference that lie within a chunk; entries are aligned to 8 bytes.
	refShift = chunkShift - 3
	// maxChunks bounds what a 32-bit reference can address: 32 GiB in one table.
	maxChunks = 1 << (32 - refShift)
	// chunkHeader is the slice header that a table keeps for each chunk.
	chunkHeader = 24
)

// chunkClasses are the sizes of a table's first chunks: most tables are small, so the first ones are.
var chunkClasses = [...]int{4 << 10, 16 << 10, chunkSize}

func chunkClass(index int) int { return min(index, len(chunkClasses)-1) }

// Account counts bytes. The tables of one generation of all tasks are charged to one account.
type Account struct{ bytes atomic.Int64 }

// Bytes is what is charged now.
func (a *Account) Bytes() int64 { return a.bytes.Load() }

// Add charges n bytes; a negative n gives them back.
func (a *Account) Add(n int64) { a.bytes.Add(n) }

// tryAdd charges n bytes unless that exceeded the limit.
func (a *Account) tryAdd(n, limit int64) bool {
	for {
		old := a.bytes.Load()
		if old+n > limit {
			return false
		}
		if a.bytes.CompareAndSwap(old, old+n) {
			return true
		}
	}
}

// Pool is the source of chunks of a process, and the seed of its hashes: keys of users cannot collide on purpose.
// It is safe for use by several goroutines.
type Pool struct {
	seed   maphash.Seed
	limit  int64
	pooled atomic.Int64
	mu     struct {
		sync.Mutex
		free [len(chunkClasses)][][]byte
	}
}

// NewPool makes a pool that keeps at most limit bytes of free chunks.
func NewPool(limit int64) *Pool { return &Pool{seed: maphash.MakeSeed(), limit: limit} }

// Hash is the hash that the tables of the pool are indexed by.
func (p *Pool) Hash(key []byte) uint32 { return TableHash(p.Hash64(key)) }

// Hash64 is the hash that filters are asked with.
func (p *Pool) Hash64(key []byte) uint64 { return maphash.Bytes(p.seed, key) }

// TableHash is the Hash of a key of which Hash64 is known.
func TableHash(h uint64) uint32 { return uint32(h >> 32) }

// Pooled is the number of free bytes kept.
func (p *Pool) Pooled() int64 { return p.pooled.Load() }

// Trim gives the free chunks to the garbage collector.
func (p *Pool) Trim() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.mu.free {
		p.mu.free[i] = nil
	}
	p.pooled.Store(0)
}

// get returns a chunk of a class, with any contents.
func (p *Pool) get(class int) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	free := p.mu.free[class]
	if len(free) == 0 {
		return make([]byte, chunkClasses[class])
	}
	c := free[len(free)-1]
	free[len(free)-1] = nil
	p.mu.free[class] = free[:len(free)-1]
	p.pooled.Add(-int64(len(c)))
	return c
}

// put takes a chunk back. Chunks of another size than a class's are left to the garbage collector.
func (p *Pool) put(c []byte) {
	c = c[:cap(c)]
	if invariants.Enabled {
		for i := range c { // a reader of a chunk that was let go must not see plausible bytes
			c[i] = 0xDB
		}
	}
	for class, size := range chunkClasses {
		if len(c) != size {
			continue
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.pooled.Load()+int64(size) <= p.limit {
			p.mu.free[class] = append(p.mu.free[class], c)
			p.pooled.Add(int64(size))
		}
		return
	}
}
