package statestore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/statestore"
)

// putBytes writes n bytes in values of 1000.
func putBytes(t *testing.T, task *statestore.Task, n int) {
	t.Helper()
	for i := 0; n > 0; i++ {
		if err := task.View(counts).Put(fmt.Appendf(nil, "%05d", i), bytes.Repeat([]byte("v"), 1000)); err != nil {
			t.Fatal(err)
		}
		n -= 1000
	}
}

func signalled(room <-chan struct{}) bool {
	select {
	case <-room:
		return true
	default:
		return false
	}
}

// What an idle owner holds is another one's room: it is asked to write it, and everything that it holds only to be faster goes.
func TestRoomIsMadeByThoseThatHoldIt(t *testing.T) {
	r := newRig(t, func(c *statestore.Config) { c.MemoryBudget = 1 << 20 })
	idle, busy := r.acquire(0), r.acquire(1)
	defer idle.Release()
	defer busy.Release()
	putBytes(t, idle, 200_000)
	r.apply(idle, statestore.Position{Checkpoint: statestore.Checkpoint{N: 1}})
	r.checkpoint(idle)
	putBytes(t, idle, 200_000)
	r.apply(idle, statestore.Position{Checkpoint: statestore.Checkpoint{N: 2}})
	putBytes(t, busy, 400_000)
	room := r.db.Room()
	if err := busy.Reserve(); !errors.Is(err, statestore.ErrBudget) || !r.db.Pressed() {
		t.Fatalf("%v, pressed: %v", err, r.db.Pressed())
	}
	if !idle.NeedsCheckpoint(r.clock()) {
		t.Fatal("the idle task is not asked")
	}
	r.checkpoint(idle)
	if !signalled(room) {
		t.Fatal("nobody was told")
	}
	room = r.db.Room()
	if err := errors.Join(idle.Tick(), busy.Tick()); err != nil || signalled(room) {
		t.Fatalf("%v; told of room although nothing was given back: %v", err, signalled(room))
	}
	if used := r.db.MemoryUsed(); used.Active+used.Frozen+used.Clean != 0 {
		t.Fatalf("%+v", used)
	}
	if err := busy.Reserve(); err != nil || r.db.Pressed() {
		t.Fatalf("%v, pressed: %v", err, r.db.Pressed())
	}
	busy.Discard()
}

// One that has room does not speak for another one that has none.
func TestPressureLastsUntilTheOneThatIsShortHasRoom(t *testing.T) {
	r := newRig(t, func(c *statestore.Config) { c.MemoryBudget = 1 << 20 })
	large, small, other := r.acquire(0), r.acquire(1), r.acquire(2)
	defer large.Release()
	defer small.Release()
	defer other.Release()
	putBytes(t, other, 250_000)
	r.apply(other, statestore.Position{Checkpoint: statestore.Checkpoint{N: 1}})
	putBytes(t, large, 400_000)
	put(t, small.View(counts), "a=1")
	if err := large.Reserve(); !errors.Is(err, statestore.ErrBudget) {
		t.Fatal(err)
	}
	r.apply(small, statestore.Position{Checkpoint: statestore.Checkpoint{N: 1}})
	if !r.db.Pressed() {
		t.Fatal("the large one is forgotten")
	}
	room := r.db.Room()
	large.Discard()
	if r.db.Pressed() || !signalled(room) {
		t.Fatal("a transaction that was given up is short")
	}
	release := r.db.Press()
	if !other.NeedsCheckpoint(r.clock()) {
		t.Fatal("nothing is asked of the others")
	}
	release()
	if r.db.Pressed() {
		t.Fatal("pressed for ever")
	}
}

// The tasks of one transaction have room together or not at all.
func TestReserveIsForAllTasksOfATransaction(t *testing.T) {
	r := newRig(t, func(c *statestore.Config) { c.MemoryBudget = 1 << 20 })
	a, b := r.acquire(0), r.acquire(1)
	defer a.Release()
	defer b.Release()
	putBytes(t, a, 300_000)
	putBytes(t, b, 300_000)
	if err := r.db.Reserve(a, b); problem.CodeOf(err) != problem.MemoryBudgetTooSmall || r.db.MemoryUsed().Reserved != 0 {
		t.Fatalf("%v, %+v", err, r.db.MemoryUsed())
	}
	if r.db.Pressed() {
		t.Fatal("others are asked for what they cannot give")
	}
	b.Discard()
	if err := r.db.Reserve(a, b); err != nil || r.db.MemoryUsed().Reserved == 0 {
		t.Fatalf("%v, %+v", err, r.db.MemoryUsed())
	}
	a.Discard()
	if used := r.db.MemoryUsed(); used.Reserved != 0 {
		t.Fatalf("%+v", used)
	}
}

// A store that is closed on a full disk says what it did not write.
func TestCloseSaysWhatWasNotWritten(t *testing.T) {
	r := newRig(t, nil)
	written, unwritten := r.acquire(0), r.acquire(1)
	r.commit(written, 1, "a=1")
	r.checkpoint(written)
	r.engine.fail.Store(true)
	r.commit(unwritten, 1, "a=1")
	if unwritten.Unwritten() == 0 || written.Unwritten() != 0 {
		t.Fatalf("%d and %d records are not written", unwritten.Unwritten(), written.Unwritten())
	}
	written.Release()
	unwritten.Release()
	if err := r.db.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got := r.db.Unwritten(); len(got) != 1 || got[0] != taskID(1) {
		t.Fatalf("%v", got)
	}
}

func TestReserveOfSeveralTasksGivesAllOfItBack(t *testing.T) {
	r := newRig(t, nil)
	a, b := r.acquire(0), r.acquire(1)
	defer a.Release()
	defer b.Release()
	putBytes(t, a, 50_000)
	putBytes(t, b, 80_000)
	for range 2 { // the second time after an answer that asked for another try
		if err := r.db.Reserve(a, b); err != nil {
			t.Fatal(err)
		}
	}
	one := r.db.MemoryUsed().Reserved
	a.Apply(statestore.Position{Checkpoint: statestore.Checkpoint{N: 1}})
	if left := r.db.MemoryUsed().Reserved; left <= 0 || left >= one {
		t.Fatalf("%d of %d reserved bytes are left for the other task", left, one)
	}
	b.Discard()
	if left := r.db.MemoryUsed().Reserved; left != 0 {
		t.Fatalf("%d bytes stay reserved for ever", left)
	}
}
