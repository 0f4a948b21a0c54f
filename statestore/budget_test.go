package statestore_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/statestore"
)

// A failed ingest keeps the generation; the active one grows until Reserve says no; then everything goes on.
func TestAFailedCheckpointIsRetriedUnderBackPressure(t *testing.T) {
	var infos []statestore.CheckpointInfo
	tried := make(chan struct{}, 100)
	r := newRig(t, func(c *statestore.Config) {
		c.MemoryBudget = 1 << 20
		c.OnCheckpoint = func(i statestore.CheckpointInfo) { infos = append(infos, i); tried <- struct{}{} }
	})
	r.engine.fail.Store(true)
	task := r.acquire(0)
	defer task.Release()
	value := strings.Repeat("v", 1000)
	n, err := uint64(0), error(nil)
	var ticket *statestore.Ticket
	for err == nil && n < 10_000 {
		n++
		put(t, task.View(counts), fmt.Sprintf("%05d=%s", n, value))
		if err = task.Reserve(); err == nil {
			task.Apply(statestore.Position{Checkpoint: statestore.Checkpoint{N: n}})
		}
		if ticket == nil && task.NeedsCheckpoint(r.clock()) {
			ticket = r.db.Checkpoint(task)
		}
		if used := r.db.MemoryUsed(); used.Total() > used.Budget {
			t.Fatalf("over the budget: %+v", used)
		}
	}
	if !errors.Is(err, statestore.ErrBudget) || ticket == nil {
		t.Fatalf("after %d transactions: %v", n, err)
	}
	<-tried
	if again := r.db.Checkpoint(task); len(again.Tasks()) != 0 {
		t.Fatal("a third generation")
	}
	r.engine.fail.Store(false)
	r.pass(time.Minute)
	r.timer <- r.clock()
	<-ticket.Done()
	<-tried
	if len(infos) < 2 || !errors.Is(infos[0].Err, errDisk) || infos[len(infos)-1].Err != nil || infos[1].Try != 2 {
		t.Fatalf("%+v", infos)
	}
	if err := task.Tick(); err != nil {
		t.Fatal(err)
	}
	r.apply(task, statestore.Position{Checkpoint: statestore.Checkpoint{N: n}})
	for i := uint64(1); i <= n; i++ {
		if v, found, err := task.View(counts).Get(fmt.Appendf(nil, "%05d", i)); err != nil || !found || string(v) != value {
			t.Fatalf("key %d: %v, %v", i, found, err)
		}
	}
}

func TestATransactionThatCannotFit(t *testing.T) {
	r := newRig(t, func(c *statestore.Config) { c.MemoryBudget = 1 << 20 })
	task := r.acquire(0)
	defer task.Release()
	value := make([]byte, 1000)
	for i := range 800 {
		if err := task.View(counts).Put(fmt.Appendf(nil, "%05d", i), value); err != nil {
			t.Fatal(err)
		}
	}
	if err := task.Reserve(); problem.CodeOf(err) != problem.MemoryBudgetTooSmall {
		t.Fatalf("reserve: %v", err)
	}
	var err error
	for i := 0; err == nil && i < 2000; i++ {
		err = task.View(counts).Put(fmt.Appendf(nil, "more%05d", i), value)
	}
	if problem.CodeOf(err) != problem.MemoryBudgetTooSmall {
		t.Fatalf("put: %v", err)
	}
	task.Discard()
	wantContents(t, task, "")
}

// A large task whose owner does not come by is no reason for others to write one small checkpoint after the other.
func TestSmallCheckpointsDoNotMakeUpForALargeOne(t *testing.T) {
	r := newRig(t, func(c *statestore.Config) { c.CheckpointRecords = 100; c.MemoryBudget = 16 << 20 })
	large, small := r.acquire(0), r.acquire(1)
	defer large.Release()
	defer small.Release()
	due := func(task *statestore.Task, want bool, when string) {
		t.Helper()
		if got := task.NeedsCheckpoint(r.clock()); got != want {
			t.Fatalf("%s: due is %v", when, got)
		}
	}
	r.commit(large, 1, "big="+strings.Repeat("x", 5<<20))
	r.commit(small, 1, "a=1")
	due(small, false, "little of the memory")
	due(large, true, "most of the memory")
	r.checkpoint(large)
	for i := range 99 {
		r.commit(large, uint64(i+2), fmt.Sprintf("k%d=1", i))
	}
	due(small, false, "few of the records")
	due(large, true, "most of the records")
	for i := range 40 {
		r.commit(small, uint64(i+2), fmt.Sprintf("k%d=1", i))
	}
	due(small, true, "more than half of the average")
	r.checkpoint(large)
	due(small, false, "not many records in all")
}

