package statestore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oncemill/oncemill/internal/delta"
	"github.com/oncemill/oncemill/internal/problem"
)

// DB holds the state of all tasks of a process: one engine, one memory budget, one goroutine that changes the engine.
//
//	owner of a task, between transactions      writer goroutine, first in first out
//	  Checkpoint: A becomes F, new A       ->    ingest every F of the job, positions inside
//	  reads: overlay, A, F, engine               F.ingested = epoch
//	  Tick: F ingested? renew the reader,  <-    settle the ticket
//	        only then F becomes C
//	  Drop                                 ->    excise the prefix, forget its queued F
//	        free A, F, C; renew the reader <-    settle
//	  Release: A becomes F if there is no F;     when F arrived and nobody owns the task:
//	        else the writer does that later        free F, queue A as the next F
//
// Locks: mu guards the task table, the queue, and who owns a task. It is held for a few pointer writes, never over I/O. What
// a generation holds belongs to the owner while it is active; a frozen one is read by owner and writer and changed by
// nobody. Of a task without owner, mu guards everything. budget is taken with or without mu, and nothing is locked inside.
type DB struct {
	cfg      Config
	pool     *delta.Pool
	accounts struct{ overlays, active, frozen, clean, reserved, filters delta.Account }
	budget   sync.Mutex // of Reserve: two tasks must not be promised the same bytes
	// short counts those that found no room. Until they have it, clean caches go, and every task with something to write
	// needs a checkpoint.
	short atomic.Int32
	// changed is closed when memory is given back; nil while nobody waits for that.
	changed atomic.Pointer[chan struct{}]
	// records is the sum of the active generations' records.
	records atomic.Int64
	owned   atomic.Int64 // tasks that have an owner

	wake chan struct{} // to the writer: the queue or closing changed
	done chan struct{} // closed by the writer at its end
	// closed is closed when the engine is.
	closed chan struct{}

	mu struct {
		sync.Mutex
		tasks     map[TaskID]*taskState
		queue     []*job
		closing   bool
		resetting bool
		unwritten []TaskID // set when the DB is closed
	}
}

// taskState is what the DB knows of a task that has an owner or something to write. Guarded by DB.mu; active belongs to the
// owner.
type taskState struct {
	id       TaskID
	prefix   [taskPrefixLen]byte
	owner    *Task
	dropping bool // a Drop without owner is queued
	active   *generation
	frozen   *generation // queued or being ingested; ingested while the owner has not noticed
	// cut is, for each KindMarkers store, the horizon below which the engine has nothing.
	cut map[uint32]uint64
	// written is the transaction number of the newest position in the engine, as far as this process wrote it. Invariant
	// I2: it never falls but by a drop. Of the writer.
	written uint64
}

// Open starts a DB over an engine, which it closes.
func Open(cfg Config) (*DB, error) {
	cfg.setDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	db := &DB{cfg: cfg, wake: make(chan struct{}, 1), done: make(chan struct{}), closed: make(chan struct{})}
	db.pool = delta.NewPool(cfg.MemoryBudget / poolShare)
	db.mu.tasks = map[TaskID]*taskState{}
	go db.write()
	return db, nil
}

