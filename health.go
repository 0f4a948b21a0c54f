package oncemill

import (
	"slices"

	"github.com/oncemill/oncemill/metrics"
	"github.com/oncemill/oncemill/metrics/health"
)

var _ health.Reporter = (*App)(nil)

// TaskStatus is what is known of one task of this process.
type TaskStatus struct {
	Task   string `json:"task"`
	Worker string `json:"worker"`
	// State is "restoring" or "running".
	State string `json:"state"`
	// N is the number of the task's last committed transaction.
	N uint64 `json:"n"`
	// Restored counts the changelog records of the last restore, Remaining those that are left.
	Restored  int64 `json:"restored"`
	Remaining int64 `json:"remaining"`
}

// Tasks returns the tasks of this process, by name. It may be called while Run runs.
func (a *App) Tasks() []TaskStatus {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make([]TaskStatus, 0, len(a.mu.tasks))
	for _, t := range a.mu.tasks {
		out = append(out, t)
	}
	slices.SortFunc(out, func(x, y TaskStatus) int {
		if x.Task < y.Task {
			return -1
		}
		return 1
	})
	return out
}

// Health is the state of the application, for the handlers of metrics/health. It may be called before, during and after Run,
// from any goroutine.
func (a *App) Health() health.Report {
	tasks := a.Tasks()
	a.mu.Lock()
	defer a.mu.Unlock()
	r := health.Report{Failed: a.mu.failed, Waiting: a.mu.ending}
	switch {
	case r.Waiting != "":
	case !a.mu.running:
		r.Waiting = "not started"
	case len(a.mu.joined) < a.cfg.Workers:
		r.Waiting = "starting"
	}
	for _, t := range tasks {
		r.Tasks = append(r.Tasks, health.Task{Task: t.Task, Worker: t.Worker, State: metrics.TaskState(t.State), N: t.N,
			Restored: t.Restored, Remaining: t.Remaining})
	}
	return r
}

func (a *App) stopping() {
	a.mu.Lock()
	a.mu.ending = "stopping"
	a.mu.Unlock()
	a.noteReady()
}

func (a *App) ended(err error) {
	a.mu.Lock()
	a.mu.ending, a.mu.failed = "stopped", err
	a.mu.Unlock()
	a.noteReady()
}

// noteReady tells the listener when the application begins or ceases to be ready.
func (a *App) noteReady() {
	l := a.cfg.Listener.ReadyChanged
	if l == nil {
		return
	}
	a.ready.Lock()
	defer a.ready.Unlock()
	if _, now := a.Health().Ready(); now != a.ready.told {
		a.ready.told = now
		l(metrics.Ready{Ready: now})
	}
}
