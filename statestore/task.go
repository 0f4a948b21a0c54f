package statestore

import (
	"context"
	"time"
)

// Task is the state of one task in the hands of its owner.
type Task struct{}

// ID is the task's id.
func (t *Task) ID() TaskID { panic("skeleton") }

// Position is the newest position of the task's committed state: of the active generation, else the frozen one, else the engine.
func (t *Task) Position() (Position, bool) { panic("skeleton") }

// View returns the view of a declared store; nil if it was not declared. It stays the same for the Task's life.
func (t *Task) View(d *Declaration) *View { panic("skeleton") }

// Mark is the point to which Rollback goes back. An earlier mark is forgotten.
func (t *Task) Mark() { panic("skeleton") }

// Rollback undoes the writes of all stores since Mark.
func (t *Task) Rollback() { panic("skeleton") }

// Dirty reports that the overlay holds writes.
func (t *Task) Dirty() bool { panic("skeleton") }

// OverlayBytes is the memory of the overlay.
func (t *Task) OverlayBytes() int64 { panic("skeleton") }

// OverlayLen is the number of keys in the overlay.
func (t *Task) OverlayLen() int { panic("skeleton") }

// Writes calls fn with the last write of each key of the overlay.
func (t *Task) Writes(fn func(d *Declaration, key, value []byte, tombstone bool) error) error {
	panic("skeleton")
}

// SetHorizon raises the first live bucket of a KindMarkers store, in the overlay.
func (t *Task) SetHorizon(d *Declaration, bucket uint64) { panic("skeleton") }

// Reserve makes sure that Apply has room in the memory budget, or returns ErrBudget.
func (t *Task) Reserve() error { panic("skeleton") }

// Apply moves the overlay into the committed state, with its position.
func (t *Task) Apply(pos Position) { panic("skeleton") }

// Discard drops the overlay.
func (t *Task) Discard() { panic("skeleton") }

// ApplyRestored writes one changelog record into the committed state.
func (t *Task) ApplyRestored(d *Declaration, key, value []byte, tombstone bool) error {
	panic("skeleton")
}

// SetPosition says how far the restored records reach.
func (t *Task) SetPosition(pos Position) { panic("skeleton") }

// TouchPosition has the position written again, with the current time, by the next checkpoint.
func (t *Task) TouchPosition() { panic("skeleton") }

// NeedsCheckpoint reports that a checkpoint is due.
func (t *Task) NeedsCheckpoint(now time.Time) bool { panic("skeleton") }

// Tick is called by the owner between transactions.
func (t *Task) Tick() error { panic("skeleton") }

// Drop removes all state of the task, which stays acquired.
func (t *Task) Drop(ctx context.Context) error { panic("skeleton") }

// Release gives the task up.
func (t *Task) Release() { panic("skeleton") }
