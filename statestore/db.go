package statestore

import "context"

// DB holds the state of all tasks of a process.
type DB struct{ cfg Config }

// Open starts a DB over an engine.
func Open(cfg Config) (*DB, error) {
	cfg.setDefaults()
	return &DB{cfg: cfg}, cfg.validate()
}

// Close finishes the queued checkpoints, one try each, stops the writer and closes the engine.
func (db *DB) Close(ctx context.Context) error { panic("skeleton") }

// Acquire makes the caller the owner of a task's state.
func (db *DB) Acquire(id TaskID, decls []*Declaration) (*Task, error) { panic("skeleton") }

// Drop removes all state of a task that nobody owns.
func (db *DB) Drop(ctx context.Context, id TaskID) error { panic("skeleton") }

// Reset removes all state of all tasks, none of which may have an owner.
func (db *DB) Reset(ctx context.Context) error { panic("skeleton") }

// TaskIDs returns the tasks that have state, in memory or in the engine.
func (db *DB) TaskIDs() ([]TaskID, error) { panic("skeleton") }

// MemoryUsed reports where the budget went.
func (db *DB) MemoryUsed() MemoryUsed { panic("skeleton") }

// Metrics reports the engine's numbers.
func (db *DB) Metrics() EngineMetrics { panic("skeleton") }

// Checkpoint freezes what the tasks committed and queues it as one ingest.
func (db *DB) Checkpoint(tasks ...*Task) *Ticket { panic("skeleton") }

// Ticket is the outcome of a Checkpoint.
type Ticket struct{}

// Done is closed when the ticket is settled.
func (t *Ticket) Done() <-chan struct{} { panic("skeleton") }

// Err is the outcome of a settled ticket, and the latest failed try of one that is not.
func (t *Ticket) Err() error { panic("skeleton") }
