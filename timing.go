package oncemill

import (
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/oncemill/oncemill/internal/task"
	"github.com/oncemill/oncemill/metrics"
	"github.com/oncemill/oncemill/statestore"
)

// timing is where a worker's time goes, and how its last transaction ended. It belongs to the worker's goroutine and reads the
// clock a few times for each poll and each commit, never for a record.
type timing struct {
	// phases, cause, err and resolved are of the last commit.
	phases   metrics.Phases
	cause    string
	err      error
	resolved bool

	lapped    time.Time
	committed time.Duration // in commits, in all
	active    [len(activities)]time.Duration
	told      time.Time

	sampled time.Time // when the tasks were measured
	away    map[statestore.TaskID]time.Time
	sizes   map[string]meanSize // by changelog
}

// Indices of activities.
const (
	activityPoll = iota
	activityIdle
	activityProcess
	activityFlush
	activityCommit
	activityApply
)

var activities = [...]metrics.ActivityKind{metrics.ActivityPoll, metrics.ActivityIdle, metrics.ActivityProcess, metrics.ActivityFlush,
	metrics.ActivityCommit, metrics.ActivityApply}

// activityInterval is how often a worker tells how it spent its time.
const activityInterval = time.Second

// begin starts the clock of a commit.
func (t *timing) begin() {
	t.phases, t.cause, t.err, t.resolved = metrics.Phases{}, "", nil, false
	t.lapped = time.Now()
}

// lap adds the time since the last call to a phase.
func (t *timing) lap(phase *time.Duration) {
	now := time.Now()
	*phase += now.Sub(t.lapped)
	t.lapped = now
}

// end adds a commit to the activities.
func (t *timing) end(began time.Time) {
	p := &t.phases
	t.active[activityFlush] += p.Changelog + p.Flush
	t.active[activityCommit] += p.Offsets + p.End
	t.active[activityApply] += p.Apply
	t.committed += time.Since(began)
}

// polled adds a poll, which was idle when nothing came.
func (t *timing) polled(began time.Time, records int) (now time.Time) {
	now = time.Now()
	if records == 0 {
		t.active[activityIdle] += now.Sub(began)
	} else {
		t.active[activityPoll] += now.Sub(began)
	}
	return now
}

// processed adds the processing of a poll, without the commits in the middle of it.
func (t *timing) processed(began time.Time, committedBefore time.Duration) {
	t.active[activityProcess] += time.Since(began) - (t.committed - committedBefore)
}

// aborted notes why a transaction was aborted.
func (t *timing) aborted(cause error, culprit bool, overran bool) {
	t.err = cause
	switch {
	case errors.Is(cause, errCrowded):
		t.cause = "memory"
	case overran:
		t.cause = "timeout"
	case culprit:
		t.cause = "produce"
	case isOneOf(cause, kerr.RebalanceInProgress, kerr.IllegalGeneration, kerr.UnknownMemberID):
		t.cause = "rebalance"
	case isOneOf(cause, kerr.FencedInstanceID, kerr.ProducerFenced, kerr.InvalidProducerEpoch, kerr.TransactionCoordinatorFenced):
		t.cause = "fenced"
	default:
		t.cause = "produce"
	}
}

func isOneOf(err error, targets ...error) bool {
	for _, target := range targets {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// entered notes the state that a task enters, and returns how long it did not process when it runs again, and why.
func (t *timing) entered(id statestore.TaskID, state metrics.TaskState, restored int64) (away time.Duration, reason string) {
	if t.away == nil {
		t.away = map[statestore.TaskID]time.Time{}
	}
	since, known := t.away[id]
	switch state {
	case metrics.TaskRunning:
		delete(t.away, id)
		if !known {
			return 0, ""
		}
		if reason = "rebalance"; restored > 0 {
			reason = "restore"
		}
		return time.Since(since), reason
	case metrics.TaskClosed:
		delete(t.away, id)
	default:
		if !known {
			t.away[id] = time.Now()
		}
	}
	return 0, ""
}

// wrote counts what went into a changelog.
func (t *timing) wrote(at task.Written) {
	if t.sizes == nil {
		t.sizes = map[string]meanSize{}
	}
	m := t.sizes[at.Topic]
	t.sizes[at.Topic] = meanSize{m.records + at.Records, m.bytes + at.Bytes}
}

// tellActivity tells the listener how the worker spent its time.
func (w *worker) tellActivity() {
	l, t := w.app.cfg.Listener.WorkerActive, &w.timing
	now := time.Now()
	if l == nil || now.Sub(t.told) < activityInterval {
		return
	}
	t.told = now
	for i, d := range t.active {
		if d > 0 {
			l(metrics.Activity{Worker: w.name(), Kind: activities[i], Duration: d})
		}
	}
	t.active = [len(activities)]time.Duration{}
}
