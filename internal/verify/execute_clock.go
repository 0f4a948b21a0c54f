package verify

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"

	"github.com/oncemill/oncemill/internal/task"
	"github.com/oncemill/oncemill/statestore"
)

// clockPart is the part that the wall clock had in what a task did.
type clockPart struct {
	// doubt says why a difference between the runs proves nothing, empty where it is a finding.
	doubt string
	// pending counts the timers of the wall clock that the application still has. Their times are not comparable.
	pending int
}

// clock finds out whether the clock had a say in what a task did. Timers count up in the task whatever the time, so the clock
// had none if the timers that are pending are the same ones in both runs, number by number, and the second run, in which none
// fires, never removed one: no other could have fired in the first. Otherwise, and where a timestamp was clamped to the clock,
// what both runs made is compared, with the timers fired where the application has none left; only differences prove nothing.
func (x *rerun) clock(ctx context.Context, t *taskCut, again *task.Task) (clockPart, error) {
	var c clockPart
	if t.clamped || t.ours && again.StreamTimeMillis() > t.meta.StreamTime {
		c.doubt = clockAhead
	}
	st := t.sub.ByKind(statestore.KindTimers, -1)
	if st == nil {
		return c, nil
	}
	both, err := x.pendingTimers(ctx, t, again)
	if err != nil {
		return c, err
	}
	defer func() { _ = both.close() }() // files without a name
	same := true
	err = groups(both, func(key []byte, runs [][]byte) error {
		same = same && len(runs) == 2
		if statestore.Clock(key[0]) == statestore.WallClock && bytes.Contains(bytes.Join(runs, nil), []byte{ofApplication}) {
			c.pending++
		}
		return nil
	})
	if err != nil || same && !x.removed {
		return c, err
	}
	if c.doubt == "" {
		c.doubt = clockUsed
	}
	if c.pending == 0 {
		err = x.fireTimers(ctx, t, again)
	}
	return c, err
}

// Whose a pending timer is.
const (
	ofApplication byte = iota
	ofSecondRun
)

// pendingTimers has the timers of both runs under clock, number and identity.
func (x *rerun) pendingTimers(ctx context.Context, t *taskCut, again *task.Task) (_ *sorter, err error) {
	st := t.sub.ByKind(statestore.KindTimers, -1)
	log, err := x.changelog(ctx, t, st, func(int64) {})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, log.close()) }()
	both := x.newSorter()
	add := func(key, value []byte, whose byte) error {
		k, err := task.ReadTimerKey(key, value)
		if err != nil || !k.Due {
			return nil // what cannot be read is found elsewhere
		}
		return both.add(append(append([]byte{k.Order[1]}, k.Order[10:]...), k.Identity...), []byte{whose})
	}
	logged, err := cellsOf(log, t.meta.End(st.Changelog))
	for err == nil && logged.next() {
		if logged.present {
			err = add(logged.key, logged.value, ofApplication)
		}
	}
	if err == nil {
		err = logged.err
	}
	it := again.State().View(st.Declaration).Iterate(nil, nil, false)
	defer it.Close()
	for err == nil && it.Next() {
		err = add(it.Key(), it.Value(), ofSecondRun)
	}
	if err = errors.Join(err, it.Err()); err != nil {
		return nil, errors.Join(err, both.close())
	}
	return both, nil
}

// fireTimers runs the timers of the wall clock that the second run has left, each at the time it was set to. It ends when more
// timers were set than in the application: one that sets itself again goes on for ever.
func (x *rerun) fireTimers(ctx context.Context, t *taskCut, again *task.Task) error {
	for again.Committed().Sequence <= t.latest.Sequence {
		due, more, err := again.NextTimer()
		if err != nil || !more {
			return err
		}
		if x.now.Before(due) {
			x.now = due
		}
		if _, err := again.FireTimers(x.now); err != nil {
			x.skip(CheckRerun, "a timer, run again, ends its task")
			again.Abort()
			return nil
		}
		if err := x.takeOutputs(t, again); err != nil {
			return err
		}
		if err := x.commit(ctx, again); err != nil {
			return err
		}
	}
	return nil
}

// isWallTimer reports whether a key of the timer store orders a timer of the wall clock.
func isWallTimer(key []byte) bool {
	const clock = 1 // its place: see task.TimerKey.Order
	return len(key) == 2+2*binary.Size(uint64(0)) && key[0] == 'd' && statestore.Clock(key[clock]) == statestore.WallClock
}
