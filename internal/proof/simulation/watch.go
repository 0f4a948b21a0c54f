package simulation

import (
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/oncemill/oncemill/internal/step"
	"github.com/oncemill/oncemill/metrics"
	"github.com/oncemill/oncemill/streamtest"
)

// watch notes the situations that a run meets, by what the engine tells its listeners, its steps, what its stores write, and what is
// done to the processes.
type watch struct {
	old bool // brokers
	mu  struct {
		sync.Mutex
		met   map[Situation]int
		tasks map[string]*taskSeen
		procs map[string]*processSeen
		// trimming are the trims that are being made, by task.
		trimming map[string][]streamtest.Trimmed
		tails    []tail
	}
}

// taskSeen is what is known of a task.
type taskSeen struct {
	runs    map[string]string // by process that lives: the worker that believes to have it
	owner   string            // who committed last
	parker  string            // who parked a record last
	evicted bool              // its markers were evicted once
	letters map[string]string // who sent the dead letter of a place
}

// processSeen is what is known of an incarnation of a process.
type processSeen struct {
	restoring map[string]bool // tasks
	opening   map[string]bool // tasks that are being restored, or about to be
	chunks    map[string]bool // of those that are restored, those of which a part was written
	ingesting map[string]bool
	behind    map[string]bool // tasks whose checkpoint was under way when a drop was asked for
	first     map[string]bool // tasks that have committed nothing since they run here
	consumed  map[string]bool // tasks that have consumed a record here since they run here
	crowded   map[string]bool // workers that wait for memory
	// interrupted are the restores that the end of the incarnation before has cut short, after a part was written.
	interrupted map[string]bool
	trims       map[string][]streamtest.Trimmed // under the last restore of a task
}

// tail is the end of a changelog that a restore has to reach.
type tail struct {
	topic     string
	partition int32
	end       int64
}

func newWatch(old bool) *watch {
	w := &watch{old: old}
	w.mu.met, w.mu.tasks, w.mu.procs = map[Situation]int{}, map[string]*taskSeen{}, map[string]*processSeen{}
	w.mu.trimming = map[string][]streamtest.Trimmed{}
	return w
}

func newProcessSeen(interrupted map[string]bool) *processSeen {
	return &processSeen{restoring: map[string]bool{}, opening: map[string]bool{}, trims: map[string][]streamtest.Trimmed{}, chunks: map[string]bool{}, ingesting: map[string]bool{}, behind: map[string]bool{}, first: map[string]bool{},
		consumed: map[string]bool{}, crowded: map[string]bool{}, interrupted: interrupted}
}

func (w *watch) met() map[Situation]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.mu.met)
}

// restored are the ends of changelogs that restores had to reach, the last first.
func (w *watch) restored() []tail {
	w.mu.Lock()
	defer w.mu.Unlock()
	tails := slices.Clone(w.mu.tails)
	slices.Reverse(tails)
	return tails
}

func (w *watch) note(s Situation) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.met[s]++
}

func (w *watch) taskLocked(name string) *taskSeen {
	t := w.mu.tasks[name]
	if t == nil {
		t = &taskSeen{runs: map[string]string{}, letters: map[string]string{}}
		w.mu.tasks[name] = t
	}
	return t
}

func (w *watch) processLocked(name string) *processSeen {
	p := w.mu.procs[name]
	if p == nil {
		p = newProcessSeen(map[string]bool{})
		w.mu.procs[name] = p
	}
	return p
}

// ended notes that an incarnation of a process is over, and whether it was killed.
func (w *watch) ended(process string, killed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.processLocked(process)
	if killed && len(p.ingesting) > 0 {
		w.mu.met[CheckpointKilled]++
	}
	interrupted := map[string]bool{}
	for task := range p.restoring {
		if killed && p.chunks[task] {
			interrupted[task] = true
		}
	}
	w.mu.procs[process] = newProcessSeen(interrupted)
	for _, t := range w.mu.tasks {
		delete(t.runs, process)
	}
}

// step is told of each step of a process.
func (w *watch) step(process string, at string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.processLocked(process)
	switch step.Step(at) {
	case step.Revoke, step.Assign:
		if len(p.restoring) > 0 {
			w.mu.met[RestoreInRebalance]++
		}
	case step.Lost:
		w.mu.met[TermEnded]++
	case step.Drop:
		maps.Copy(p.behind, p.ingesting)
	}
}

// listener is that of a process. lookAt tells where the changelogs of a task end.
func (w *watch) listener(process string, lookAt func(task string) tail) metrics.Listener {
	return metrics.Listener{
		TransactionEnded: func(e metrics.TransactionEnd) { w.transactionEnded(process, &e) },
		TaskCommitted:    func(e metrics.TaskCommit) { w.taskCommitted(process, &e) },
		TaskStateChanged: func(e metrics.TaskStateChange) { w.taskChanged(process, &e) },
		RebalanceEnded:   func(e metrics.RebalanceEnd) { w.rebalanced(process, &e) },
		RestoreStarted: func(e metrics.RestoreStart) {
			at := lookAt(e.Task) // without the lock
			w.restoreStarted(process, &e, at)
		},
		RestoreEnded: func(e metrics.RestoreEnd) {
			w.mu.Lock()
			defer w.mu.Unlock()
			delete(w.processLocked(process).restoring, e.Task)
		},
		CheckpointEnded: func(e metrics.CheckpointEnd) {
			if e.Err != nil {
				w.note(CheckpointFailed)
			}
		},
		DeadLettered: func(e metrics.DeadLetter) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.taskLocked(e.Task).letters[e.Place] = process
		},
	}
}

