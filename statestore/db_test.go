package statestore_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/statestore/memory"
)

// rig is a DB over an engine in memory, with a clock and hooks of its own.
type rig struct {
	t      testing.TB
	db     *statestore.DB
	engine *faultyEngine
	mu     sync.Mutex
	now    time.Time
	timer  chan time.Time
}

func newRig(t testing.TB, change func(*statestore.Config)) *rig {
	r := &rig{t: t, engine: &faultyEngine{Engine: memory.New()}, now: time.Unix(1_700_000_000, 0), timer: make(chan time.Time)}
	cfg := statestore.Config{Engine: r.engine, MemoryBudget: 8 << 20, Now: r.clock,
		After: func(time.Duration) <-chan time.Time { return r.timer }}
	if change != nil {
		change(&cfg)
	}
	db, err := statestore.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.db = db
	t.Cleanup(func() {
		if err := db.Close(context.Background()); err != nil {
			t.Errorf("close: %v", err)
		}
		if used := db.MemoryUsed(); used.Total() != 0 {
			t.Errorf("memory is left: %+v", used)
		}
	})
	return r
}

func (r *rig) clock() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

func (r *rig) pass(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now = r.now.Add(d)
}

func (r *rig) acquire(partition int) *statestore.Task {
	r.t.Helper()
	task, err := r.db.Acquire(taskID(partition), stores)
	if err != nil {
		r.t.Fatal(err)
	}
	return task
}

// commit writes "key=value" and, for a tombstone, "key" as transaction n.
func (r *rig) commit(task *statestore.Task, n uint64, cells ...string) {
	r.t.Helper()
	put(r.t, task.View(counts), cells...)
	r.apply(task, statestore.Position{Checkpoint: statestore.Checkpoint{N: n}})
}

func (r *rig) apply(task *statestore.Task, pos statestore.Position) {
	r.t.Helper()
	if err := task.Reserve(); err != nil {
		r.t.Fatal(err)
	}
	task.Apply(pos)
}

func put(t testing.TB, v *statestore.View, cells ...string) {
	t.Helper()
	for c := range storeCells(cells) {
		var err error
		if c.Tombstone {
			err = v.Delete(c.Key)
		} else {
			err = v.Put(c.Key, c.Value)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func storeCells(cells []string) func(func(statestore.Cell) bool) {
	return func(yield func(statestore.Cell) bool) {
		for _, c := range cells {
			k, v, has := strings.Cut(c, "=")
			if !yield(statestore.Cell{Key: []byte(k), Value: []byte(v), Tombstone: !has}) {
				return
			}
		}
	}
}

func contents(t testing.TB, v *statestore.View, from, to []byte, reverse bool) string {
	t.Helper()
	var out []string
	it := v.Iterate(from, to, reverse)
	defer it.Close()
	for it.Next() {
		out = append(out, string(it.Key())+"="+string(it.Value()))
	}
	if it.Err() != nil {
		t.Fatal(it.Err())
	}
	return strings.Join(out, " ")
}

func wantContents(t testing.TB, task *statestore.Task, want string) {
	t.Helper()
	if got := contents(t, task.View(counts), nil, nil, false); got != want {
		t.Fatalf("the store has %q, want %q", got, want)
	}
}

// checkpoint writes the task's state and waits for it.
func (r *rig) checkpoint(task *statestore.Task) {
	r.t.Helper()
	ticket := r.db.Checkpoint(task)
	<-ticket.Done()
	if err := ticket.Err(); err != nil {
		r.t.Fatal(err)
	}
	if err := task.Tick(); err != nil {
		r.t.Fatal(err)
	}
}

func wantN(t testing.TB, task *statestore.Task, n uint64) {
	t.Helper()
	pos, ok := task.Position()
	if !ok || pos.N != n {
		t.Fatalf("the position is %d, %v, want %d", pos.N, ok, n)
	}
}

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

// I5: a drop waits for the running checkpoint, takes what is queued out, and frees every generation.
func TestDropQueuesBehindTheRunningCheckpoint(t *testing.T) {
	reached, gate := make(chan struct{}, 10), make(chan struct{})
	var order []string
	r := newRig(t, func(c *statestore.Config) {
		c.Hooks.BeforeIngest = func() { order = append(order, "ingest"); reached <- struct{}{}; <-gate }
		c.Hooks.AfterIngest = func() { order = append(order, "ingested") }
		c.Hooks.BeforeExcise = func() { order = append(order, "excise") }
	})
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
	close(gate)
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
			close(gate)
			<-r.db.Checkpoint(other).Done()
		}
		task.Release()
		if !late {
			if _, err := r.db.Acquire(taskID(0), stores); !errors.Is(err, statestore.ErrHeld) {
				t.Fatalf("a task that is being dropped was acquired: %v", err)
			}
			close(gate)
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
	wantContents(t, other, "x=1")
	task.Release()
}

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

func TestRestoreInChunksUnderTheBudget(t *testing.T) {
	r := newRig(t, func(c *statestore.Config) { c.MemoryBudget = 1 << 20 })
	task := r.acquire(0)
	value, checkpoints := []byte(strings.Repeat("v", 500)), 0
	const records = 8000
	for i := range records {
		for {
			err := task.ApplyRestored(counts, fmt.Appendf(nil, "%05d", i%4000), value, i%7 == 0)
			if err == nil {
				break
			}
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
