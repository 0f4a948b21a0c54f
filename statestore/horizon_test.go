package statestore_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/statestore/memory"
)

// After a drop nothing is known of the engine any more, also not up to which bucket it was cleared.
func TestHorizonsStartAgainAfterADrop(t *testing.T) {
	r := newRig(t, nil)
	task := r.acquire(0)
	pos := func(n, horizon uint64) statestore.Position {
		return statestore.Position{Checkpoint: statestore.Checkpoint{N: n, Horizons: []statestore.Horizon{{Store: markers.ID(), Bucket: horizon}}}}
	}
	r.apply(task, pos(1, 5))
	r.checkpoint(task)
	if err := task.Drop(context.Background()); err != nil {
		t.Fatal(err)
	}
	put(t, task.View(markers), bucketOf(1, "a")+"=1")
	r.apply(task, pos(1, 0))
	if got := contents(t, task.View(markers), nil, nil, false); got != bucketOf(1, "a")+"=1" {
		t.Fatalf("markers %q", got)
	}
	r.checkpoint(task)
	r.apply(task, pos(2, 3))
	r.checkpoint(task)
	if n, err := r.engine.ApproximateCount(nil, nil); err != nil || n != 1 {
		t.Fatalf("the engine has %d keys, %v", n, err)
	}
	task.Release()
}

func bucketOf(b uint64, id string) string {
	return string(binary.BigEndian.AppendUint64(nil, b)) + id
}

func TestExpiredBucketsAreAbsentAtOnce(t *testing.T) {
	r := newRig(t, nil)
	task := r.acquire(0)
	v := task.View(markers)
	ids := func(want ...string) {
		t.Helper()
		if got := contents(t, v, nil, nil, false); got != strings.Join(want, " ") {
			t.Fatalf("markers %q, want %q", got, want)
		}
	}
	pos := func(n, horizon uint64) statestore.Position {
		return statestore.Position{Checkpoint: statestore.Checkpoint{N: n, Horizons: []statestore.Horizon{{Store: markers.ID(), Bucket: horizon}}}}
	}
	put(t, v, bucketOf(1, "a")+"=1", bucketOf(2, "b")+"=2", bucketOf(3, "c")+"=3")
	r.apply(task, pos(1, 0))
	r.checkpoint(task)
	put(t, v, bucketOf(1, "d")+"=4", bucketOf(3, "e")+"=5")
	task.Mark()
	task.SetHorizon(markers, 2)
	ids(bucketOf(2, "b")+"=2", bucketOf(3, "c")+"=3", bucketOf(3, "e")+"=5")
	task.Rollback()
	ids(bucketOf(1, "a")+"=1", bucketOf(1, "d")+"=4", bucketOf(2, "b")+"=2", bucketOf(3, "c")+"=3", bucketOf(3, "e")+"=5")
	task.SetHorizon(markers, 3)
	task.Discard()
	if _, found, _ := v.Get([]byte(bucketOf(1, "a"))); !found {
		t.Fatal("Discard kept the horizon")
	}
	put(t, v, bucketOf(2, "f")+"=6")
	r.apply(task, pos(2, 0))
	task.SetHorizon(markers, 3)
	n := 0
	if err := task.Writes(func(*statestore.Declaration, []byte, []byte, bool) error { n++; return nil }); err != nil || n != 0 {
		t.Fatalf("%d writes, %v", n, err)
	}
	r.apply(task, pos(3, 3))
	ids(bucketOf(3, "c") + "=3")
	if _, found, _ := v.Get([]byte(bucketOf(2, "f"))); found {
		t.Fatal("an expired marker is found")
	}
	r.checkpoint(task)
	task.Release()
	if left, err := r.engine.ApproximateCount(nil, nil); err != nil || left != 2 { // one marker and the position
		t.Fatalf("the engine has %d keys, %v", left, err)
	}
	task = r.acquire(0)
	v = task.View(markers)
	ids(bucketOf(3, "c") + "=3")
	if err := task.ApplyRestored(markers, []byte(bucketOf(2, "g")), []byte("7"), false); err != nil {
		t.Fatal(err)
	}
	ids(bucketOf(3, "c") + "=3")
	task.Release()
}

// writtenCells remembers the cells of each ingest.
type writtenCells struct {
	statestore.Engine
	keys []string
}

func (e *writtenCells) Ingest(ctx context.Context, runs []statestore.Run) error {
	for i := range runs {
		cells := runs[i].Cells
		runs[i].Cells = func(yield func(statestore.Cell) bool) {
			cells(func(c statestore.Cell) bool {
				e.keys = append(e.keys, string(c.Key))
				return yield(c)
			})
		}
	}
	return e.Engine.Ingest(ctx, runs)
}

