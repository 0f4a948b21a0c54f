package soak

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oncemill/oncemill/internal/problem"
)

// TestAStartMayBeRefusedWhileBrokersAreAway: and three times soon after. What goes on being refused then is refused for another reason.
func TestAStartMayBeRefusedWhileBrokersAreAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, m := &fleet{}, &member{ended: problem.BrokersRefused}
		f.mu.members = []*member{m}
		want := func(excused bool, what string) {
			t.Helper()
			if f.excusedLocked(m) != excused {
				t.Errorf("%s: excused is %v", what, !excused)
			}
		}
		want(false, "a start without a fault")
		for range 2 {
			f.away(true)
			for range 10 {
				want(true, "a start in a fault")
			}
			f.away(false)
			for range lateStarts {
				want(true, "a start soon after a fault")
			}
			want(false, "one start more")
		}
		f.away(true)
		m.begun = true
		want(false, "a process that had begun")
		m.begun, m.ended = false, problem.Fenced
		want(false, "a start that failed otherwise")
		m.ended = problem.BrokersUnreachable
		f.away(false)
		<-time.After(excuse)
		want(false, "a start long after a fault")
		if away, late := f.refused(); away != 20 || late != 2*lateStarts {
			t.Errorf("%d starts refused in faults, %d after them", away, late)
		}
	})
}

func TestReportsAreReadUntilTheyBreakOff(t *testing.T) {
	var states []string
	readReports(strings.NewReader(`{"task":{"task":"a/0","state":"running"}}`+"\nno report\n"+`{"counts":{"commits":3}}`+"\n"+`{"task":{"ta`), func(r Report) {
		switch {
		case r.Task != nil:
			states = append(states, string(r.Task.State))
		case r.Counts != nil:
			states = append(states, fmt.Sprint(r.Counts.Commits))
		}
	})
	if !slices.Equal(states, []string{"running", "3"}) {
		t.Errorf("got %q", states)
	}
}

func TestTheTailIsTheEnd(t *testing.T) {
	var short, long tail
	_, _ = short.Write([]byte("one\ntwo\n"))
	for i := range 5_000 {
		fmt.Fprintf(&long, "line %d\n", i)
	}
	if short.String() != "one\ntwo" {
		t.Errorf("got %q", short.String())
	}
	if got := long.String(); !strings.HasPrefix(got, "line ") || !strings.HasSuffix(got, "\nline 4999") || len(got) > tailBytes {
		t.Errorf("%d bytes from %.20q to %.20q", len(got), got, got[max(0, len(got)-20):])
	}
}
