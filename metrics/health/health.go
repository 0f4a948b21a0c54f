// Package health serves /livez and /readyz. Live means that a restart would not help: a process that restores, waits for a
// broker or resolves a commit is live. Ready means that every
// assigned task has its state and takes records as they come; whether brokers deliver any is not a part of it (lag tells).
package health

import (
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/metrics"
)

// Version is that of the JSON of /readyz?verbose.
const Version = 1

// Reporter is the application. Health must answer at once, from any goroutine.
type Reporter interface {
	Health() Report
}

// Report is the state of an application.
type Report struct {
	// Failed is why it has ended, or is about to, for good; nil while it runs, whatever it waits for.
	Failed error
	// Waiting says what the application as a whole waits for before it can be ready, such as "starting" or "stopping"; empty
	// otherwise. Tasks that do not run are seen in Tasks.
	Waiting string
	// Tasks are those assigned to this process, in a stable order. An application without tasks can be ready: there may be
	// more processes than partitions.
	Tasks []Task
}

// Task is one task of a Report.
type Task struct {
	Task   string            `json:"task"`
	Worker string            `json:"worker,omitempty"`
	State  metrics.TaskState `json:"state"`
	// N is the number of the task's last committed transaction.
	N uint64 `json:"n"`
	// Restored and Remaining are records and offsets of a restore that is under way.
	Restored  int64 `json:"restored,omitempty"`
	Remaining int64 `json:"remaining,omitempty"`
}

// Ready reports that the application processes everything that is assigned to it. The reason is empty then.
func (r Report) Ready() (reason string, ready bool) {
	switch {
	case r.Failed != nil:
		return "failed" + code(r.Failed), false
	case r.Waiting != "":
		return r.Waiting, false
	}
	running := 0
	for _, t := range r.Tasks {
		if t.State == metrics.TaskRunning {
			running++
		}
	}
	if running < len(r.Tasks) {
		return fmt.Sprintf("%d of %d tasks running", running, len(r.Tasks)), false
	}
	return "", true
}

// code is what the probes say of an error. Its text may hold keys of records and is for the log.
func code(err error) string {
	if c := problem.CodeOf(err); c != "" {
		return " (" + string(c) + ")"
	}
	return ""
}

// Live is the handler of /livez: 200 unless the application has failed for good, 503 then. It never fails because of a
// restore: a probe that kills a restoring process makes a loop of restarts.
func Live(app Reporter) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if failed := app.Health().Failed; failed != nil {
			answer(w, http.StatusServiceUnavailable, "failed"+code(failed)+"; the log says why")
			return
		}
		answer(w, http.StatusOK, "live")
	})
}

// Ready is the handler of /readyz: 200 when every assigned task runs, else 503 with the reason. With ?verbose the answer is
// JSON with one entry for each task.
func Ready(app Reporter) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		report := app.Health()
		reason, ready := report.Ready()
		status := http.StatusOK
		if !ready {
			status = http.StatusServiceUnavailable
		}
		if r.URL.Query().Has("verbose") {
			verbose(w, status, reason, report.Tasks)
			return
		}
		if ready {
			reason = "ready"
		} else {
			reason = "not ready: " + reason
		}
		answer(w, status, reason)
	})
}

// Mount registers /livez and /readyz below a prefix, which may be empty.
func Mount(mux *http.ServeMux, prefix string, app Reporter) {
	mux.Handle(prefix+"/livez", Live(app))
	mux.Handle(prefix+"/readyz", Ready(app))
}

func answer(w http.ResponseWriter, status int, text string) {
	header(w, "text/plain; charset=utf-8", status)
	_, _ = fmt.Fprintln(w, text) // the prober has gone; there is nobody to tell
}

func header(w http.ResponseWriter, contentType string, status int) {
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
}

func verbose(w http.ResponseWriter, status int, reason string, tasks []Task) {
	if tasks == nil {
		tasks = []Task{} // an empty list, not null
	}
	header(w, "application/json", status)
	_ = json.NewEncoder(w).Encode(struct {
		Version int    `json:"version"`
		Ready   bool   `json:"ready"`
		Reason  string `json:"reason,omitempty"`
		Tasks   []Task `json:"tasks"`
	}{Version, reason == "", reason, tasks})
}