// An expired marker is neither written to the changelog nor to the engine, and takes no memory in a restore: nothing would ever read
// or remove it.
func TestExpiredMarkersAreNotWritten(t *testing.T) {
	engine := &writtenCells{Engine: memory.New()}
	r := newRig(t, func(c *statestore.Config) { c.Engine = engine })
	task := r.acquire(0)
	v := task.View(markers)
	put(t, v, bucketOf(1, "committed")+"=0")
	r.apply(task, statestore.Position{Checkpoint: statestore.Checkpoint{N: 1}})
	put(t, v, bucketOf(1, "old")+"=1", bucketOf(3, "live")+"=2")
	task.SetHorizon(markers, 2)
	var logged []string
	if err := task.Writes(func(_ *statestore.Declaration, key, _ []byte, _ bool) error {
		logged = append(logged, string(key))
		return nil
	}); err != nil || len(logged) != 1 || logged[0] != bucketOf(3, "live") {
		t.Errorf("the changelog gets %q, %v", logged, err)
	}
	r.apply(task, statestore.Position{Checkpoint: statestore.Checkpoint{N: 2, Horizons: []statestore.Horizon{{Store: markers.ID(), Bucket: 2}}}})
	r.checkpoint(task)
	for _, key := range engine.keys {
		if strings.HasSuffix(key, bucketOf(1, "old")) || strings.HasSuffix(key, bucketOf(1, "committed")) {
			t.Errorf("the engine got %q", key)
		}
	}
	if !slices.ContainsFunc(engine.keys, func(key string) bool { return strings.HasSuffix(key, bucketOf(3, "live")) }) {
		t.Errorf("the engine got %q, and no live marker", engine.keys)
	}
	before := r.db.MemoryUsed().Total()
	for i := range 1000 {
		if err := task.ApplyRestored(markers, []byte(bucketOf(1, fmt.Sprint(i))), []byte("v"), false); err != nil {
			t.Fatal(err)
		}
	}
	if used := r.db.MemoryUsed().Total(); used != before {
		t.Errorf("expired markers that are restored take %d bytes", used-before)
	}
	task.Release()
}

// Where no memory is left for taking expired markers out of the committed delta, the checkpoint leaves them out.
func TestExpiredMarkersThatStayInMemoryAreNotWritten(t *testing.T) {
	engine := &writtenCells{Engine: memory.New()}
	r := newRig(t, func(c *statestore.Config) { c.Engine, c.MemoryBudget = engine, 1<<20 })
	task, other := r.acquire(0), r.acquire(1)
	defer other.Release()
	defer task.Release()
	v := task.View(markers)
	const count = 8000
	for i := range count {
		put(t, v, bucketOf(uint64(1+2*(i%2)), fmt.Sprint(i))+"=v")
	}
	r.apply(task, statestore.Position{Checkpoint: statestore.Checkpoint{N: 1}})
	n := uint64(0)
	for _, size := range []int{4096, 256, 16} { // the other task takes what is left
		for {
			n++
			put(t, other.View(counts), fmt.Sprintf("%06d=%s", n, strings.Repeat("v", size)))
			if err := other.Reserve(); errors.Is(err, statestore.ErrBudget) {
				other.Discard()
				break
			} else if err != nil {
				t.Fatal(err)
			}
			other.Apply(statestore.Position{Checkpoint: statestore.Checkpoint{N: n}})
		}
	}
	// Taking markers out rebuilds the table's slots, 8 bytes each.
	if used := r.db.MemoryUsed(); used.Budget-used.Total() >= 8*count {
		t.Fatalf("there is room to take the expired markers out: %+v", used)
	}
	task.SetHorizon(markers, 2)
	r.apply(task, statestore.Position{Checkpoint: statestore.Checkpoint{N: 2, Horizons: []statestore.Horizon{{Store: markers.ID(), Bucket: 2}}}})
	if _, found, err := v.Get([]byte(bucketOf(1, "0"))); found || err != nil {
		t.Errorf("an expired marker is found, %v", err)
	}
	r.checkpoint(task)
	live := 0
	for _, key := range engine.keys {
		if strings.Contains(key, bucketOf(1, "")) {
			t.Fatalf("the engine got %q", key)
		}
		if strings.Contains(key, bucketOf(3, "")) {
			live++
		}
	}
	if live != count/2 {
		t.Errorf("the engine got %d live markers, want %d", live, count/2)
	}
}
