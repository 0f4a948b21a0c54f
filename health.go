package oncemill

import (
	"github.com/oncemill/oncemill/metrics"
	"github.com/oncemill/oncemill/metrics/health"
)

var _ health.Reporter = (*App)(nil)

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
	defer a.mu.Unlock()
	a.mu.ending = "stopping"
}

func (a *App) ended(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.mu.ending, a.mu.failed = "stopped", err
}
