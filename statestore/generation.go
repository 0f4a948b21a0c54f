package statestore

import (
	"iter"
	"slices"
	"sync/atomic"
	"time"

	"github.com/oncemill/oncemill/internal/delta"
	"github.com/oncemill/oncemill/internal/invariants"
)

// generation is committed state of one task between two checkpoints, with the position that it reaches.
//
// It is active (A) while it grows, frozen (F) from the start of a checkpoint until its ingest is complete and the reader
// was renewed, and from then on clean (C): a cache of what the engine has, until the next freeze.
//
// Invariant I3: position(A) >= position(F) >= position(engine).
type generation struct {
	task   *taskState
	tables []storeTable // in the order in which the stores were first written
	pos    Position
	hasPos bool
	// unpositioned says that restored records lie beyond pos.
	unpositioned bool
	records      int // changelog records that a replay would have to repeat
	begun        time.Time
	size         int64 // bytes at the freeze
	// deletes are the expired buckets, from the freeze on.
	deletes []Span
	// ingested is the engine's epoch in which it arrived; 0 before. The reader must be as new before the tables go (I4).
	ingested atomic.Uint64
}

type storeTable struct {
	store uint32
	table *delta.Table
}

func (g *generation) table(store uint32) *delta.Table {
	for i := range g.tables {
		if g.tables[i].store == store {
			return g.tables[i].table
		}
	}
	return nil
}

// isEmpty reports that there is nothing to write.
func (g *generation) isEmpty() bool { return !g.hasPos && len(g.tables) == 0 }

func (g *generation) bytes() (n int64) {
	for _, t := range g.tables {
		n += t.table.Bytes()
	}
	return n
}

func (g *generation) len() (n int) {
	for _, t := range g.tables {
		n += t.table.Len()
	}
	return n
}

func (g *generation) free() {
	for _, t := range g.tables {
		t.table.Free()
	}
	g.tables = nil
}

func (g *generation) moveTo(a *delta.Account) {
	for _, t := range g.tables {
		t.table.MoveTo(a)
	}
}

// setPosition copies pos, whose slices the caller may go on to change.
func (g *generation) setPosition(pos *Position) {
	copyPosition(&g.pos, pos)
	g.hasPos, g.unpositioned = true, false
}

func copyPosition(dst, src *Position) {
	inputs, horizons, logs, buckets := dst.Inputs[:0], dst.Horizons[:0], dst.Logs[:0], dst.Buckets[:0]
	*dst = *src
	dst.Inputs = append(inputs, src.Inputs...)
	dst.Horizons = append(horizons, src.Horizons...)
	dst.Logs = append(logs, src.Logs...)
	dst.Buckets = append(buckets, src.Buckets...)
}

// horizonIn returns the first live bucket of a store.
func horizonIn(horizons []Horizon, store uint32) uint64 {
	for _, h := range horizons {
		if h.Store == store {
			return h.Bucket
		}
	}
	return 0
}

// findExpired computes deletes: the buckets below the horizon that the engine may still have. cut is the horizon up to
// which it has none.
func (g *generation) findExpired(cut map[uint32]uint64) {
	g.deletes = nil
	for _, h := range g.pos.Horizons {
		if from := cut[h.Store]; from < h.Bucket {
			prefix := g.task.prefix
			g.deletes = append(g.deletes, Span{bucketKey(prefix, h.Store, from), bucketKey(prefix, h.Store, h.Bucket)})
		}
	}
	slices.SortFunc(g.deletes, func(a, b Span) int { return slices.Compare(a.Lower, b.Lower) })
}

// run is the generation as a part of an ingest: the task record with the position first, then the stores in key order.
// The memory of the sort is charged to scratch while it is used.
func (g *generation) run(scratch *delta.Account) Run {
	invariants.Must(g.hasPos && !g.unpositioned, "I2", "task %s: a checkpoint without the position of its data", g.task.id)
	return Run{
		Span:    taskSpan(g.task.prefix),
		Deletes: g.deletes,
		Cells: func(yield func(Cell) bool) {
			if g.yieldRecord(yield) {
				g.yieldStores(yield, scratch)
			}
		},
	}
}

func (g *generation) yieldRecord(yield func(Cell) bool) bool {
	key := storePrefix(g.task.prefix, taskStoreID)
	value := encodeTaskRecord(nil, &taskRecord{g.task.id.SubTopology, g.pos})
	return yield(Cell{Key: key[:], Value: value})
}

func (g *generation) yieldStores(yield func(Cell) bool, scratch *delta.Account) {
	tables := slices.Clone(g.tables)
	slices.SortFunc(tables, func(a, b storeTable) int {
		if a.store < b.store {
			return -1
		}
		return 1
	})
	for _, t := range tables {
		for cell := range t.cells(g.task.prefix, horizonIn(g.pos.Horizons, t.store), scratch) {
			if !yield(cell) {
				return
			}
		}
	}
}

// cells yields a table in key order, without expired markers.
func (t storeTable) cells(task [taskPrefixLen]byte, horizon uint64, scratch *delta.Account) iter.Seq[Cell] {
	return func(yield func(Cell) bool) {
		size := int64(t.table.Len()) * delta.RefBytes
		scratch.Add(size)
		defer scratch.Add(-size)
		prefix := storePrefix(task, t.store)
		buf := append(make([]byte, 0, 64), prefix[:]...)
		refs := t.table.Sorted()
		for i, ref := range refs {
			if i%delta.Together == 0 {
				t.table.Ahead(refs[i:])
			}
			key, value, tombstone := t.table.At(ref)
			if horizon > 0 && bucketOf(key) < horizon {
				continue
			}
			buf = append(buf[:storePrefixLen], key...)
			if !yield(Cell{Key: buf, Value: value, Tombstone: tombstone}) {
				return
			}
		}
	}
}
