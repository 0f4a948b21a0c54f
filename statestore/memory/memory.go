// Package memory is an engine that keeps everything in the memory of the process: for the test driver, and as the simple
// judge of the engine on disk.
package memory

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/statestore"
	"github.com/tidwall/btree"
)

// errClosed is the cause of every error of this engine.
var errClosed = errors.New("the engine is closed")

type item struct{ key, value []byte }

type tree = btree.BTreeG[item]

// Disk is what outlives an Engine: open another engine over it and everything ingested is there.
type Disk struct {
	mu    sync.Mutex // of the writer; readers take the pointer
	state atomic.Pointer[state]
}

// state is one version. It is never changed once it is published.
type state struct {
	tree  *tree
	epoch uint64
}

// NewDisk makes an empty disk.
func NewDisk() *Disk {
	d := &Disk{}
	less := func(a, b item) bool { return bytes.Compare(a.key, b.key) < 0 }
	d.state.Store(&state{tree: btree.NewBTreeGOptions(less, btree.Options{NoLocks: true})})
	return d
}

// Engine implements statestore.Engine over a Disk.
type Engine struct {
	disk   *Disk
	closed atomic.Bool
}

// New makes an engine over an empty disk.
func New() *Engine { return Open(NewDisk()) }

// Open makes an engine over a disk.
func Open(disk *Disk) *Engine { return &Engine{disk: disk} }

func (e *Engine) check(ctx context.Context) error {
	if e.closed.Load() {
		return problem.Wrap(problem.StoreIO, "memory engine", errClosed)
	}
	return ctx.Err()
}

// change publishes a new version made by fn.
func (e *Engine) change(ctx context.Context, fn func(*tree)) error {
	e.disk.mu.Lock()
	defer e.disk.mu.Unlock()
	if err := e.check(ctx); err != nil {
		return err
	}
	old := e.disk.state.Load()
	next := old.tree.Copy() // shares its nodes until they are written
	fn(next)
	e.disk.state.Store(&state{next, old.epoch + 1})
	return nil
}

// Ingest implements statestore.Engine.
func (e *Engine) Ingest(ctx context.Context, runs []statestore.Run) error {
	return e.change(ctx, func(t *tree) {
		for _, run := range runs {
			for _, d := range run.Deletes {
				deleteRange(t, d.Lower, d.Upper)
			}
		}
		for _, run := range runs {
			for c := range run.Cells {
				if c.Tombstone {
					t.Delete(item{key: c.Key})
				} else {
					t.Set(item{bytes.Clone(c.Key), slices.Concat(c.Value)})
				}
			}
		}
	})
}

// Excise implements statestore.Engine.
func (e *Engine) Excise(ctx context.Context, lower, upper []byte) error {
	return e.change(ctx, func(t *tree) { deleteRange(t, lower, upper) })
}

func deleteRange(t *tree, lower, upper []byte) {
	var keys []item
	ascend(t, lower, upper, func(i item) { keys = append(keys, i) })
	for _, k := range keys {
		t.Delete(k)
	}
}

func ascend(t *tree, lower, upper []byte, fn func(item)) {
	t.Ascend(item{key: lower}, func(i item) bool {
		if upper != nil && bytes.Compare(i.key, upper) >= 0 {
			return false
		}
		fn(i)
		return true
	})
}

// Epoch implements statestore.Engine.
func (e *Engine) Epoch() uint64 { return e.disk.state.Load().epoch }

// ApproximateCount implements statestore.Engine; this one is exact.
func (e *Engine) ApproximateCount(lower, upper []byte) (n uint64, err error) {
	ascend(e.disk.state.Load().tree, lower, upper, func(item) { n++ })
	return n, e.check(context.Background())
}

// Metrics implements statestore.Engine. There is no disk, so all numbers are zero.
func (e *Engine) Metrics() statestore.EngineMetrics { return statestore.EngineMetrics{} }

// Close implements statestore.Engine.
func (e *Engine) Close() error {
	err := e.check(context.Background())
	e.closed.Store(true)
	return err
}

// NewReader implements statestore.Engine.
func (e *Engine) NewReader(lower, upper []byte) (statestore.Reader, error) {
	r := &reader{engine: e, lower: bytes.Clone(lower), upper: bytes.Clone(upper)}
	return r, r.Renew()
}

type reader struct {
	engine       *Engine
	lower, upper []byte
	state        *state
}

func (r *reader) Get(key []byte) ([]byte, bool, error) {
	if bytes.Compare(key, r.lower) < 0 || r.upper != nil && bytes.Compare(key, r.upper) >= 0 {
		return nil, false, nil
	}
	i, found := r.state.tree.Get(item{key: key})
	return i.value, found, nil
}

func (r *reader) Cursor(lower, upper []byte) (statestore.Cursor, error) {
	c := &cursor{lower: bytes.Clone(lower), upper: bytes.Clone(upper)}
	c.it = r.state.tree.Iter()
	return c, nil
}

func (r *reader) Renew() error {
	if err := r.engine.check(context.Background()); err != nil {
		return err
	}
	r.state = r.engine.disk.state.Load()
	return nil
}

func (r *reader) Epoch() uint64 { return r.state.epoch }

func (r *reader) Close() error { return nil }

type cursor struct {
	lower, upper []byte
	it           btree.IterG[item]
}

// within reports that the move ended on a key of the bounds.
func (c *cursor) within(ok bool) bool {
	if !ok {
		return false
	}
	key := c.it.Item().key
	return bytes.Compare(key, c.lower) >= 0 && (c.upper == nil || bytes.Compare(key, c.upper) < 0)
}

func (c *cursor) SeekGE(key []byte) bool {
	if bytes.Compare(key, c.lower) < 0 {
		key = c.lower
	}
	return c.within(c.it.Seek(item{key: key}))
}

func (c *cursor) SeekLT(key []byte) bool {
	if c.upper != nil && bytes.Compare(key, c.upper) > 0 {
		key = c.upper
	}
	if c.it.Seek(item{key: key}) {
		return c.within(c.it.Prev())
	}
	return c.within(c.it.Last())
}

func (c *cursor) Next() bool             { return c.within(c.it.Next()) }
func (c *cursor) Prev() bool             { return c.within(c.it.Prev()) }
func (c *cursor) Key() []byte            { return c.it.Item().key }
func (c *cursor) Value() ([]byte, error) { return c.it.Item().value, nil }
func (c *cursor) Err() error             { return nil }
func (c *cursor) Close() error           { c.it.Release(); return nil }
