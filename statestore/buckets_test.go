package statestore_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/oncemill/oncemill/statestore"
)

// countingEngine counts the lookups that reach the engine.
type countingEngine struct {
	statestore.Engine
	gets atomic.Int64
}

func (e *countingEngine) NewReader(lower, upper []byte) (statestore.Reader, error) {
	r, err := e.Engine.NewReader(lower, upper)
	return &countingReader{r, &e.gets}, err
}

type countingReader struct {
	statestore.Reader
	gets *atomic.Int64
}

func (r *countingReader) Get(key []byte) ([]byte, bool, error) {
	r.gets.Add(1)
	return r.Reader.Get(key)
}

type filterRig struct {
	*rig
	counting *countingEngine
	n        uint64
}

func newFilterRig(t *testing.T, filterBytes int64) *filterRig {
	f := &filterRig{}
	f.rig = newRig(t, func(c *statestore.Config) {
		f.counting = &countingEngine{Engine: c.Engine}
		c.Engine, c.FilterBytes = f.counting, filterBytes
	})
	return f
}

// write commits markers [from, to) of a bucket.
func (f *filterRig) write(task *statestore.Task, bucket uint64, from, to int) {
	f.t.Helper()
	for i := from; i < to; i++ {
		if err := task.View(markers).Put([]byte(bucketOf(bucket, fmt.Sprintf("%08d", i))), []byte("m")); err != nil {
			f.t.Fatal(err)
		}
	}
	f.n++
	f.apply(task, statestore.Position{Checkpoint: statestore.Checkpoint{N: f.n}})
}

// lookups asks for [from, to) and returns how many were found and how many of the lookups reached the engine.
func (f *filterRig) lookups(task *statestore.Task, bucket uint64, from, to int) (found, gets int) {
	f.t.Helper()
	before := f.counting.gets.Load()
	for i := from; i < to; i++ {
		_, has, err := task.View(markers).Get([]byte(bucketOf(bucket, fmt.Sprintf("%08d", i))))
		if err != nil {
			f.t.Fatal(err)
		}
		if has {
			found++
		}
	}
	return found, int(f.counting.gets.Load() - before)
}

func (f *filterRig) want(task *statestore.Task, bucket uint64, from, to, found, mostGets int) {
	f.t.Helper()
	if n, gets := f.lookups(task, bucket, from, to); n != found || gets > mostGets {
		f.t.Fatalf("bucket %d, [%d,%d): %d found, want %d; %d lookups in the engine, want at most %d", bucket, from, to, n, found, gets, mostGets)
	}
}

// A bucket that begins under this owner has a filter over everything, wherever it is by now.
func TestNewIDsAreNotLookedUpInTheEngine(t *testing.T) {
	f := newFilterRig(t, 0)
	task := f.acquire(0)
	defer task.Release()
	for round := range 4 {
		from := round * 5000
		f.want(task, 7, from, from+5000, 0, 100) // a filter says "perhaps" now and then
		f.write(task, 7, from, from+5000)
		f.want(task, 7, 0, from+5000, from+5000, from+5000)
		f.checkpoint(task)
	}
	if used := f.db.MemoryUsed(); used.Filters == 0 || used.Filters > 20_000*15 {
		t.Fatalf("%d bytes of filters", used.Filters)
	}
	f.n++
	f.apply(task, statestore.Position{Checkpoint: statestore.Checkpoint{N: f.n, Horizons: []statestore.Horizon{{Store: markers.ID(), Bucket: 8}}}})
	if used := f.db.MemoryUsed(); used.Filters != 0 {
		t.Fatalf("an expired bucket keeps %d bytes of filter", used.Filters)
	}
}

// What an earlier owner left in the engine and in memory is found, while the filter is completed and afterwards.
func TestFiltersAreCompletedAfterAnAcquire(t *testing.T) {
	f := newFilterRig(t, 0)
	task := f.acquire(0)
	f.write(task, 7, 0, 10_000)
	f.checkpoint(task)
	f.write(task, 7, 10_000, 11_000) // frozen by the release, ingested in the midst of what follows
	f.engine.fail.Store(true)
	task.Release()

	task = f.acquire(0)
	defer task.Release()
	for tick := range 6 {
		f.write(task, 7, 11_000+tick*100, 11_100+tick*100)
		f.want(task, 7, 0, 11_100+tick*100, 11_100+tick*100, 12_000)
		f.want(task, 7, 50_000, 50_010, 0, 10)
		if err := task.Tick(); err != nil {
			t.Fatal(err)
		}
		if tick == 1 {
			f.engine.fail.Store(false)
			f.pass(1e9 * 60)
			f.timer <- f.clock()
		}
	}
	f.want(task, 7, 20_000, 30_000, 0, 500)
	f.want(task, 7, 0, 11_600, 11_600, 11_600)
}

func TestFiltersThatMayNotGrowAreDropped(t *testing.T) {
	f := newFilterRig(t, 5000)
	task := f.acquire(0)
	defer task.Release()
	f.write(task, 7, 0, 10_000)
	if used := f.db.MemoryUsed(); used.Filters != 0 {
		t.Fatalf("%d bytes of filters", used.Filters)
	}
	f.checkpoint(task)
	f.want(task, 7, 0, 10_000, 10_000, 10_000)
	if found, gets := f.lookups(task, 7, 10_000, 10_100); found != 0 || gets != 100 {
		t.Fatalf("%d found, %d lookups in the engine", found, gets)
	}
	f.write(task, 9, 0, 1000) // the next bucket may have one
	f.want(task, 9, 1000, 2000, 0, 50)
}

// A drop makes the filters forget; restored markers are in the filters that follow.
func TestFiltersAfterADropAndARestore(t *testing.T) {
	f := newFilterRig(t, 0)
	task := f.acquire(0)
	defer task.Release()
	f.write(task, 7, 0, 2000)
	f.checkpoint(task)
	if err := task.Drop(context.Background()); err != nil {
		t.Fatal(err)
	}
	if used := f.db.MemoryUsed(); used.Filters != 0 {
		t.Fatalf("%d bytes of filters", used.Filters)
	}
	f.want(task, 7, 0, 2000, 0, 0)
	for i := range 1000 {
		if err := task.ApplyRestored(markers, []byte(bucketOf(7, fmt.Sprintf("%08d", i))), []byte("m"), false); err != nil {
			t.Fatal(err)
		}
	}
	task.SetPosition(statestore.Position{Checkpoint: statestore.Checkpoint{N: 1}})
	f.want(task, 7, 0, 2000, 1000, 0)
	f.checkpoint(task)
	f.want(task, 7, 0, 2000, 1000, 1000)
}
