package oncemill

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/statestore"
)

// All workers of a process share one memory budget. What is committed, any of them gives back by a checkpoint; an overlay, only
// by the end of its transaction. A worker that finds no room for its transaction
//
//	joins the queue            the others commit what they have open, checkpoint it, and begin nothing new
//	waits, with the overlay    while the broker's patience lasts, and for a moment when the group or a stop calls; one that others
//	                           are ahead of, only while something is being written
//	else gives it up           and waits without an overlay, as a member of the group that hands tasks over when it is asked to,
//	                           until it is first in the queue and there is room; then it processes the same records again
//
// So nobody waits for ever for an overlay of another one, however long the disk takes, and a transaction that fits the budget
// alone is committed. One that does not is run record by record; the application ends only when one record does not fit.

// room is the queue of workers that found none, first in first out.
type room struct {
	mu struct {
		sync.Mutex
		queue []*worker
	}
}

// enter joins the queue; a worker that is in it keeps its place.
func (q *room) enter(w *worker) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !slices.Contains(q.mu.queue, w) {
		q.mu.queue = append(q.mu.queue, w)
	}
}

func (q *room) leave(w *worker) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.mu.queue = slices.DeleteFunc(q.mu.queue, func(other *worker) bool { return other == w })
}

// ahead is the number of workers that come first; of those that wait, if w does not.
func (q *room) ahead(w *worker) int {
	q.mu.Lock()
	defer q.mu.Unlock()
	if i := slices.Index(q.mu.queue, w); i >= 0 {
		return i
	}
	return len(q.mu.queue)
}

// shortage is what a worker knows of its own want of memory.
type shortage struct {
	release func() // of DB.Press; nil when the worker is not in the queue
	needs   int64  // the bytes for which it holds back; 0 when it does not
	since   time.Time
	gaveUp  bool // the transaction just ended was given up
}

// errCrowded is why a transaction was given up. It is no failure: its records are processed again when there is room.
var errCrowded = errors.New("there is no room for it in the memory budget; it is done again when there is")

// lookAgain bounds a wait for room: owners that are asked for theirs are in the middle of something else, and say nothing when
// they have come to its end.
const lookAgain = 250 * time.Millisecond

// reserve makes room in the memory budget for what is about to be committed. After errCrowded the transaction must be rolled
// back.
func (w *worker) reserve(ctx context.Context, dirty []*running) error {
	var states []*statestore.Task
	for _, r := range dirty {
		if r.state != nil {
			states = append(states, r.state)
		}
	}
	if len(states) == 0 {
		return nil
	}
	err := w.app.db.Reserve(states...)
	if errors.Is(err, statestore.ErrBudget) {
		err = w.awaitRoom(ctx, states)
	}
	switch {
	case err == nil:
		w.leaveRoom()
	case problem.CodeOf(err) == problem.MemoryBudgetTooSmall && w.several():
		w.log.Warn("a transaction does not fit the memory budget; its records are processed one by one", "err", err)
		w.refused = true
		return errCrowded
	}
	return err
}

// awaitRoom waits for room with the transaction open: most often the checkpoint under way is all that it takes.
func (w *worker) awaitRoom(ctx context.Context, states []*statestore.Task) error {
	db := w.app.db
	w.enterRoom()
	var called time.Time
	for {
		changed := db.Room()
		if err := w.relieve(); err != nil {
			return err
		}
		if err := db.Reserve(states...); !errors.Is(err, statestore.ErrBudget) {
			return err
		}
		w.app.wakeWorkers()
		if called.IsZero() && w.called() {
			called = time.Now()
		}
		left := w.patience(called)
		if left <= 0 {
			w.short.gaveUp = true
			for _, s := range states {
				w.short.needs += 2 * s.OverlayBytes() // as much again to apply it
			}
			w.log.Warn("no room in the memory budget: nothing is processed until a checkpoint is written", "waited", time.Since(w.short.since))
			return errCrowded
		}
		if err := awaitChange(ctx, changed, min(left, lookAgain)); err != nil {
			return err
		}
	}
}

// callPatience is how long who calls for an end of the open transaction waits for its room: a checkpoint that is nearly written is
// worth that, and the group has more patience.
const callPatience = 3 * time.Second

// patience is how long the open transaction may still wait, called for since then if at all: what is left after it must do for its
// end. Where only overlays are left, one that others are ahead of gives up at once: they may wait for its overlay.
func (w *worker) patience(called time.Time) time.Duration {
	used := w.app.db.MemoryUsed()
	if w.app.room.ahead(w) > 0 && used.Active+used.Frozen+used.Clean == 0 {
		return 0
	}
	left := time.Until(w.began.Add(w.app.cfg.TransactionTimeout / 4 * 3))
	if !called.IsZero() {
		left = min(left, time.Until(called.Add(min(callPatience, w.app.cfg.RebalanceTimeout/4))))
	}
	return left
}

func awaitChange(ctx context.Context, changed <-chan struct{}, most time.Duration) error {
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-changed:
	case <-timer.C:
	}
	return nil
}

// relieve gives back what it can without an end of the open transaction: it has written what was committed, and lets go of what
// arrived. Tasks that were restored and wait for their start are the worker's too.
func (w *worker) relieve() error {
	now := time.Now()
	var due []*statestore.Task
	for _, s := range append(w.states(), w.restore.states()...) {
		if err := s.Tick(); err != nil {
			return err
		}
		if s.NeedsCheckpoint(now) {
			due = append(due, s)
		}
	}
	if len(due) == 0 {
		return nil
	}
	_, err := w.freeze(due)
	return err
}

func (w *worker) enterRoom() {
	if w.short.release == nil {
		w.short.release, w.short.since = w.app.db.Press(), time.Now()
		w.app.room.enter(w)
	}
}

// leaveRoom is called when the worker has its room, or needs none any more.
func (w *worker) leaveRoom() {
	if w.short.release != nil {
		w.app.room.leave(w)
		w.short.release()
		w.short = shortage{gaveUp: w.short.gaveUp}
	}
}

// holdsBack waits a moment instead of a poll, if no transaction may begin now: there is no room for the one that was given up,
// or another worker waits for room.
func (w *worker) holdsBack() (bool, error) {
	if w.app.db == nil {
		return false, nil
	}
	changed := w.app.db.Room()
	if w.mayBegin() {
		return false, nil
	}
	return true, awaitChange(w.ctx, changed, lookAgain)
}

func (w *worker) mayBegin() bool {
	if w.short.needs == 0 || len(w.states()) == 0 {
		w.leaveRoom() // what it waited for is done, or has gone to another member
		return w.app.room.ahead(w) == 0 || len(w.states()) == 0
	}
	used := w.app.db.MemoryUsed()
	empty := used.Overlays+used.Active+used.Frozen+used.Clean+used.Reserved == 0
	if w.app.room.ahead(w) > 0 || used.Total()-used.Pooled+w.short.needs > used.Budget && !empty {
		return false
	}
	w.log.Info("there is room in the memory budget again", "waited", time.Since(w.short.since).Round(time.Millisecond))
	w.short.needs = 0 // it keeps its place until the transaction has ended
	return true
}

// othersWait reports that another worker waits for room.
func (w *worker) othersWait() bool { return w.short.release == nil && w.app.room.ahead(w) > 0 }

// wakeWorkers ends the polls of idle workers, so that they give back what they hold.
func (a *App) wakeWorkers() {
	for _, w := range a.workers {
		w.mail.wakeUp()
	}
}
