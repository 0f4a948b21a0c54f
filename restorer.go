package oncemill

import (
	"context"
	"sync"
	"time"

	"github.com/oncemill/oncemill/internal/graph"
	"github.com/oncemill/oncemill/statestore"
)

// restorer brings tasks up to date off the poll path. Each restore is a goroutine that owns the task's state until it is
// done. What it must do, in this order (R6): the worker's session has fenced its own previous incarnation; then a stable
// OffsetFetch, which waits for the transactions of a previous owner; then the read_uncommitted ends of the changelogs, up
// to which it reads with read_committed: transaction markers reach partitions independently, so the last stable offset as
// a target could miss the last commit. At last the restored counter is compared with the committed one.
type restorer struct {
	w         *worker
	ctx       context.Context
	cancelAll context.CancelFunc
	wg        sync.WaitGroup
	limit     chan struct{}

	mu struct {
		sync.Mutex
		jobs map[statestore.TaskID]context.CancelFunc
		done []restored
	}
}

// restored is the result of a restore.
type restored struct {
	id      statestore.TaskID
	sub     *graph.SubTopology
	state   *statestore.Task
	at      statestore.Position
	starts  []int64 // by input
	chosen  bool    // some start follows from the end of the input at this moment: it would be another one the next time
	cause   restoreCause
	records int64
	took    time.Duration
	err     error
}

// restoreCause says why changelog records were read.
type restoreCause string

const (
	restoreNone     restoreCause = "none"     // nothing to read
	restoreTail     restoreCause = "tail"     // what a checkpoint did not hold
	restoreFull     restoreCause = "full"     // no local state
	restoreDiverged restoreCause = "diverged" // the local state is not of this log
	restoreExpired  restoreCause = "expired"  // absent longer than tombstones are kept
	restoreWiped    restoreCause = "wiped"    // the local state was damaged
)

// parallelRestores bounds the changelog readers of one worker. One that stands still, for want of an answer, gives its place to the
// next: else a few whose leader is away would keep all others from beginning.
const parallelRestores = 8

func newRestorer(w *worker) *restorer {
	r := &restorer{w: w, limit: make(chan struct{}, parallelRestores)}
	r.ctx, r.cancelAll = context.WithCancel(w.ctx)
	r.mu.jobs = map[statestore.TaskID]context.CancelFunc{}
	return r
}

// begin starts the restore of a task.
func (r *restorer) begin(id statestore.TaskID, sub *graph.SubTopology) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.jobs[id] != nil {
		return
	}
	ctx, cancel := context.WithCancel(r.ctx)
	r.mu.jobs[id] = cancel
	r.wg.Add(1)
	go func() {
		defer r.wg.Done()
		j := &restoreJob{w: r.w, limit: r.limit, restored: restored{id: id, sub: sub}}
		ctx := withWaiter(ctx, j)
		if j.err = j.goesOn(ctx); j.err == nil {
			j.err = j.run(ctx)
		}
		j.standAside()
		r.finish(ctx, j)
	}()
}

func (r *restorer) finish(ctx context.Context, j *restoreJob) {
	r.mu.Lock()
	cancelled := ctx.Err() != nil
	if j.err != nil && j.state != nil || cancelled && j.state != nil {
		j.state.Release()
		j.state = nil
	}
	if !cancelled {
		delete(r.mu.jobs, j.id)
		r.mu.done = append(r.mu.done, j.restored)
	}
	r.mu.Unlock()
	if !cancelled {
		r.w.restoreEnded(&j.restored)
	}
	r.w.mail.wakeUp()
}

// cancel ends the restore of a task that moves away, or gives up one that is done but has not started.
func (r *restorer) cancel(id statestore.TaskID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if cancel := r.mu.jobs[id]; cancel != nil {
		cancel()
		delete(r.mu.jobs, id)
	}
	kept := r.mu.done[:0]
	for _, d := range r.mu.done {
		if d.id != id {
			kept = append(kept, d)
		} else if d.state != nil {
			d.state.Release()
		}
	}
	r.mu.done = kept
}

// finished takes the results.
func (r *restorer) finished() []restored {
	r.mu.Lock()
	defer r.mu.Unlock()
	done := r.mu.done
	r.mu.done = nil
	return done
}

// states are those of the results.
func (r *restorer) states() []*statestore.Task {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []*statestore.Task
	for _, d := range r.mu.done {
		if d.state != nil {
			out = append(out, d.state)
		}
	}
	return out
}

// waiting reports that results are there.
func (r *restorer) waiting() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.mu.done) > 0
}

func (r *restorer) close() {
	r.cancelAll()
	r.wg.Wait()
	for _, d := range r.finished() {
		if d.state != nil {
			d.state.Release()
		}
	}
}
