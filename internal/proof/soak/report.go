package soak

import (
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/internal/child"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/metrics"
)

// Report is what a worker process writes to its standard output, one line of JSON each.
type Report struct {
	Counts  *Flow          `json:"counts,omitempty"`
	Task    *TaskReport    `json:"task,omitempty"`
	Restore *RestoreReport `json:"restore,omitempty"`
	Moves   *MovesReport   `json:"moves,omitempty"`
	Pending *PendingReport `json:"pending,omitempty"`
	Doubt   *DoubtReport   `json:"doubt,omitempty"`
	End     *EndReport     `json:"end,omitempty"`
	Version *VersionReport `json:"version,omitempty"`
}

// Flow counts what was done since the last report.
type Flow struct {
	Commits uint64 `json:"commits,omitempty"`
	Aborts  uint64 `json:"aborts,omitempty"`
	// ResolvedCommits and ResolvedAborts are transactions whose answer was lost; they are among the others.
	ResolvedCommits uint64 `json:"resolvedCommits,omitempty"`
	ResolvedAborts  uint64 `json:"resolvedAborts,omitempty"`
	Fenced          uint64 `json:"fenced,omitempty"`
	Records         uint64 `json:"records,omitempty"` // of all inputs, committed
	Outputs         uint64 `json:"outputs,omitempty"`
	Duplicates      uint64 `json:"duplicates,omitempty"`
	Letters         uint64 `json:"letters,omitempty"`
	Timers          uint64 `json:"timers,omitempty"`
	Parked          uint64 `json:"parked,omitempty"`
	Evicted         uint64 `json:"evicted,omitempty"` // buckets of markers
	Checkpoints     uint64 `json:"checkpoints,omitempty"`
}

// add adds to the counts.
func (f *Flow) add(o *Flow) {
	f.Commits += o.Commits
	f.Aborts += o.Aborts
	f.ResolvedCommits += o.ResolvedCommits
	f.ResolvedAborts += o.ResolvedAborts
	f.Fenced += o.Fenced
	f.Records += o.Records
	f.Outputs += o.Outputs
	f.Duplicates += o.Duplicates
	f.Letters += o.Letters
	f.Timers += o.Timers
	f.Parked += o.Parked
	f.Evicted += o.Evicted
	f.Checkpoints += o.Checkpoints
}

// TaskReport says that a task has entered a state: restoring, running, closed.
type TaskReport struct {
	Task  string            `json:"task"`
	State metrics.TaskState `json:"state"`
}

// RestoreReport says that a restore has ended.
type RestoreReport struct {
	Task    string               `json:"task"`
	Cause   metrics.RestoreCause `json:"cause"`
	Records uint64               `json:"records"`
	Millis  int64                `json:"millis"`
	Err     string               `json:"err,omitempty"`
}

// MovesReport says that a rebalance has ended.
type MovesReport struct {
	Reason  string `json:"reason"` // assigned, revoked, lost
	Gained  int    `json:"gained"`
	Revoked int    `json:"revoked"`
}

// PendingReport says what a task still has to do at its time.
type PendingReport struct {
	Task   string `json:"task"`
	Alarms int64  `json:"alarms"` // timers of the wall clock, those of retries included
	Parked int64  `json:"parked"`
}

// DoubtReport says that the answer to a commit was lost, or that its outcome is known now.
type DoubtReport struct {
	Resolved bool  `json:"resolved"`
	Millis   int64 `json:"millis"`
}

// EndReport is the last one of a process that ends by itself.
type EndReport struct {
	Err  string       `json:"err,omitempty"`
	Code problem.Code `json:"code,omitempty"`
}

// VersionReport says what runs.
type VersionReport struct {
	Version string `json:"version"`
}

// teller writes reports. Counts are collected and written at intervals.
type teller struct {
	tell func(Report)

	mu  sync.Mutex
	now Flow
	any bool
}

func newTeller(out io.Writer, log *slog.Logger) *teller {
	return &teller{tell: child.Teller[Report](out, log)}
}

// reportInterval is how often counts are written: a second of the timeline has two of them.
const reportInterval = 500 * time.Millisecond

func (t *teller) count(f Flow) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.now.add(&f)
	t.any = true
}

// flush writes the counts, if there are any.
func (t *teller) flush() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.any {
		counts := t.now
		t.tell(Report{Counts: &counts})
		t.now, t.any = Flow{}, false
	}
}

// listener tells of what the parent shows and waits for.
func (t *teller) listener() metrics.Listener {
	return metrics.Listener{
		AppStarted:       func(e metrics.AppStart) { t.tell(Report{Version: &VersionReport{e.Version}}) },
		TransactionEnded: t.transaction,
		TaskCommitted:    t.committed,
		CheckpointEnded: func(e metrics.CheckpointEnd) {
			if e.Err == nil {
				t.count(Flow{Checkpoints: 1})
			}
		},
		TransactionUnresolved: func(e metrics.Unresolved) {
			t.tell(Report{Doubt: &DoubtReport{e.Resolved, e.Waited.Milliseconds()}})
		},
		TaskStateChanged: func(e metrics.TaskStateChange) { t.tell(Report{Task: &TaskReport{e.Task, e.To}}) },
		RebalanceEnded:   func(e metrics.RebalanceEnd) { t.tell(Report{Moves: &MovesReport{e.Reason, e.Gained, e.Revoked}}) },
		RestoreEnded: func(e metrics.RestoreEnd) {
			r := &RestoreReport{Task: e.Task, Cause: e.Cause, Records: e.Restored, Millis: e.Duration.Milliseconds()}
			if e.Err != nil {
				r.Err = e.Err.Error()
			}
			t.tell(Report{Restore: r})
		},
		TaskMeasured: func(e metrics.TaskSample) {
			t.tell(Report{Pending: &PendingReport{e.Task, e.WallTimers, e.ParkedRecords}})
		},
	}
}

func (t *teller) transaction(e metrics.TransactionEnd) {
	switch e.Outcome {
	case metrics.Committed:
		t.count(Flow{Commits: 1})
	case metrics.ResolvedCommitted:
		t.count(Flow{Commits: 1, ResolvedCommits: 1})
	case metrics.ResolvedAborted:
		t.count(Flow{Aborts: 1, ResolvedAborts: 1})
	case metrics.Fenced:
		t.count(Flow{Aborts: 1, Fenced: 1})
	default:
		t.count(Flow{Aborts: 1})
	}
}

func (t *teller) committed(e metrics.TaskCommit) {
	f := Flow{Letters: e.DeadLetters, Timers: e.TimersFired, Parked: e.Parked}
	for _, c := range e.Consumed {
		f.Records += c.Records
	}
	for _, c := range e.Produced {
		f.Outputs += c.Records
	}
	for _, v := range e.Verdicts {
		if v.Verdict == dedup.Duplicate.String() {
			f.Duplicates += v.Count
		}
	}
	for _, s := range e.Evicted {
		f.Evicted += s.Count
	}
	t.count(f)
}