func (w *watch) transactionEnded(process string, e *metrics.TransactionEnd) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.processLocked(process)
	if w.old && (e.Outcome == metrics.ResolvedCommitted || e.Outcome == metrics.ResolvedAborted) {
		w.mu.met[ResolvedOld]++
	}
	switch e.Outcome {
	case metrics.ResolvedCommitted:
		w.mu.met[ResolvedYes]++
	case metrics.ResolvedAborted:
		w.mu.met[ResolvedNo]++
	case metrics.Committed:
		delete(p.crowded, e.Worker)
		return
	}
	if e.Cause == "memory" {
		p.crowded[e.Worker] = true
	}
	if e.Cause == "timeout" {
		w.mu.met[TransactionTimedOut]++
	}
	if e.Outcome == metrics.ResolvedCommitted || e.Records == 0 {
		return
	}
	for _, t := range w.mu.tasks {
		if t.runs[process] == e.Worker && len(t.runs) > 1 {
			w.mu.met[ZombieRefused]++
			return
		}
	}
}

func (w *watch) rebalanced(process string, e *metrics.RebalanceEnd) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.processLocked(process).crowded[e.Worker] {
		w.mu.met[MemoryWait]++
	}
}

func (w *watch) taskChanged(process string, e *metrics.TaskStateChange) {
	w.mu.Lock()
	defer w.mu.Unlock()
	t, p := w.taskLocked(e.Task), w.processLocked(process)
	switch e.To {
	case metrics.TaskRestoring:
		p.opening[e.Task] = true
		p.trims[e.Task] = slices.Clone(w.mu.trimming[e.Task])
	case metrics.TaskRunning:
		delete(p.opening, e.Task)
		t.runs[process] = e.Worker
		p.first[e.Task] = true
		delete(p.consumed, e.Task)
		if len(t.runs) > 1 {
			w.mu.met[TwoOwners]++
		}
	default:
		if t.runs[process] == e.Worker { // another worker of the process may have it by now
			delete(t.runs, process)
		}
		if e.To == metrics.TaskClosed {
			delete(p.restoring, e.Task)
			delete(p.opening, e.Task)
		}
	}
}

func (w *watch) taskCommitted(process string, e *metrics.TaskCommit) {
	w.mu.Lock()
	defer w.mu.Unlock()
	t, p := w.taskLocked(e.Task), w.processLocked(process)
	consumed, duplicates := uint64(0), uint64(0)
	for _, c := range e.Consumed {
		consumed += c.Records
	}
	for _, v := range e.Verdicts {
		if v.Verdict == duplicate {
			duplicates += v.Count
		}
	}
	others := t.owner != "" && t.owner != process
	switch {
	case consumed == 0 && e.TimersFired > 0 && !p.consumed[e.Task] && p.first[e.Task] && others: // nothing here can have set it
		w.mu.met[TimerMoved]++
	case consumed > 0 && consumed == duplicates && p.first[e.Task] && others: // nothing here can have run the message
		w.mu.met[DuplicateMoved]++
	}
	if consumed == 0 && e.Processed > 0 && t.parker != "" && t.parker != process {
		w.mu.met[ParkedMoved]++
	}
	if e.Parked > 0 {
		t.parker = process
	}
	for _, s := range e.Evicted {
		t.evicted = t.evicted || s.Count > 0
	}
	p.first[e.Task] = false
	p.consumed[e.Task] = p.consumed[e.Task] || consumed > 0
	t.owner = process
}

// duplicate is the verdict of package dedup.
const duplicate = "duplicate"

func (w *watch) restoreStarted(process string, e *metrics.RestoreStart, at tail) {
	w.mu.Lock()
	defer w.mu.Unlock()
	t, p := w.taskLocked(e.Task), w.processLocked(process)
	p.restoring[e.Task] = true
	delete(p.chunks, e.Task)
	w.mu.tails = append(w.mu.tails, at)
	switch {
	case e.Cause != metrics.RestoreTail && t.evicted:
		w.mu.met[EvictionReplayed]++
	case e.Cause == metrics.RestoreTail && t.owner != "" && t.owner != process:
		w.mu.met[StaleStoreContinued]++
	}
	if e.Cause == metrics.RestoreWiped {
		w.mu.met[RestoreWiped]++
	}
	if e.Cause == metrics.RestoreTail && p.interrupted[e.Task] {
		w.mu.met[RestoreContinued]++
	}
	delete(p.interrupted, e.Task)
}

// replayed is told that a dead letter is replayed.
func (w *watch) replayed(task, place string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := w.taskLocked(task)
	sender := t.letters[place]
	if _, has := t.runs[sender]; sender != "" && !has && len(t.runs) > 0 {
		w.mu.met[LetterReplayedMoved]++
	}
}

// ingesting is told that the store of a process begins to write tasks.
func (w *watch) ingesting(process string, tasks []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.processLocked(process)
	for _, task := range tasks {
		p.ingesting[task] = true
		if p.restoring[task] {
			p.chunks[task] = true
		}
		if _, has := w.taskLocked(task).runs[process]; !has && !p.restoring[task] {
			w.mu.met[CheckpointAfterMove]++
		}
	}
}

// ingested is told that it has ended.
func (w *watch) ingested(process string, tasks []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, task := range tasks {
		delete(w.processLocked(process).ingesting, task)
	}
}

// excised is told that the store of a process has removed a task.
func (w *watch) excised(process, task string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p := w.processLocked(process); p.behind[task] {
		w.mu.met[DropBehindIngest]++
		delete(p.behind, task)
	}
}

// subOf is the sub-topology in the name of a task.
func subOf(task string) string { return task[:strings.LastIndexByte(task, '_')] }
