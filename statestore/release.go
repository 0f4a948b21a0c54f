package statestore

import (
	"context"
	"errors"
	"fmt"

	"github.com/oncemill/oncemill/internal/invariants"
)

// Drop removes all state of the task, in memory and in the engine; the task stays acquired and is then empty. It waits for
// the writer, behind the running checkpoint. After an error of the engine the state is as it was, but for the overlay. If
// ctx ends first, the drop goes on, and the task is unusable until Drop was called again and succeeded.
func (t *Task) Drop(ctx context.Context) error {
	if t.err != nil && t.drop == nil {
		return t.err
	}
	t.Discard()
	if t.drop == nil {
		t.drop = &job{kind: jobDrop, task: t.st, ticket: newTicket()}
		t.db.mu.Lock()
		t.db.enqueueLocked(t.drop)
		t.db.mu.Unlock()
	}
	select {
	case <-t.drop.ticket.Done():
	case <-ctx.Done():
		t.err = fmt.Errorf("statestore: the drop of task %s is not complete: %w", t.st.id, ctx.Err())
		return t.err
	}
	err := t.drop.ticket.Err()
	t.drop, t.err = nil, nil
	if err != nil {
		return err
	}
	t.empty()
	t.err = t.renew(t.db.cfg.Now())
	return t.err
}

// empty frees every generation after the engine has dropped the task.
func (t *Task) empty() {
	t.freeClean()
	t.db.mu.Lock()
	t.db.freeState(t.st)
	t.st.active = &generation{task: t.st}
	t.db.mu.Unlock()
	t.engine, t.hasEngine = Position{}, false
	for _, v := range t.views {
		v.horizon, v.pending, v.marked = 0, 0, 0
		v.forgetBuckets()
	}
	t.rebind()
}

// Release gives the task up. The overlay is dropped. What was committed stays valid (I8): the DB writes it by itself, and the
// next owner continues from it, also while it is being written. It waits for nothing.
func (t *Task) Release() {
	if errors.Is(t.err, ErrReleased) {
		return
	}
	invariants.Check(t.iterators == 0, "iterator", "task %s: %d iterators are open at Release", t.st.id, t.iterators)
	t.Discard()
	t.freeClean()
	for _, v := range t.views {
		v.release()
	}
	_ = t.reader.Close() // repeats an error that was met where the reader was used
	t.settleRestored()
	t.err = fmt.Errorf("%w: %s", ErrReleased, t.st.id)
	t.leaveDrop()
	t.db.disown(t)
	t.db.gaveBack()
}

// leaveDrop sees to it that what an unfinished Drop was to remove is not written after it.
func (t *Task) leaveDrop() {
	if t.drop == nil {
		return
	}
	t.db.mu.Lock()
	t.st.dropping = t.drop.ticket.pending() // then the writer frees everything
	t.db.mu.Unlock()
	if !t.st.dropping && t.drop.ticket.Err() == nil {
		t.empty()
	}
}

// settleRestored gives restored records that no SetPosition followed the position before them: they are applied again. With
// none at all they cannot stay: a deleted key among them may have left the changelog by the time of the next restore.
func (t *Task) settleRestored() {
	g := t.st.active
	if !g.unpositioned {
		return
	}
	pos, ok := t.position()
	if ok {
		g.setPosition(pos)
		return
	}
	g.free()
	t.db.records.Add(-int64(g.records))
	t.db.mu.Lock()
	t.st.active = &generation{task: t.st}
	t.db.mu.Unlock()
}
