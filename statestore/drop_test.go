package statestore_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oncemill/oncemill/statestore"
)

// I5: a drop waits for the running checkpoint, takes what is queued out, and frees every generation.
func TestDropQueuesBehindTheRunningCheckpoint(t *testing.T) {
	reached, gate := make(chan struct{}, 10), make(chan struct{})
	var order []string
	r := newRig(t, func(c *statestore.Config) {
		c.Hooks.BeforeIngest = func() { order = append(order, "ingest"); reached <- struct{}{}; <-gate }
		c.Hooks.AfterIngest = func() { order = append(order, "ingested") }
		c.Hooks.BeforeExcise = func() { order = append(order, "excise") }
	})
	open := sync.OnceFunc(func() { close(gate) })
	defer open() // a test that fails ends all the same
	task := r.acquire(0)
	defer task.Release()
	r.commit(task, 1, "a=1")
	running := r.db.Checkpoint(task)
	<-reached
	r.commit(task, 2, "b=2")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := task.Drop(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("drop: %v", err)
	}
	if _, _, err := task.View(counts).Get([]byte("a")); err == nil {
		t.Fatal("a half dropped task is readable")
	}
	open()
	if err := task.Drop(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(order, " "); got != "ingest ingested excise" {
		t.Fatalf("order: %s", got)
	}
	<-running.Done()
	wantContents(t, task, "")
	if _, ok := task.Position(); ok {
		t.Fatal("a dropped task has a position")
	}
	r.apply(task, statestore.Position{Checkpoint: statestore.Checkpoint{N: 1}})
	if err := task.Tick(); err != nil {
		t.Fatal(err)
	}
	wantContents(t, task, "")
}

// What an owner was dropping when it gave the task up must not be written behind the drop.
func TestReleaseDuringADrop(t *testing.T) {
	for _, late := range []bool{false, true} {
		reached, gate := make(chan struct{}, 10), make(chan struct{})
		r := newRig(t, func(c *statestore.Config) {
			c.Hooks.BeforeIngest = func() { reached <- struct{}{}; <-gate }
		})
		open := sync.OnceFunc(func() { close(gate) })
		defer open()
		task, other := r.acquire(0), r.acquire(1)
		r.commit(task, 1, "a=1")
		r.commit(other, 1, "x=1")
		r.db.Checkpoint(task)
		<-reached
		r.commit(task, 2, "b=2")
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := task.Drop(ctx); !errors.Is(err, context.Canceled) {
			t.Fatalf("drop: %v", err)
		}
		if late { // the drop is complete before the release
			open()
			<-r.db.Checkpoint(other).Done()
		}
		task.Release()
		if !late {
			if _, err := r.db.Acquire(taskID(0), stores); !errors.Is(err, statestore.ErrHeld) {
				t.Fatalf("a task that is being dropped was acquired: %v", err)
			}
			open()
			<-r.db.Checkpoint(other).Done()
		}
		task = r.acquire(0)
		wantContents(t, task, "")
		if _, ok := task.Position(); ok {
			t.Fatalf("late %v: a dropped task has a position", late)
		}
		task.Release()
		other.Release()
	}
}

func TestDropTakesAQueuedGenerationWithIt(t *testing.T) {
	r := newRig(t, nil)
	r.engine.fail.Store(true)
	task, other := r.acquire(0), r.acquire(1)
	defer task.Release()
	defer other.Release()
	r.commit(task, 1, "a=1")
	r.commit(other, 1, "x=1")
	ticket := r.db.Checkpoint(task, other)
	r.timer <- r.clock() // the first try has failed when the writer waits
	if err := ticket.Err(); !errors.Is(err, errDisk) {
		t.Fatalf("ticket: %v", err)
	}
	if err := task.Drop(context.Background()); err != nil {
		t.Fatalf("a drop while the disk is full: %v", err)
	}
	wantContents(t, task, "")
	r.engine.fail.Store(false)
	r.pass(time.Minute)
	r.timer <- r.clock()
	<-ticket.Done()
	if err := ticket.Err(); err != nil {
		t.Fatal(err)
	}
	task.Release()
	task = r.acquire(0)
	wantContents(t, task, "")
	if pos, ok := task.Position(); ok {
		t.Fatalf("what was dropped has left its position behind: %+v", pos)
	}
	wantContents(t, other, "x=1")
	task.Release()
}

func TestResetRemovesEverything(t *testing.T) {
	r := newRig(t, nil)
	for i := range 3 {
		task := r.acquire(i)
		r.commit(task, 1, "a=1")
		if i < 2 {
			r.checkpoint(task)
		}
		task.Release()
	}
	if err := r.db.Reset(context.Background()); err != nil {
		t.Fatal(err)
	}
	if ids, err := r.db.TaskIDs(); err != nil || len(ids) != 0 {
		t.Fatalf("%v, %v", ids, err)
	}
	task := r.acquire(0)
	wantContents(t, task, "")
	task.Release()
}

func TestDropOfATaskWithoutOwner(t *testing.T) {
	r := newRig(t, nil)
	for i := range 2 {
		task := r.acquire(i)
		r.commit(task, 1, "a=1")
		task.Release()
	}
	if err := r.db.Drop(context.Background(), taskID(0)); err != nil {
		t.Fatal(err)
	}
	task := r.acquire(0)
	wantContents(t, task, "")
	task.Release()
	task = r.acquire(1)
	wantContents(t, task, "a=1")
	task.Release()
}

// A drop that the engine refuses leaves what was committed, also what is not written yet.
func TestARefusedDropLosesNothing(t *testing.T) {
	r := newRig(t, nil)
	r.engine.fail.Store(true)
	r.engine.failExcise.Store(true)
	task := r.acquire(0)
	r.commit(task, 1, "a=1")
	task.Release()
	r.timer <- r.clock() // the first try to write it has failed when the writer waits
	if err := r.db.Drop(context.Background(), taskID(0)); !errors.Is(err, errDisk) {
		t.Fatalf("a drop that is refused: %v", err)
	}
	task = r.acquire(0)
	wantContents(t, task, "a=1")
	wantN(t, task, 1)
	if err := task.Drop(context.Background()); !errors.Is(err, errDisk) {
		t.Fatalf("a drop by the owner that is refused: %v", err)
	}
	wantContents(t, task, "a=1")
	r.engine.fail.Store(false)
	r.pass(time.Minute)
	r.timer <- r.clock()
	r.engine.failExcise.Store(false)
	if err := task.Drop(context.Background()); err != nil {
		t.Fatal(err)
	}
	wantContents(t, task, "")
	task.Release()
}
