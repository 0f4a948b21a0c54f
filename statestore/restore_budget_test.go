package statestore_test

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/statestore"
)

// I6 holds while a task is restored, also when an index is doubled: many short keys make that the largest step.
func TestRestoreStaysInsideTheMemoryBudget(t *testing.T) {
	r := newRig(t, func(c *statestore.Config) { c.MemoryBudget = 4 << 20 })
	task := r.acquire(0)
	defer task.Release()
	var key [8]byte
	most, chunks := int64(0), 0
	for i := range 250_000 {
		binary.BigEndian.PutUint64(key[:], uint64(i)*0x9E3779B97F4A7C15)
		err := task.ApplyRestored(counts, key[:], nil, false)
		if errors.Is(err, statestore.ErrBudget) {
			chunks++
			task.SetPosition(statestore.Position{})
			r.checkpoint(task)
			err = task.ApplyRestored(counts, key[:], nil, false)
		}
		if err != nil {
			t.Fatal(err)
		}
		most = max(most, r.db.MemoryUsed().Total())
	}
	task.SetPosition(statestore.Position{})
	if chunks == 0 || most > 4<<20 {
		t.Errorf("%d chunks, %d bytes of a budget of %d were used", chunks, most, 4<<20)
	}
}

// A record that is larger than the budget is told at once: no checkpoint makes room for it.
func TestARestoredRecordThatCannotFit(t *testing.T) {
	r := newRig(t, func(c *statestore.Config) { c.MemoryBudget = 1 << 20 })
	task := r.acquire(0)
	defer task.Release()
	err := task.ApplyRestored(counts, []byte("k"), make([]byte, 1<<20), false)
	if problem.CodeOf(err) != problem.MemoryBudgetTooSmall || r.db.Pressed() {
		t.Fatalf("%v, pressed: %v", err, r.db.Pressed())
	}
}
