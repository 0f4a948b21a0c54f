package oncemill

import (
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/internal/task"
	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/statestore"
)

// failureLogInterval is how often failures of one kind are logged: a topic full of broken records must not fill the disk.
const failureLogInterval = 10 * time.Second

// failureLog tells of records and timers that failed and were skipped, parked or sent to the dead letters: of each kind the first
// one, then one in ten seconds with the number of the others. It belongs to the worker's goroutine.
type failureLog struct {
	log   *slog.Logger
	kinds map[failureKind]*failureCount
}

type failureKind struct {
	node   string
	phase  string
	action processor.Action
	code   problem.Code
}

type failureCount struct {
	last   time.Time
	silent uint64 // since the last line
}

// became says what the policy did with it.
var became = map[processor.Action]string{
	processor.ActionSkip: "skipped", processor.ActionDeadLetter: "dead letter", processor.ActionPark: "parked for a delayed retry", processor.ActionStop: "the application stops",
}

func newFailureLog(log *slog.Logger) *failureLog {
	return &failureLog{log: log, kinds: map[failureKind]*failureCount{}}
}

func (f *failureLog) note(id statestore.TaskID, o task.Outcome, now time.Time) {
	kind := failureKind{o.Node, o.Phase.String(), o.Action, problem.CodeOf(o.Err)}
	c := f.kinds[kind]
	if c == nil {
		c = &failureCount{}
		f.kinds[kind] = c
	}
	if !c.last.IsZero() && now.Sub(c.last) < failureLogInterval {
		c.silent++
		return
	}
	args := []any{"task", id.String(), "node", o.Node, "phase", kind.phase, "place", o.Place, "became", became[o.Action], "err", firstLine(o.Err)}
	if c.silent > 0 {
		args = append(args, "others", c.silent)
	}
	f.log.Warn("a record or timer failed", args...)
	c.last, c.silent = now, 0
}

// flush tells how many were left out, at the end.
func (f *failureLog) flush() {
	var kinds []failureKind
	for kind, c := range f.kinds {
		if c.silent > 0 {
			kinds = append(kinds, kind)
		}
	}
	slices.SortFunc(kinds, func(a, b failureKind) int {
		return strings.Compare(a.node+a.phase+string(a.code), b.node+b.phase+string(b.code))
	})
	for _, kind := range kinds {
		f.log.Warn("more records or timers failed", "node", kind.node, "phase", kind.phase, "became", became[kind.action], "code", string(kind.code), "others", f.kinds[kind].silent)
		f.kinds[kind].silent = 0
	}
}

// firstLine leaves the stack of a panic to the dead letter.
func firstLine(err error) string {
	text, _, _ := strings.Cut(err.Error(), "\n")
	return text
}
