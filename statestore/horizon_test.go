package statestore_test

import (
	"context"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/oncemill/oncemill/statestore"
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
