package simulation

import (
	"fmt"
	"testing"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/metrics"
	"github.com/oncemill/oncemill/streamtest"
)

// A restore may fail if it was under way when a trim took the very record that it was about to read, and for no other reason.
func TestOnlyATrimUnderARestoreExcusesIt(t *testing.T) {
	t.Parallel()
	const problemText = "position %d is gone, the log starts at %d"
	gone := streamtest.Trimmed{SubTopology: "s", Topic: "log", Partition: 3, From: 4, To: 9}
	trim := func(w *watch) {
		w.trims(gone)
		w.trimmed()
	}
	lost := func(place string, position int64) error {
		return fmt.Errorf("worker 0: %w", problem.New(problem.RestoreFailed, place, problemText, position, 9))
	}
	to := func(w *watch, process, task string, state metrics.TaskState) {
		w.taskChanged(process, &metrics.TaskStateChange{Task: task, To: state})
	}
	under := func(w *watch) {
		to(w, "a", "s_3", metrics.TaskRestoring)
		trim(w)
		to(w, "a", "s_3", metrics.TaskClosed)
	}
	for name, c := range map[string]struct {
		happens func(w *watch)
		err     error
		excused bool
	}{
		"what it needs":         {under, lost("log/3", 4), true},
		"the last that is gone": {under, lost("log/3", 8), true},
		"what was gone before":  {under, lost("log/3", 3), false},
		"what is there":         {under, lost("log/3", 9), false},
		"another partition":     {under, lost("log/2", 4), false},
		"another log":           {under, lost("other/3", 4), false},
		"another reason":        {under, problem.Wrap(problem.RestoreFailed, "log/3", fmt.Errorf("it may not be read")), false},
		"another code":          {under, problem.New(problem.StoreIO, "log/3", problemText, 4, 9), false},
		"no error of ours":      {under, fmt.Errorf(problemText, 4, 9), false},
		"another process": {func(w *watch) {
			to(w, "b", "s_3", metrics.TaskRestoring)
			trim(w)
		}, lost("log/3", 4), false},
		"another task": {func(w *watch) {
			to(w, "a", "s_2", metrics.TaskRestoring)
			trim(w)
		}, lost("log/3", 4), false},
		"a trim before it": {func(w *watch) {
			trim(w)
			to(w, "a", "s_3", metrics.TaskRestoring)
		}, lost("log/3", 4), false},
		"a trim that is not over yet": {func(w *watch) {
			w.trims(gone)
			to(w, "a", "s_3", metrics.TaskRestoring)
		}, lost("log/3", 4), true},
		"a restore that ends before the trim is over": {func(w *watch) {
			to(w, "a", "s_3", metrics.TaskRestoring)
			w.trims(gone)
			to(w, "a", "s_3", metrics.TaskClosed)
		}, lost("log/3", 4), true},
		"a trim after it": {func(w *watch) {
			to(w, "a", "s_3", metrics.TaskRestoring)
			to(w, "a", "s_3", metrics.TaskRunning)
			trim(w)
		}, lost("log/3", 4), false},
		"a trim under the one before": {func(w *watch) {
			under(w)
			to(w, "a", "s_3", metrics.TaskRestoring)
		}, lost("log/3", 4), false},
		"a trim in the life before": {func(w *watch) {
			under(w)
			w.ended("a", true)
		}, lost("log/3", 4), false},
	} {
		w := newWatch(false)
		for _, process := range []string{"a", "b"} {
			to(w, process, "s_0", metrics.TaskRunning)
		}
		c.happens(w)
		if got := w.trimmedUnder("a", c.err); got != c.excused {
			t.Errorf("%s: excused %v", name, got)
		}
	}
}
