package oncemill

import (
	"time"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/internal/task"
)

// soloRun re-runs, each in a transaction of its own, the records and timers of a transaction that the broker timed out, since one
// of them was too slow for all, or of which it refused an output for good.
type soloRun struct {
	until  map[slot]int64   // where the records end
	timers map[*running]int // how many are left, of tasks whose timers ran
}

// takeTimers counts the timers of the open transaction.
func (w *worker) takeTimers() map[*running]int {
	out := map[*running]int{}
	for _, r := range w.tasks {
		if n := r.task.Timers(); n > 0 {
			out[r] = n
		}
	}
	return out
}

// processed notes that the transaction of one record was committed.
func (s *soloRun) processed(at slot, offset int64) {
	if until, ok := s.until[at]; ok && offset+1 >= until {
		delete(s.until, at)
	}
}

// fired notes that the transaction of one timer was committed.
func (s *soloRun) fired(r *running) {
	if s.timers[r]--; s.timers[r] <= 0 {
		delete(s.timers, r)
	}
}

// fireAlone runs the timers of a task that are due, each in a transaction of its own, until none is left or something calls.
func (w *worker) fireAlone(r *running) error {
	rewinds := w.rewinds
	for range task.DefaultMaxTimers {
		now := time.Now()
		fired, err := r.task.FireOne(now)
		if err != nil {
			return err
		}
		if !fired {
			if !w.solo.holds(r) {
				delete(w.solo.timers, r)
			}
			return nil
		}
		w.beginAt(now)
		if err := w.session.produceOutputs(r); err != nil {
			return err
		}
		w.busy = time.Since(now)
		if err := w.commit(w.ctx); err != nil || w.rewinds != rewinds {
			return err
		}
		w.solo.fired(r)
		if w.called() {
			return nil
		}
	}
	return nil
}

// holds reports that records of a task are still to come.
func (s *soloRun) holds(r *running) bool {
	for at := range s.until {
		if at.run == r {
			return true
		}
	}
	return false
}

// fireTimersAlone is fireTimers during a solo run. No transaction is open.
func (w *worker) fireTimersAlone() error {
	rewinds := w.rewinds
	for _, id := range w.sortedTasks() {
		if err := w.fireAlone(w.tasks[id]); err != nil || w.rewinds != rewinds || w.called() {
			return err
		}
	}
	w.endSolo()
	return nil
}

// tooSlowAlone refuses the step of a transaction that overran although it ran alone.
func (w *worker) tooSlowAlone(dirty []*running) {
	if took := w.busy; w.alone && w.overran(time.Since(w.began)) {
		dirty[0].task.RefuseLast(func(place string) error {
			return problem.New(problem.HandlerTooSlow, place, "it took %v alone", took.Round(time.Millisecond))
		})
	}
}

// endSolo ends the run of single records and timers when none is left.
func (w *worker) endSolo() {
	if w.solo != nil && len(w.solo.until)+len(w.solo.timers) == 0 {
		w.solo = nil
	}
}

// several reports that the open transaction holds more than one record or timer.
func (w *worker) several() bool {
	steps := 0
	for _, r := range w.tasks {
		steps += r.task.Steps()
	}
	return steps > 1
}
