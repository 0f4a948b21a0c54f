package statestore

import (
	"errors"
	"time"

	"github.com/oncemill/oncemill/internal/problem"
)

// Defaults of Config.
const (
	DefaultMemoryBudget       = 256 << 20
	DefaultCheckpointRecords  = 1_000_000
	DefaultCheckpointInterval = 60 * time.Second
	// MinMemoryBudget holds the first chunks of a few hundred small tables.
	MinMemoryBudget = 1 << 20
)

// ErrBudget is returned by Task.Reserve and Task.ApplyRestored when the memory budget has no room: checkpoint, wait for the
// ticket, Tick, and try again. Nothing was changed.
var ErrBudget = errors.New("statestore: no room in the memory budget before a checkpoint is written")

// ErrHeld is returned by Acquire, Drop and Reset when a task has an owner.
var ErrHeld = errors.New("statestore: the task is held by an owner")

// ErrClosed is returned when the DB is closed.
var ErrClosed = errors.New("statestore: closed")

// ErrDropped is the error of a ticket whose generation was dropped with its task before it was written.
var ErrDropped = errors.New("statestore: the task was dropped before its checkpoint was written")

// ErrReleased is returned by the operations of a Task or View after Task.Release.
var ErrReleased = errors.New("statestore: the task was released")

// Config configures a DB. The zero value of a field is the default given.
type Config struct {
	// Engine is required. The DB closes it.
	Engine Engine
	// MemoryBudget bounds the bytes of overlays, active, frozen and clean generations of all tasks. Default 256 MiB. The
	// engine's block cache is apart from it, and so are the filters.
	MemoryBudget int64
	// FilterBytes bounds the filters over the markers of all tasks, which answer most lookups of new ids: 10 bits an id.
	// What does not fit is looked up in the tables and the engine. Default: a sixteenth of MemoryBudget.
	FilterBytes int64
	// CheckpointRecords bounds the changelog records to replay after a crash. Default 1,000,000.
	CheckpointRecords int
	// CheckpointInterval bounds the time that committed data waits for a checkpoint. Default 60 s.
	CheckpointInterval time.Duration
	// Now is the clock. Default time.Now.
	Now func() time.Time
	// After waits on the clock between the tries of a failed checkpoint. Default time.After.
	After func(time.Duration) <-chan time.Time
	// OnCheckpoint, if set, is told of every try to write a checkpoint, on the writer's goroutine.
	OnCheckpoint func(CheckpointInfo)
	// Hooks are called at steps of the protocol. They are for tests that hold the writer at a step.
	Hooks Hooks
}

// Hooks are called on the writer's goroutine; nil ones are not.
type Hooks struct {
	BeforeIngest func()
	AfterIngest  func()
	BeforeExcise func()
	AfterExcise  func()
}

// CheckpointInfo tells of one try to write a checkpoint.
type CheckpointInfo struct {
	Tasks    []TaskID
	Records  int   // cells written, positions not counted
	Bytes    int64 // memory of the frozen generations
	Duration time.Duration
	Try      int // 1 for the first
	Err      error
}

// MemoryUsed is where the bytes of the budget are.
type MemoryUsed struct {
	Overlays, Active, Frozen, Clean int64
	// Reserved was promised by Reserve and is not filled yet.
	Reserved int64
	// Pooled is free memory kept for reuse; it is dropped first.
	Pooled int64
	// Filters is the memory of the filters, which has a bound of its own.
	Filters int64
	Budget  int64
}

// Total is what counts against the budget.
func (m MemoryUsed) Total() int64 {
	return m.Overlays + m.Active + m.Frozen + m.Clean + m.Reserved + m.Pooled
}

func (c *Config) setDefaults() {
	if c.MemoryBudget == 0 {
		c.MemoryBudget = DefaultMemoryBudget
	}
	if c.FilterBytes == 0 {
		c.FilterBytes = c.MemoryBudget / filterShare
	}
	if c.CheckpointRecords == 0 {
		c.CheckpointRecords = DefaultCheckpointRecords
	}
	if c.CheckpointInterval == 0 {
		c.CheckpointInterval = DefaultCheckpointInterval
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.After == nil {
		c.After = time.After
	}
}

func (c *Config) validate() error {
	var errs []error
	bad := func(field, format string, args ...any) {
		errs = append(errs, problem.New(problem.ConfigInvalid, "statestore.Config."+field, format, args...))
	}
	if c.Engine == nil {
		bad("Engine", "is required")
	}
	if c.MemoryBudget < MinMemoryBudget {
		bad("MemoryBudget", "is %d, below the least of %d", c.MemoryBudget, MinMemoryBudget)
	}
	if c.FilterBytes < 0 {
		bad("FilterBytes", "is %d, below zero", c.FilterBytes)
	}
	if c.CheckpointRecords < 0 {
		bad("CheckpointRecords", "is %d, below zero", c.CheckpointRecords)
	}
	if c.CheckpointInterval < 0 {
		bad("CheckpointInterval", "is %v, below zero", c.CheckpointInterval)
	}
	return errors.Join(errs...)
}
