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
