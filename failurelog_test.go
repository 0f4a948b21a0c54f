package oncemill

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/oncemill/oncemill/internal/host"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/internal/task"
	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/statestore"
)

// Of each kind the first failure is told at once, then one in ten seconds, and none is left out of the counts.
func TestFailuresAreLoggedWithoutFillingTheDisk(t *testing.T) {
	var out bytes.Buffer
	drop := func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}
	f := newFailureLog(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{ReplaceAttr: drop})))
	id, now := statestore.TaskID{SubTopology: "shop", Partition: 3}, time.Unix(1_700_000_000, 0)
	fail := func(n int, phase host.Phase, action processor.Action) {
		for i := range n {
			err := problem.New(problem.HandlerFailed, "orders/3@7", "no %d\nstack", i)
			f.note(id, task.Outcome{Node: "decide", Phase: phase, Action: action, Place: fmt.Sprint("orders/3@", i), Err: err}, now)
		}
	}
	lines := func(want ...string) {
		t.Helper()
		got := strings.Split(strings.TrimSpace(out.String()), "\n")
		out.Reset()
		if len(got) != len(want) {
			t.Fatalf("%d lines, want %d:\n%s", len(got), len(want), strings.Join(got, "\n"))
		}
		for i := range want {
			for part := range strings.SplitSeq(want[i], "|") {
				if !strings.Contains(got[i], part) {
					t.Errorf("line %q does not say %q", got[i], part)
				}
			}
		}
	}
	fail(1000, host.PhaseProcess, processor.ActionDeadLetter)
	fail(3, host.PhaseDecode, processor.ActionSkip)
	lines(`level=WARN|task=shop_3|node=decide|phase=process|place=orders/3@0|became="dead letter"|no 0`, `phase=decode|became=skipped`)
	now = now.Add(failureLogInterval)
	fail(2, host.PhaseProcess, processor.ActionDeadLetter)
	lines(`place=orders/3@0|others=999`)
	f.flush()
	lines(`phase=decode|others=2`, `phase=process|others=1`)
	f.flush()
	if out.Len() != 0 {
		t.Fatalf("flushed twice: %s", &out)
	}
}
