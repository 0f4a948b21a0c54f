package soak

import (
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
