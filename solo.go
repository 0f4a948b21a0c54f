package oncemill

import (
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/internal/host"
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

// ranAlone notes that the open transaction is that of one record, and refuses the record if even that took too long.
func (w *worker) ranAlone(s slot, r *kgo.Record, took time.Duration) {
	if until, ok := w.solo.until[s]; ok && r.Offset+1 >= until {
		delete(w.solo.until, s)
	}
	if took > w.app.cfg.TransactionTimeout {
		s.run.task.RefuseRecord(r.Topic, r.Offset, &host.Failure{Phase: host.PhaseProcess, Err: tooSlow(fmt.Sprintf("%s/%d@%d", r.Topic, r.Partition, r.Offset), took)})
	}
	w.alone = true
}

func tooSlow(place string, took time.Duration) error {
	return problem.New(problem.HandlerTooSlow, place, "it took %v alone", took.Round(time.Millisecond))
}

// fireAlone runs the timers of a task that are due, each in a transaction of its own, until none is left or something else waits.
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
		if w.busy = time.Since(now); w.busy > w.app.cfg.TransactionTimeout {
			r.task.RefuseTimer(tooSlow("a timer of "+r.task.ID().String(), w.busy))
		}
		if w.solo.timers[r]--; w.solo.timers[r] <= 0 {
			delete(w.solo.timers, r)
		}
		w.alone = true
		if err := w.commit(w.ctx); err != nil || w.rewinds != rewinds || w.solo == nil || w.mail.waiting() {
			return err
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
		if err := w.fireAlone(w.tasks[id]); err != nil || w.rewinds != rewinds {
			return err
		}
	}
	w.endSolo()
	return nil
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
