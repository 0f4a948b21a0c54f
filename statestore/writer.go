package statestore

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/oncemill/oncemill/internal/invariants"
)

const (
	// The wait before a failed checkpoint is tried again: doubled from the first to the last. A full disk does not empty
	// within milliseconds, and an operator who made room should not wait for long.
	firstBackoff = 100 * time.Millisecond
	lastBackoff  = 10 * time.Second
	// maxSublevels is the read amplification in level 0 above which a checkpoint waits for compaction: ingests have no
	// back-pressure of their own.
	maxSublevels = 32
	sublevelWait = time.Second
	// maxSublevelWaits bounds that wait: beyond it slower reads are better than a full budget.
	maxSublevelWaits = 30
)

type jobKind uint8

const (
	jobCheckpoint jobKind = iota + 1
	jobDrop
	jobReset
)

// job is one change of the engine.
type job struct {
	kind        jobKind
	generations []*generation // of a checkpoint, one per task; of the writer once it is queued
	task        *taskState    // of a drop
	ticket      *Ticket
	try         int
	waits       int
	notBefore   time.Time
}

// Ticket is the outcome of a Checkpoint.
type Ticket struct {
	done  chan struct{}
	tasks []TaskID
	mu    struct {
		sync.Mutex
		err error
	}
}

func newTicket() *Ticket { return &Ticket{done: make(chan struct{})} }

// Done is closed when the ticket is settled: written, or dropped with its tasks, or given up by Close.
func (t *Ticket) Done() <-chan struct{} { return t.done }

// Err is the outcome of a settled ticket, and the latest failed try of one that is not: it is tried again.
func (t *Ticket) Err() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.mu.err
}

// Tasks are those whose generations the checkpoint took. One whose last checkpoint is still being written is left out.
func (t *Ticket) Tasks() []TaskID { return t.tasks }

func (t *Ticket) report(err error) {
	t.mu.Lock()
	t.mu.err = err
	t.mu.Unlock()
}

func (t *Ticket) settle(err error) {
	t.report(err)
	close(t.done)
}

func (t *Ticket) pending() bool {
	select {
	case <-t.done:
		return false
	default:
		return true
	}
}

