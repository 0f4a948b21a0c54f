package oncemill

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/oncemill/oncemill/internal/problem"
)

// A damaged store costs no record, since the changelogs have everything. What is dropped is what can be dropped:
//
//	a restore finds the damage     the task's prefix, unless a damaged table spans its end: then as below
//	a start or a processor does    the whole store, once every worker has let go of its tasks; they begin again

// maxWipes bounds how often one run drops its store: a disk that damages what was just restored is not mended by that.
const maxWipes = 3

// isDamage tells a damaged file from everything else.
func isDamage(err error) bool { return errors.Is(err, &problem.Error{Code: problem.StoreCorrupt}) }

// runThroughDamage runs the workers, again with an empty store after they met a damaged one.
func (a *App) runThroughDamage(ctx context.Context, admin *kadm.Client) error {
	for wipes := 0; ; wipes++ {
		err := a.runWorkers(ctx, admin)
		if !isDamage(err) || wipes == maxWipes || ctx.Err() != nil {
			return err
		}
		if wipeErr := a.wipe(ctx, err); wipeErr != nil {
			return errors.Join(err, wipeErr)
		}
	}
}

// wipe drops the local state of all tasks. None has an owner.
func (a *App) wipe(ctx context.Context, cause error) error {
	a.cfg.Logger.Error("the local store is damaged; it is dropped, and all tasks are restored from their changelogs", "err", cause)
	ctx, cancel := context.WithTimeout(ctx, a.cfg.ShutdownTimeout)
	defer cancel()
	if err := a.db.Reset(ctx); errors.Is(err, context.DeadlineExceeded) {
		return problem.New(problem.StoreIO, "the damaged store", "not dropped after %v", a.cfg.ShutdownTimeout)
	} else if err != nil {
		return fmt.Errorf("drop the damaged store: %w", err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.mu.held)
	clear(a.mu.tasks)
	a.mu.wiped = true
	return nil
}

func (a *App) wasWiped() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.mu.wiped
}

// acquireDamaged takes a task whose state cannot be read: what it has is dropped, so that the restore is a full one.
func (j *restoreJob) acquireDamaged(ctx context.Context, damage error) error {
	j.w.log.Error("the local state of a task is damaged; it is dropped and restored from the changelogs", "task", j.id, "err", damage)
	if err := j.w.app.db.Drop(ctx, j.id); err != nil {
		return errors.Join(damage, err)
	}
	var err error
	j.state, err = j.w.app.db.Acquire(j.id, j.sub.Declarations())
	return err
}

// noteHeldUndamaged is noteHeld over a store that may be damaged.
func (a *App) noteHeldUndamaged(ctx context.Context) error {
	err := a.noteHeld()
	if !isDamage(err) {
		return err
	}
	return a.wipe(ctx, err)
}
