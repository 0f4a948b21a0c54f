package statestore

import (
	"context"
	"iter"
)

// Span is the keys k with Lower <= k < Upper.
type Span struct{ Lower, Upper []byte }

// Cell is one key of a run. Key and Value are valid until the iteration goes on.
type Cell struct {
	Key, Value []byte
	// Tombstone says that the key is deleted; Value is then nil.
	Tombstone bool
}

// Run is one task's part of an ingest.
type Run struct {
	// Span holds every key of Cells and of Deletes. The spans of the runs of one ingest ascend and are disjoint.
	Span Span
	// Deletes ascend and are disjoint. They remove what the engine had before the ingest; a cell of the same ingest in
	// a deleted span survives.
	Deletes []Span
	// Cells yields the cells in ascending key order, each key once. It may be called again after a failed ingest.
	Cells iter.Seq[Cell]
}

// Engine is the store on disk. It is changed by one goroutine, by Ingest and Excise only, and read by any number.
// Errors of a damaged file are problem.StoreCorrupt, others problem.StoreIO.
type Engine interface {
	// NewReader makes a reader of [lower, upper) as of now.
	NewReader(lower, upper []byte) (Reader, error)
	// Ingest applies the runs in one atomic step that is durable when it returns. After an error nothing has changed
	// and the same runs may be tried again.
	Ingest(ctx context.Context, runs []Run) error
	// Excise removes every key of [lower, upper) at once and durably. Readers keep what they see until renewed.
	Excise(ctx context.Context, lower, upper []byte) error
	// Epoch counts the changes (Ingest and Excise) that are complete.
	Epoch() uint64
	// ApproximateCount estimates the number of keys in [lower, upper). Overwritten and deleted keys may count.
	ApproximateCount(lower, upper []byte) (uint64, error)
	// Metrics reports numbers for listeners and for back-pressure.
	Metrics() EngineMetrics
	// Close closes the engine. Its readers must be closed before.
	Close() error
}

// Reader sees the engine as it was when the reader was made or last renewed. It belongs to one goroutine.
type Reader interface {
	// Get looks up a key, within the reader's bounds, that may well be absent. The value is valid until the next call on the reader.
	Get(key []byte) (value []byte, found bool, err error)
	// Cursor opens an ordered cursor over [lower, upper), which must lie within the reader's bounds. It sees what the
	// reader sees, and must be closed before the reader is renewed or closed.
	Cursor(lower, upper []byte) (Cursor, error)
	// Renew makes the reader see the engine as of now.
	Renew() error
	// Epoch is the engine's epoch that the reader sees, or an older one: never a newer one.
	Epoch() uint64
	// Close releases the reader.
	Close() error
}

// Cursor moves over keys in order. It is not positioned when it is new. A move reports whether it found a key; after false,
// Err tells an error from the end. Key and Value are valid until the next move.
type Cursor interface {
	SeekGE(key []byte) bool
	SeekLT(key []byte) bool
	Next() bool
	Prev() bool
	Key() []byte
	Value() ([]byte, error)
	Err() error
	Close() error
}

// EngineMetrics are numbers of an engine. Zero where the engine has no such thing.
type EngineMetrics struct {
	DiskBytes        uint64
	L0Sublevels      int // read amplification that ingests build up; compaction brings it down
	ReadAmp          int
	Tables           int64
	Compactions      int64
	CompactionDebt   uint64 // bytes
	BlockCacheBytes  int64
	BlockCacheHits   int64
	BlockCacheMisses int64
	FilterHits       int64
	FilterMisses     int64
	BytesIngested    uint64
	BytesCompacted   uint64
}