func (t *Ticket) wait(ctx context.Context) error {
	select {
	case <-t.done:
		return t.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Checkpoint freezes what the tasks committed and queues it as one ingest. It is called by the owner of the tasks, between
// transactions, and does not wait. A task whose last checkpoint is still being written is left out: it must not grow a third
// generation; so is one with nothing to write.
func (db *DB) Checkpoint(tasks ...*Task) *Ticket {
	ticket := newTicket()
	db.mu.Lock()
	j := &job{kind: jobCheckpoint, ticket: ticket}
	for _, t := range tasks {
		if g := t.freezeLocked(); g != nil {
			j.generations = append(j.generations, g)
			ticket.tasks = append(ticket.tasks, t.st.id)
		}
	}
	if len(j.generations) > 0 {
		db.enqueueLocked(j)
	}
	db.mu.Unlock()
	if len(j.generations) == 0 {
		ticket.settle(nil)
	}
	return ticket
}

func (db *DB) enqueueLocked(j *job) {
	db.mu.queue = append(db.mu.queue, j)
	db.signal()
}

func (db *DB) signal() {
	select {
	case db.wake <- struct{}{}:
	default: // it will look at the queue anyhow
	}
}

// write is the writer goroutine.
func (db *DB) write() {
	defer close(db.done)
	for {
		j, wait, stop := db.nextJob()
		switch {
		case stop:
			return
		case j != nil:
			db.run(j)
		case wait > 0:
			select {
			case <-db.wake:
			case <-db.cfg.After(wait):
			}
		default:
			<-db.wake
		}
	}
}

// nextJob returns the job to run, or how long to wait for it (0: for a signal). Jobs run first in first out; only while the
// first one waits after a failure, a drop may pass it: it makes room on a full disk. What it drops was not written, and is
// then never written.
func (db *DB) nextJob() (j *job, wait time.Duration, stop bool) {
	db.mu.Lock()
	defer db.mu.Unlock()
	if len(db.mu.queue) == 0 {
		return nil, 0, db.mu.closing
	}
	j = db.mu.queue[0]
	wait = j.notBefore.Sub(db.cfg.Now())
	if j.notBefore.IsZero() || wait <= 0 || db.mu.closing {
		return j, 0, false
	}
	for _, k := range db.mu.queue[1:] {
		if k.kind != jobCheckpoint {
			return k, 0, false
		}
	}
	return nil, wait, false
}

func (db *DB) run(j *job) {
	switch j.kind {
	case jobCheckpoint:
		db.runCheckpoint(j)
	case jobDrop:
		db.runDrop(j)
	case jobReset:
		db.runReset(j)
	}
}

func (db *DB) removeLocked(j *job) {
	if i := slices.Index(db.mu.queue, j); i >= 0 {
		db.mu.queue = slices.Delete(db.mu.queue, i, i+1)
	}
}

func (db *DB) runCheckpoint(j *job) {
	if db.waitForCompaction(j) {
		return
	}
	start := db.cfg.Now()
	info := CheckpointInfo{Try: j.try + 1}
	slices.SortFunc(j.generations, func(a, b *generation) int {
		return slices.Compare(a.task.prefix[:], b.task.prefix[:])
	})
	var runs []Run
	for _, g := range j.generations {
		runs = append(runs, g.run(&db.accounts.frozen))
		info.Tasks = append(info.Tasks, g.task.id)
		info.Records += g.len()
		info.Bytes += g.size
		invariants.Must(g.pos.N >= g.task.written, "I2", "task %s: position %d after %d", g.task.id, g.pos.N, g.task.written)
	}
	call(db.cfg.Hooks.BeforeIngest)
	info.Err = db.cfg.Engine.Ingest(context.Background(), runs)
	call(db.cfg.Hooks.AfterIngest)
	info.Duration = db.cfg.Now().Sub(start)
	db.finishCheckpoint(j, info.Err)
	if db.cfg.OnCheckpoint != nil {
		db.cfg.OnCheckpoint(info)
	}
}

// finishCheckpoint settles a checkpoint that arrived, and has a failed one tried again.
func (db *DB) finishCheckpoint(j *job, err error) {
	db.mu.Lock()
	defer db.mu.Unlock()
	if err != nil {
		j.try++
		j.notBefore = db.cfg.Now().Add(min(lastBackoff, firstBackoff<<min(j.try-1, 16)))
		if !db.mu.closing {
			j.ticket.report(err)
			return
		}
	}
	db.removeLocked(j)
	for _, g := range j.generations {
		st := g.task
		if err != nil {
			continue
		}
		st.written = g.pos.N
		for _, h := range g.pos.Horizons {
			st.cut[h.Store] = max(st.cut[h.Store], h.Bucket)
		}
		g.ingested.Store(db.cfg.Engine.Epoch())
		db.settleLocked(st)
	}
	j.ticket.settle(err)
	db.gaveBack()
}

// waitForCompaction puts a checkpoint off while level 0 is too deep, and reports whether it did.
func (db *DB) waitForCompaction(j *job) bool {
	if j.waits >= maxSublevelWaits || db.cfg.Engine.Metrics().L0Sublevels <= maxSublevels {
		return false
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.mu.closing {
		return false
	}
	j.waits++
	j.notBefore = db.cfg.Now().Add(sublevelWait)
	return true
}

// runDrop excises a task's prefix, and forgets its frozen generation if that waits in the queue: it would bring back what was
// dropped (I5). The writer being one goroutine, no checkpoint is running.
func (db *DB) runDrop(j *job) {
	call(db.cfg.Hooks.BeforeExcise)
	st := j.task
	span := taskSpan(st.prefix)
	err := db.cfg.Engine.Excise(context.Background(), span.Lower, span.Upper)
	call(db.cfg.Hooks.AfterExcise)
	db.mu.Lock()
	defer db.mu.Unlock()
	db.removeLocked(j)
	st.dropping = false
	if err == nil {
		db.forgetLocked(st)
	}
	db.settleLocked(st)
	j.ticket.settle(err)
}

// forgetLocked takes a dropped task out of the queue. The generations of one that has an owner are freed by it.
func (db *DB) forgetLocked(st *taskState) {
	for _, q := range slices.Clone(db.mu.queue) {
		i := slices.IndexFunc(q.generations, func(g *generation) bool { return g.task == st })
		if i < 0 {
			continue
		}
		q.generations = slices.Delete(q.generations, i, i+1)
		if len(q.generations) == 0 {
			db.removeLocked(q)
			q.ticket.settle(ErrDropped)
		}
	}
	st.written, st.cut = 0, nil
	if st.owner == nil {
		db.freeState(st)
	}
}

func (db *DB) runReset(j *job) {
	call(db.cfg.Hooks.BeforeExcise)
	// Every table lies whole within the span, so none is opened: this works with damaged ones too.
	err := db.cfg.Engine.Excise(context.Background(), []byte{0}, endOfKeys)
	call(db.cfg.Hooks.AfterExcise)
	db.mu.Lock()
	defer db.mu.Unlock()
	db.removeLocked(j)
	db.mu.resetting = false
	if err == nil {
		states := make([]*taskState, 0, len(db.mu.tasks))
		for _, st := range db.mu.tasks {
			states = append(states, st)
		}
		slices.SortFunc(states, func(a, b *taskState) int { return compareTaskIDs(a.id, b.id) })
		for _, st := range states {
			db.forgetLocked(st)
			db.settleLocked(st)
		}
	}
	j.ticket.settle(err)
}

func call(hook func()) {
	if hook != nil {
		hook()
	}
}
