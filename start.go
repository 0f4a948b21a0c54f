package oncemill

import (
	"time"

	"github.com/oncemill/oncemill/internal/step"
	"github.com/oncemill/oncemill/internal/task"
	"github.com/oncemill/oncemill/metrics"
)

// startRestored begins to process tasks whose restore is done.
func (w *worker) startRestored() error {
	var started []*running
	results := w.restore.finished()
	for i, done := range results {
		if done.err != nil {
			letGoOf(results[i+1:])
			return done.err
		}
		r, err := w.start(done)
		if err != nil {
			letGoOf(results[i:])
			return err
		}
		started = append(started, r)
		if err := w.after(step.Start); err != nil {
			letGoOf(results[i+1:])
			return err
		}
	}
	w.fetch(started...)
	return nil
}

// letGoOf gives up restored tasks that were not started.
func letGoOf(results []restored) {
	for _, done := range results {
		if done.state != nil {
			done.state.Release()
		}
	}
}

func (w *worker) start(done restored) (*running, error) {
	if err := w.at(step.Start); err != nil {
		return nil, err
	}
	id, cfg := done.id, w.app.cfg
	r := &running{state: done.state, touched: time.Now(), ends: make([]int64, len(done.sub.Inputs))}
	for _, in := range done.sub.Inputs {
		r.topicIDs = append(r.topicIDs, w.app.topics.info(in.Topic).id)
	}
	t, err := task.New(task.Config{Plan: w.app.plan, Sub: done.sub, Partition: id.Partition, State: done.state, Topics: w.app.topics,
		TopicIDs: r.topicIDs, StateHash: w.app.stateHash(id.SubTopology), Wait: w.wait, Now: time.Now,
		TimersTime: cfg.TransactionTimeout / timersShare, OnOutcome: w.onOutcome(id), OnTiming: w.onTiming(id),
		Skew: task.Skew{Future: cfg.MaxFuture, Refuse: cfg.RefuseFuture}}, done.at)
	if err != nil {
		return nil, err
	}
	r.task = t
	for i, start := range done.starts {
		t.StartAt(i, start)
	}
	r.measured = r.size()
	w.tasks[id] = r
	for i, in := range done.sub.Inputs {
		if w.byTopic[in.Topic] == nil {
			w.byTopic[in.Topic] = map[int32]slot{}
		}
		w.byTopic[in.Topic][id.Partition] = slot{run: r, input: i}
	}
	if done.chosen {
		r.chosen = &done
	} else {
		w.running(r, &done)
	}
	return r, nil
}

// timersShare is the part of a transaction's time that the timers of one task may take at once.
const timersShare = 8

func (w *worker) running(r *running, done *restored) {
	w.log.Info("task running", "task", done.id, "n", r.task.N(), "restored", done.records, "took", done.took.Round(time.Millisecond))
	w.setState(done.id, metrics.TaskRunning, r.task.N(), done.records)
}

// commitStarts makes the chosen starts durable, by a transaction without records: after a crash in the first one with records
// the end of the input would be another, and what lies between would be lost. A plain offset commit could arrive late and set
// positions back. After an abort it is tried again.
func (w *worker) commitStarts() error {
	due := false
	for _, r := range w.tasks {
		if r.chosen != nil {
			r.task.CommitPositions()
			due = true
		}
	}
	if !due {
		return nil
	}
	w.beginAt(time.Now())
	return w.commit(w.ctx)
}

// beginRead reads the tasks whose chosen start is committed now.
func (w *worker) beginRead(committed []*running) {
	for _, r := range committed {
		if done := r.chosen; done != nil {
			r.chosen = nil
			w.running(r, done)
			w.fetch(r)
		}
	}
}
