package statestore_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/statestore"
)

func TestReadsGoThroughEveryLayer(t *testing.T) {
	r := newRig(t, nil)
	task := r.acquire(0)
	defer task.Release()
	r.commit(task, 1, "a=engine", "b=engine", "c=engine", "d=engine", "e=engine")
	r.checkpoint(task)
	r.commit(task, 2, "b=clean", "c=clean", "d=clean", "e")
	r.checkpoint(task)
	r.commit(task, 3, "c=active", "d=active")
	put(t, task.View(counts), "d=overlay", "f=overlay", "b")
	wantContents(t, task, "a=engine c=active d=overlay f=overlay")
	task.Discard()
	wantContents(t, task, "a=engine b=clean c=active d=active")
	wantN(t, task, 3)
}

func TestATaskHasOneOwner(t *testing.T) {
	r := newRig(t, nil)
	task := r.acquire(0)
	if _, err := r.db.Acquire(taskID(0), stores); !errors.Is(err, statestore.ErrHeld) {
		t.Errorf("a second owner: %v", err)
	}
	if err := r.db.Drop(context.Background(), taskID(0)); !errors.Is(err, statestore.ErrHeld) {
		t.Errorf("a drop under the owner: %v", err)
	}
	if err := r.db.Reset(context.Background()); !errors.Is(err, statestore.ErrHeld) {
		t.Errorf("a reset under the owner: %v", err)
	}
	if err := r.db.Close(context.Background()); !errors.Is(err, statestore.ErrHeld) {
		t.Errorf("a close under the owner: %v", err)
	}
	v := task.View(counts)
	task.Release()
	task.Release()
	if _, _, err := v.Get([]byte("k")); !errors.Is(err, statestore.ErrReleased) {
		t.Errorf("get after the release: %v", err)
	}
	if err := v.Put([]byte("k"), nil); !errors.Is(err, statestore.ErrReleased) {
		t.Errorf("put after the release: %v", err)
	}
	if it := v.Iterate(nil, nil, false); it.Next() || !errors.Is(it.Err(), statestore.ErrReleased) {
		t.Errorf("iterate after the release: %v", it.Err())
	}
	r.acquire(0).Release()
}

// The next owner continues from what the last one committed while it is still being written, and afterwards.
func TestReleaseKeepsWhatIsCommitted(t *testing.T) {
	gate := make(chan struct{})
	r := newRig(t, func(c *statestore.Config) { c.Hooks.BeforeIngest = func() { <-gate } })
	task := r.acquire(0)
	r.commit(task, 1, "a=1")
	put(t, task.View(counts), "a=not committed")
	task.Release()
	task = r.acquire(0)
	wantContents(t, task, "a=1")
	wantN(t, task, 1)
	r.commit(task, 2, "b=2")
	task.Release()
	close(gate)
	for {
		task = r.acquire(0)
		wantContents(t, task, "a=1 b=2")
		wantN(t, task, 2)
		task.Release()
		if used := r.db.MemoryUsed(); used.Active+used.Frozen+used.Clean == 0 {
			break // the DB wrote it by itself
		}
	}
	ids, err := r.db.TaskIDs()
	if err != nil || len(ids) != 1 || ids[0] != taskID(0) {
		t.Fatalf("%v, %v", ids, err)
	}
}

func TestStoresWithOneIDAreRefused(t *testing.T) {
	r := newRig(t, nil)
	twin := *counts
	if _, err := r.db.Acquire(taskID(0), []*statestore.Declaration{counts, &twin}); problem.CodeOf(err) != problem.TopologyInvalid {
		t.Fatalf("got %v", err)
	}
	r.acquire(0).Release()
}

func TestConfigIsValidated(t *testing.T) {
	_, err := statestore.Open(statestore.Config{MemoryBudget: 1, CheckpointRecords: -1, CheckpointInterval: -1})
	for _, field := range []string{"Engine", "MemoryBudget", "CheckpointRecords", "CheckpointInterval"} {
		if err == nil || !strings.Contains(err.Error(), "Config."+field) {
			t.Errorf("%s is not reported: %v", field, err)
		}
	}
}

// Tasks of several workers use one DB at the same time.
func TestWorkersShareADB(t *testing.T) {
	r := newRig(t, nil)
	var workers sync.WaitGroup
	for w := range 4 {
		workers.Go(func() {
			for round := range 5 {
				task := r.acquire(w)
				for i := range 50 {
					r.commit(task, uint64(round*50+i+1), fmt.Sprintf("k%02d=%d", i%20, round), fmt.Sprintf("gone%d", i))
					if i%10 == 0 {
						r.db.Checkpoint(task)
					}
					if err := task.Tick(); err != nil {
						t.Error(err)
					}
					if _, err := task.View(counts).ApproximateCount(); err != nil {
						t.Error(err)
					}
				}
				if v, found, err := task.View(counts).Get([]byte("k07")); err != nil || !found || string(v) != fmt.Sprint(round) {
					t.Errorf("worker %d: %q, %v, %v", w, v, found, err)
				}
				task.Release()
			}
		})
	}
	workers.Wait()
	if ids, err := r.db.TaskIDs(); err != nil || len(ids) != 4 {
		t.Errorf("%v, %v", ids, err)
	}
}
