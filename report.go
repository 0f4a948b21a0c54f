package oncemill

import (
	"runtime/debug"
	"time"

	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/internal/task"
	"github.com/oncemill/oncemill/metrics"
	"github.com/oncemill/oncemill/processor"
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
	away, reason := w.timing.entered(id, state, records)
	switch r := w.tasks[id]; {
	case state == metrics.TaskRunning && r != nil:
		a.sampler.note(r)
	case state == metrics.TaskClosed:
		a.sampler.forget(id.String())
	}
	if l := a.cfg.Listener.TaskStateChanged; l != nil {
		l(metrics.TaskStateChange{Task: id.String(), Worker: w.name(), From: before, To: state, Unavailable: away, Reason: reason})
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

// outcomeOf names the outcome of a transaction; one whose answer was lost has names of its own.
func outcomeOf(out outcome, resolved bool) metrics.Outcome {
	switch {
	case out == tasksLost:
		return metrics.Fenced
	case out == committed && resolved:
		return metrics.ResolvedCommitted
	case out == committed:
		return metrics.Committed
	case resolved:
		return metrics.ResolvedAborted
	}
	return metrics.Aborted
}

// transactionEnded tells of the end of a transaction, and of what it did in each task.
func (w *worker) transactionEnded(out outcome, took time.Duration, dirty []*running, written map[*running][]task.Written) {
	l := &w.app.cfg.Listener
	end := metrics.TransactionEnd{Worker: w.name(), Outcome: outcomeOf(out, w.timing.resolved), Duration: took, Phases: w.timing.phases,
		Cause: w.timing.cause, Err: w.timing.err}
	if out == tasksLost {
		end.Cause = "fenced"
	}
	now := time.Now()
	for _, r := range dirty {
		stats := r.task.TakeStats()
		end.Records += stats.Consumed
		for _, p := range stats.Produced {
			end.Outputs += p.Records
		}
		if out != committed {
			continue
		}
		for _, at := range written[r] {
			end.Changelog += at.Records
			w.timing.wrote(at)
		}
		w.app.sampler.note(r)
		if l.TaskCommitted != nil {
			l.TaskCommitted(w.taskCommit(r, &stats, written[r], now))
		}
		w.committedN(r)
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

func (w *worker) taskCommit(r *running, s *task.Stats, written []task.Written, now time.Time) metrics.TaskCommit {
	c := metrics.TaskCommit{Task: r.task.ID().String(), N: r.task.N(), Processed: s.Processed, DeadLetters: s.DeadLetters, Parked: s.Parked,
		TimersFired: s.TimersFired, TimersFailed: s.TimersFailed, Clamped: s.Clamped, RetriesInPlace: s.RetriesInPlace}
	if ms := r.task.StreamTimeMillis(); ms != statestore.MinStreamTime {
		c.StreamTime = time.UnixMilli(ms)
	}
	for i := range s.Inputs {
		w.addInput(&c, r, i, &s.Inputs[i], now)
	}
	for _, p := range s.Produced {
		c.Produced = append(c.Produced, metrics.TopicCount{Topic: p.Topic, Records: p.Records, Bytes: p.Bytes})
	}
	for _, f := range s.Failed {
		c.Failures = append(c.Failures, metrics.FailureCount{Node: f.Node, Phase: f.Phase.String(), Policy: actionOf(f.Action), Count: f.Count})
		if f.Action == processor.ActionSkip {
			c.Dropped = append(c.Dropped, metrics.DropCount{Node: f.Node, Reason: "skip", Count: f.Count})
		}
	}
	for _, at := range written {
		st := w.app.storeOf(r.task.ID().SubTopology, at.Topic)
		c.Changelog = append(c.Changelog, metrics.StoreCount{Store: st, Records: at.Records, Bytes: at.Bytes})
	}
	return c
}

// storeOf names the store of a changelog.
func (a *App) storeOf(sub, changelog string) string {
	for _, st := range a.sub(sub).Stores {
		if st.Changelog == changelog {
			return st.Name
		}
	}
	return changelog
}

// addInput adds what one input did. Sources without deduplication give no verdicts but redeliveries.
func (w *worker) addInput(c *metrics.TaskCommit, r *running, i int, s *task.InputStats, now time.Time) {
	in := r.task.Inputs()[i]
	if s.Records > 0 {
		c.Consumed = append(c.Consumed, metrics.TopicCount{Topic: in.Topic, Records: s.Records, Bytes: s.Bytes})
		c.Ages = append(c.Ages, metrics.TopicAges{Topic: in.Topic, Oldest: age(s.Oldest, now), Newest: age(s.Newest, now)})
	}
	scope := w.app.scopeOf(in.Source)
	for v, n := range s.Verdicts {
		if n > 0 {
			c.Verdicts = append(c.Verdicts, metrics.VerdictCount{Scope: scope, Verdict: dedup.Verdict(v).String(), Count: n})
		}
	}
	if s.Evicted > 0 {
		c.Evicted = append(c.Evicted, metrics.ScopeCount{Scope: scope, Count: s.Evicted})
	}
	if s.OutputsReplayed > 0 {
		c.OutputsReplayed = append(c.OutputsReplayed, metrics.ScopeCount{Scope: scope, Count: s.OutputsReplayed})
	}
}

// age of a timestamp; one from the future has none.
func age(millis int64, now time.Time) time.Duration {
	return max(0, now.Sub(time.UnixMilli(millis)))
}

// scopeOf is the dedup scope of a source, by default its name.
func (a *App) scopeOf(source int) string {
	n := a.plan.Nodes[source]
	if n.Dedup != nil && n.Dedup.Scope != "" {
		return n.Dedup.Scope
	}
	return n.Name
}

func actionOf(a processor.Action) metrics.FailureAction {
	switch a {
	case processor.ActionSkip:
		return metrics.ActionSkip
	case processor.ActionDeadLetter:
		return metrics.ActionDeadLetter
	case processor.ActionRetry:
		return metrics.ActionRetry
	case processor.ActionPark:
		return metrics.ActionPark
	}
	return metrics.ActionStop
}

// onOutcome logs single failures and tells the listener of them.
func (w *worker) onOutcome(id statestore.TaskID) func(task.Outcome) {
	l := &w.app.cfg.Listener
	name := id.String()
	return func(o task.Outcome) {
		w.failures.note(id, o, time.Now())
		if l.Failed != nil {
			l.Failed(metrics.Failure{Task: name, Node: o.Node, Phase: o.Phase.String(), Policy: actionOf(o.Action), Place: o.Place, Err: o.Err})
		}
		if l.DeadLettered != nil && o.Action == processor.ActionDeadLetter {
			l.DeadLettered(metrics.DeadLetter{Task: name, Node: o.Node, Place: o.Place, Err: o.Err})
		}
	}
}

// onTiming tells the listener what was sampled; nil when nobody listens.
func (w *worker) onTiming(id statestore.TaskID) func(task.Timing) {
	l := &w.app.cfg.Listener
	if l.NodeTimed == nil && l.StoreTimed == nil {
		return nil
	}
	name := id.String()
	return func(m task.Timing) {
		switch {
		case m.Node != "" && l.NodeTimed != nil:
			l.NodeTimed(metrics.NodeTiming{Task: name, Node: m.Node, Duration: m.Took})
		case m.Store != "" && l.StoreTimed != nil:
			l.StoreTimed(metrics.StoreTiming{Task: name, Store: m.Store, Op: m.Op.String(), Duration: m.Took, StandsFor: task.SampleEvery})
		}
	}
}

// programVersion is that of the main module, as the Go tools know it.
func programVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "unknown"
}