// Close writes the queued checkpoints, one try each, stops the writer and closes the engine. Every task must be released. It
// makes no checkpoint by itself: what is not queued is replayed from the changelog. If ctx ends first, the writer or the engine
// is still at work; Closed tells when they have ended.
func (db *DB) Close(ctx context.Context) error {
	db.mu.Lock()
	if held := db.heldLocked(); len(held) > 0 {
		db.mu.Unlock()
		return fmt.Errorf("%w: %v", ErrHeld, held)
	}
	if db.mu.closing {
		db.mu.Unlock()
		return ErrClosed
	}
	db.mu.closing = true
	db.mu.Unlock()
	db.signal()
	closed := make(chan error, 1)
	go func() { // ends with the write that takes so long, and nothing else is left of the store then
		<-db.done
		closed <- db.close()
	}()
	select {
	case err := <-closed:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// close lets everything go. The writer has ended.
func (db *DB) close() error {
	var unwritten []TaskID
	for _, st := range db.mu.tasks { // the writer is gone and nobody owns a task
		if st.isUnwritten() {
			unwritten = append(unwritten, st.id)
		}
		db.freeState(st)
	}
	clear(db.mu.tasks)
	slices.SortFunc(unwritten, compareTaskIDs)
	db.mu.Lock()
	db.mu.unwritten = unwritten
	db.mu.Unlock()
	db.pool.Trim()
	defer close(db.closed)
	return db.cfg.Engine.Close()
}

// Closed is closed once nothing of the engine is in use any more: by Close, or after it when its ctx has ended first.
func (db *DB) Closed() <-chan struct{} { return db.closed }

func (db *DB) heldLocked() []TaskID {
	var held []TaskID
	for id, st := range db.mu.tasks {
		if st.owner != nil {
			held = append(held, id)
		}
	}
	slices.SortFunc(held, compareTaskIDs)
	return held
}

func compareTaskIDs(a, b TaskID) int {
	return cmp.Or(cmp.Compare(a.SubTopology, b.SubTopology), cmp.Compare(a.Partition, b.Partition))
}

// Unwritten returns, after a Close that was in time, the tasks of which the engine lacks what was committed last: the next restore replays it.
func (db *DB) Unwritten() []TaskID {
	db.mu.Lock()
	defer db.mu.Unlock()
	return db.mu.unwritten
}

func (st *taskState) isUnwritten() bool {
	return st.frozen != nil && st.frozen.len() > 0 && st.frozen.ingested.Load() == 0 || st.active != nil && st.active.len() > 0
}

// freeState frees the generations of a task that nobody owns.
func (db *DB) freeState(st *taskState) {
	for _, g := range []*generation{st.active, st.frozen} {
		if g != nil {
			g.free()
		}
	}
	if st.active != nil {
		db.records.Add(-int64(st.active.records))
	}
	st.active, st.frozen = nil, nil
}

// Acquire makes the caller the owner of a task's state, with the stores declared. It continues from what the last owner
// committed, also if that is not written yet. It waits for nothing; ErrHeld says that the task has an owner or is being
// dropped. The Task belongs to one goroutine at a time.
func (db *DB) Acquire(id TaskID, decls []*Declaration) (*Task, error) {
	t := &Task{db: db, byDecl: make(map[*Declaration]*View, len(decls)), lastRenew: db.cfg.Now()}
	if err := db.own(id, t); err != nil {
		return nil, err
	}
	if err := t.open(decls); err != nil {
		db.disown(t)
		return nil, err
	}
	return t, nil
}

// own enters the owner first: from then on the writer leaves the generations to it.
func (db *DB) own(id TaskID, t *Task) error {
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.mu.closing {
		return ErrClosed
	}
	if db.mu.resetting {
		return fmt.Errorf("%w: the engine is being reset", ErrHeld)
	}
	st := db.stateLocked(id)
	if st.owner != nil || st.dropping {
		return fmt.Errorf("%w: %s", ErrHeld, id)
	}
	if st.active == nil {
		st.active = &generation{task: st}
	}
	st.owner, t.st = t, st
	db.owned.Add(1)
	return nil
}

// disown takes the owner away, and sees to it that what is committed gets written.
func (db *DB) disown(t *Task) {
	db.mu.Lock()
	defer db.mu.Unlock()
	t.st.owner = nil
	db.owned.Add(-1)
	db.settleLocked(t.st)
}

// settleLocked moves a task that nobody owns on: an ingested F goes, A becomes the next F, and a task with neither is
// forgotten.
func (db *DB) settleLocked(st *taskState) {
	if st.owner != nil || st.dropping {
		return
	}
	if st.frozen != nil && st.frozen.ingested.Load() != 0 {
		st.frozen.free()
		st.frozen = nil
	}
	if st.frozen != nil {
		return
	}
	if st.active != nil && st.active.isEmpty() {
		st.active = nil
	}
	if st.active == nil {
		delete(db.mu.tasks, st.id)
		return
	}
	db.enqueueLocked(&job{kind: jobCheckpoint, generations: []*generation{db.freezeLocked(st)}, ticket: newTicket()})
}

// freezeLocked makes A the new F. There must be no F.
func (db *DB) freezeLocked(st *taskState) *generation {
	g := st.active
	db.records.Add(-int64(g.records))
	g.size = g.bytes()
	g.moveTo(&db.accounts.frozen)
	if st.cut == nil {
		st.cut = map[uint32]uint64{}
	}
	g.findExpired(st.cut)
	st.frozen, st.active = g, nil
	if st.owner != nil {
		st.active = &generation{task: st}
	}
	return g
}

// Drop removes all state of a task that nobody owns, in memory and in the engine. It queues behind the running checkpoint.
func (db *DB) Drop(ctx context.Context, id TaskID) error {
	j, err := db.queueDrop(id)
	if err != nil {
		return err
	}
	return j.ticket.wait(ctx)
}

func (db *DB) queueDrop(id TaskID) (*job, error) {
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.mu.closing {
		return nil, ErrClosed
	}
	st := db.stateLocked(id)
	if st.owner != nil || st.dropping {
		return nil, fmt.Errorf("%w: %s", ErrHeld, id)
	}
	st.dropping = true
	j := &job{kind: jobDrop, task: st, ticket: newTicket()}
	db.enqueueLocked(j)
	return j, nil
}

func (db *DB) stateLocked(id TaskID) *taskState {
	st := db.mu.tasks[id]
	if st == nil {
		st = &taskState{id: id, prefix: taskPrefix(id)}
		db.mu.tasks[id] = st
	}
	return st
}

// Reset removes all state of all tasks: the way out when a damaged table spans tasks. No task may have an owner.
func (db *DB) Reset(ctx context.Context) error {
	db.mu.Lock()
	if held := db.heldLocked(); len(held) > 0 || db.mu.closing || db.mu.resetting {
		db.mu.Unlock()
		return fmt.Errorf("%w: %v", ErrHeld, held)
	}
	db.mu.resetting = true
	j := &job{kind: jobReset, ticket: newTicket()}
	db.enqueueLocked(j)
	db.mu.Unlock()
	return j.ticket.wait(ctx)
}

// TaskIDs returns the tasks that have state, in memory or in the engine, or an owner, in order.
func (db *DB) TaskIDs() (ids []TaskID, err error) {
	r, err := db.cfg.Engine.NewReader(nil, endOfKeys)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if ids, err = scanTaskIDs(r); err != nil {
		return nil, err
	}
	db.mu.Lock()
	for id, st := range db.mu.tasks {
		if (st.owner != nil || st.active != nil || st.frozen != nil) && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	db.mu.Unlock()
	slices.SortFunc(ids, compareTaskIDs)
	return ids, nil
}

func scanTaskIDs(r Reader) (ids []TaskID, err error) {
	c, err := r.Cursor(nil, endOfKeys)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	for ok := c.SeekGE(nil); ok; {
		key := c.Key()
		if len(key) < storePrefixLen {
			return nil, problem.New(problem.StoreCorrupt, "engine", "a key of %d bytes", len(key))
		}
		var prefix [taskPrefixLen]byte
		copy(prefix[:], key)
		value, err := c.Value()
		if err != nil {
			return nil, err
		}
		record, err := decodeTaskRecord(value)
		if err != nil {
			return nil, err
		}
		ids = append(ids, TaskID{record.subTopology, int32(uint32(prefix[4])<<24 | uint32(prefix[5])<<16 | uint32(prefix[6])<<8 | uint32(prefix[7]))})
		ok = c.SeekGE(prefixEnd(prefix[:]))
	}
	return ids, c.Err()
}

// MemoryUsed reports where the budget went.
func (db *DB) MemoryUsed() MemoryUsed {
	a := &db.accounts
	return MemoryUsed{
		Overlays: a.overlays.Bytes(), Active: a.active.Bytes(), Frozen: a.frozen.Bytes(), Clean: a.clean.Bytes(),
		Reserved: a.reserved.Bytes(), Pooled: db.pool.Pooled(), Filters: a.filters.Bytes(), Budget: db.cfg.MemoryBudget,
	}
}

// Metrics reports the engine's numbers.
func (db *DB) Metrics() EngineMetrics { return db.cfg.Engine.Metrics() }

const (
	// poolShare is the part of the budget that may lie free for reuse.
	poolShare = 16
	// filterShare is the default part of the budget, beside it, that filters may take.
	filterShare = 16
	// activeShare is the part of the budget at which the active generations are checkpointed. While one is written, its
	// successors grow to the same size; clean caches, overlays and rewrites take the rest.
	activeShare = 4
	// renewInterval bounds how long an idle task's reader keeps obsolete tables on the disk.
	renewInterval = 30 * time.Second
)
