package oncemill

import (
	"time"

	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/internal/host"
	"github.com/oncemill/oncemill/internal/task"
	"github.com/oncemill/oncemill/metrics"
	"github.com/oncemill/oncemill/statestore"
)

// What listeners are told. Nothing here decides anything.

func (w *worker) setState(id statestore.TaskID, state metrics.TaskState, n uint64, records int64) {
	a := w.app
	a.mu.Lock()
	before := metrics.TaskState(a.mu.tasks[id].State)
	if state == metrics.TaskClosed {
		delete(a.mu.tasks, id)
	} else {
		a.mu.tasks[id] = TaskStatus{Task: id.String(), Worker: w.name(), State: string(state), N: n, Restored: records}
	}
	if n > 0 {
		a.mu.held[id] = n
	}
	a.mu.Unlock()
	if l := a.cfg.Listener.TaskStateChanged; l != nil {
		l(metrics.TaskStateChange{Task: id.String(), Worker: w.name(), From: before, To: state})
	}
	a.noteReady()
}

// rebalanced tells of an event of the group that was handled. The first one means that the worker has joined.
func (w *worker) rebalanced(e metrics.RebalanceEnd, began time.Time) {
	a := w.app
	a.mu.Lock()
	a.mu.joined[w.index] = true
	a.mu.Unlock()
	if l := a.cfg.Listener.RebalanceEnded; l != nil {
		e.Worker, e.Duration = w.name(), time.Since(began)
		l(e)
	}
	a.noteReady()
}

func (w *worker) restoreStarted(id statestore.TaskID, cause restoreCause, records int64) {
	if l := w.app.cfg.Listener.RestoreStarted; l != nil && cause != restoreNone {
		l(metrics.RestoreStart{Task: id.String(), Cause: metrics.RestoreCause(cause), Records: records})
	}
}

func (w *worker) restoreProgress(j *restoreJob, records, remaining int64) {
	a := w.app
	a.mu.Lock()
	if s, ok := a.mu.tasks[j.id]; ok {
		s.Restored, s.Remaining = j.records, remaining
		a.mu.tasks[j.id] = s
	}
	a.mu.Unlock()
	if l := a.cfg.Listener.RestoreProgressed; l != nil {
		l(metrics.RestoreProgress{Task: j.id.String(), Restored: uint64(records), Remaining: remaining})
	}
}

func (w *worker) restoreEnded(r *restored) {
	if l := w.app.cfg.Listener.RestoreEnded; l != nil && r.cause != restoreNone && r.cause != "" {
		l(metrics.RestoreEnd{Task: r.id.String(), Cause: metrics.RestoreCause(r.cause), Restored: uint64(r.records), Duration: r.took, Err: r.err})
	}
}

// unresolved tells of a commit whose outcome is not known.
func (w *worker) unresolved(since time.Time, resolved bool) {
	if l := w.app.cfg.Listener.TransactionUnresolved; l != nil {
		e := metrics.Unresolved{Worker: w.name(), Resolved: resolved}
		if resolved {
			e.Waited = time.Since(since)
		}
		l(e)
	}
}

// transactionEnded tells of the end of a transaction, and of what it did in each task.
func (w *worker) transactionEnded(end metrics.TransactionEnd, dirty []*running, written map[*running][]task.Written) {
	l := &w.app.cfg.Listener
	end.Worker = w.name()
	for _, r := range dirty {
		stats := r.task.TakeStats()
		end.Records += stats.Consumed
		if end.Outcome == metrics.Committed || end.Outcome == metrics.ResolvedCommitted {
			if l.TaskCommitted != nil {
				l.TaskCommitted(w.taskCommit(r, &stats, written[r]))
			}
			w.committedN(r)
		}
	}
	if l.TransactionEnded != nil {
		l.TransactionEnded(end)
	}
}

func (w *worker) committedN(r *running) {
	a, id := w.app, r.task.ID()
	a.mu.Lock()
	defer a.mu.Unlock()
	if s, ok := a.mu.tasks[id]; ok {
		s.N = r.task.N()
		a.mu.tasks[id] = s
	}
	if r.state != nil {
		a.mu.held[id] = r.task.N()
	}
}

func (w *worker) taskCommit(r *running, s *task.Stats, written []task.Written) metrics.TaskCommit {
	c := metrics.TaskCommit{Task: r.task.ID().String(), N: r.task.N(), Processed: s.Processed, DeadLetters: s.DeadLetters, Parked: s.Parked,
		TimersFired: s.TimersFired, TimersFailed: s.TimersFailed, Clamped: s.Clamped, RetriesInPlace: s.RetriesInPlace}
	if ms := r.task.StreamTimeMillis(); ms != statestore.MinStreamTime {
		c.StreamTime = time.UnixMilli(ms)
	}
	scope, topic := r.task.ID().SubTopology, r.task.Inputs()[0].Topic
	c.Consumed = append(c.Consumed, metrics.TopicCount{Topic: topic, Records: s.Consumed, Bytes: s.Bytes})
	for v, n := range s.Verdicts {
		if n > 0 {
			c.Verdicts = append(c.Verdicts, metrics.VerdictCount{Scope: scope, Verdict: dedup.Verdict(v).String(), Count: n})
		}
	}
	for phase, n := range s.Failures {
		if n > 0 {
			c.Failures = append(c.Failures, metrics.FailureCount{Node: scope, Phase: host.Phase(phase).String(), Count: n})
		}
	}
	if s.Skipped > 0 {
		c.Dropped = append(c.Dropped, metrics.DropCount{Node: scope, Reason: "skip", Count: s.Skipped})
	}
	for _, at := range written {
		c.Changelog = append(c.Changelog, metrics.StoreCount{Store: at.Topic, Records: uint64(at.Last - at.First + 1)})
	}
	return c
}