func TestWhenACheckpointIsDue(t *testing.T) {
	r := newRig(t, func(c *statestore.Config) { c.CheckpointRecords = 10; c.MemoryBudget = 1 << 20 })
	task := r.acquire(0)
	defer task.Release()
	due := func(want bool, when string) {
		t.Helper()
		if got := task.NeedsCheckpoint(r.clock()); got != want {
			t.Fatalf("%s: due is %v", when, got)
		}
	}
	r.pass(time.Hour)
	due(false, "nothing to write")
	r.commit(task, 1, "a=1")
	due(false, "one record")
	r.pass(time.Minute)
	due(true, "after the interval")
	r.checkpoint(task)
	r.pass(time.Hour)
	due(false, "nothing since the checkpoint")
	for i := range 10 {
		r.commit(task, uint64(i+2), fmt.Sprintf("k%d=1", i))
	}
	due(true, "ten records to replay")
	r.checkpoint(task)
	due(false, "after the checkpoint")
	r.commit(task, 20, "big="+strings.Repeat("x", 270<<10))
	due(true, "a quarter of the memory")
	r.checkpoint(task)
	task.TouchPosition()
	due(false, "a position that was touched")
	r.pass(time.Minute)
	due(true, "a touched position after the interval")
	r.checkpoint(task)
	if pos, _ := task.Position(); pos.N != 20 || pos.WrittenAt.Before(r.clock().Add(-2*time.Minute)) {
		t.Fatalf("%+v", pos)
	}
}

func TestRestoreInChunksUnderTheBudget(t *testing.T) {
	r := newRig(t, func(c *statestore.Config) { c.MemoryBudget = 1 << 20 })
	task := r.acquire(0)
	value, checkpoints := []byte(strings.Repeat("v", 500)), 0
	const records = 8000
	for i := range records {
		if err := task.ApplyRestored(counts, fmt.Appendf(nil, "%05d", i%4000), value, i%7 == 0); err != nil {
			t.Fatalf("record %d: %v", i, err)
		}
		if i%100 == 99 {
			task.SetPosition(statestore.Position{Logs: []statestore.LogPosition{{Topic: "log", Next: int64(i + 1)}}})
			if task.NeedsCheckpoint(r.clock()) {
				checkpoints++
				r.checkpoint(task)
			}
		}
	}
	if checkpoints == 0 {
		t.Fatal("no checkpoint was needed")
	}
	pos, _ := task.Position()
	if pos.Logs[0].Next != records {
		t.Fatalf("%+v", pos)
	}
	for i := range 4000 {
		_, found, err := task.View(counts).Get(fmt.Appendf(nil, "%05d", i))
		if err != nil || found != ((i+4000)%7 != 0) {
			t.Fatalf("key %d: %v, %v", i, found, err)
		}
	}
	task.Release()
}

func TestACheckpointInsideARestoreIsRefused(t *testing.T) {
	r := newRig(t, nil)
	task := r.acquire(0)
	if err := task.ApplyRestored(counts, []byte("a"), []byte("1"), false); err != nil {
		t.Fatal(err)
	}
	if task.NeedsCheckpoint(r.clock().Add(time.Hour)) {
		t.Error("data without its position is due")
	}
	task.Release() // no position at all: nothing may stay
	task = r.acquire(0)
	wantContents(t, task, "")
	task.Release()
}

// A restore that does not checkpoint is stopped by the budget, and goes on after a checkpoint.
func TestARestoreWithoutCheckpointsRunsIntoTheBudget(t *testing.T) {
	r := newRig(t, func(c *statestore.Config) { c.MemoryBudget = 1 << 20 })
	task := r.acquire(0)
	defer task.Release()
	value := []byte(strings.Repeat("v", 500))
	var err error
	n := 0
	for ; err == nil && n < 10_000; n++ {
		err = task.ApplyRestored(counts, fmt.Appendf(nil, "%05d", n), value, false)
	}
	if used := r.db.MemoryUsed(); !errors.Is(err, statestore.ErrBudget) || used.Total() > used.Budget {
		t.Fatalf("after %d records: %v, %+v", n, err, used)
	}
	task.SetPosition(statestore.Position{})
	if !task.NeedsCheckpoint(r.clock()) {
		t.Fatal("no checkpoint is due")
	}
	r.checkpoint(task)
	if err := task.ApplyRestored(counts, fmt.Appendf(nil, "%05d", n-1), value, false); err != nil {
		t.Fatal(err)
	}
	task.SetPosition(statestore.Position{})
}
