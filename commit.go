package oncemill

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/internal/problem"
)

func (w *worker) commitDue() bool {
	if !w.inTransaction() {
		return false
	}
	return w.mail.waiting() || w.old(time.Now()) || w.full() || w.othersWait()
}

// old reports that the open transaction has lasted for the commit interval.
func (w *worker) old(now time.Time) bool { return now.Sub(w.began) >= w.app.cfg.CommitInterval }

// abortPatience bounds aborts in a row: it is above what a broker's restart and a rebalance take, and something that never
// succeeds is an error for a person.
const abortPatience = 5 * time.Minute

// commit ends the open transaction.
func (w *worker) commit(ctx context.Context) error {
	var dirty []*running
	for _, id := range w.sortedTasks() {
		if r := w.tasks[id]; r.task.Dirty() {
			dirty = append(dirty, r)
		}
	}
	if len(dirty) == 0 {
		w.began = time.Time{}
		w.measureAnew()
		return nil
	}
	began, positions, timers := w.began, w.takeEnds(), w.takeTimers()
	called := time.Now()
	w.alone = w.solo != nil // it runs nothing but single steps
	out, err := w.session.commit(ctx, dirty)
	w.timing.end(called)
	if err != nil {
		return err
	}
	w.began = time.Time{}
	w.measureAnew()
	w.transactionEnded(out, time.Since(began), dirty, w.session.written)
	switch out {
	case committed:
		w.aborts = 0
		clear(w.unknown)
		w.beginRead(dirty)
		w.app.purge(dirty)
		return nil
	case tasksLost:
		w.app.cfg.Logger.Warn("the tasks of a transaction belong to another member now", "worker", w.index)
		return w.abandon()
	}
	if w.short.gaveUp {
		w.short.gaveUp = false
		w.rewind()
		return nil
	}
	if w.aborts++; w.aborts == 1 {
		w.failing = time.Now()
	}
	if waited := time.Since(w.failing); waited > abortPatience {
		return problem.New(problem.TransactionAborted, w.txnID, "%d transactions in a row, for %v", w.aborts, waited.Round(time.Second)).
			WithCure("see the causes in the log; the records are processed again after a restart")
	}
	if w.solo == nil && (w.refused || w.overran(time.Since(began))) {
		w.solo = &soloRun{until: positions, timers: timers}
	}
	w.refused = false
	w.rewind()
	return w.pause(ctx)
}

// overran reports that a transaction took longer than the broker allows because of its own records and timers: they had left
// too little of the time for its end. An outage alone is no reason to run records one by one.
func (w *worker) overran(took time.Duration) bool {
	limit := w.app.cfg.TransactionTimeout
	return took > limit && w.busy > limit/2
}

// pause waits a moment after an abort, longer with each one in a row.
func (w *worker) pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(min(time.Duration(w.aborts)*20*time.Millisecond, time.Second)):
		return nil
	}
}

// takeEnds returns where the records of the open transaction end, of the inputs that had any.
func (w *worker) takeEnds() map[slot]int64 {
	out := map[slot]int64{}
	for _, r := range w.tasks {
		for i, end := range r.ends {
			if end > 0 {
				out[slot{r, i}] = end
			}
		}
		clear(r.ends)
	}
	return out
}

// mustCommitNow reports that the transaction may not wait for the end of the poll: it is large or old, or its records run one
// by one.
func (w *worker) mustCommitNow(s slot, r *kgo.Record, took time.Duration) bool {
	cfg := w.app.cfg
	if took > cfg.TransactionTimeout/2 {
		w.log.Warn("a slow record", "position", fmt.Sprintf("%s/%d@%d", r.Topic, r.Partition, r.Offset), "took", took, "limit", cfg.TransactionTimeout)
	}
	if w.solo != nil || w.clock.Sub(w.began) > cfg.TransactionTimeout/2 || w.session.produced > cfg.CommitRecords {
		return true
	}
	return w.large() || s.run.task.Steps()&255 == 0 && w.full()
}
