package demo

import (
	"slices"
	"testing"
)

func TestStrikesLieInTheirPartsAndLeaveWork(t *testing.T) {
	for messages := 2; messages < 3_000; messages += 7 {
		for kills := 1; kills <= min(MaxKills, messages-1); kills++ {
			part := messages / (kills + 1)
			strikes := planStrikes(messages, kills, uint64(messages))
			if len(strikes) != kills {
				t.Fatalf("%d strikes, want %d", len(strikes), kills)
			}
			for i, s := range strikes {
				if s.backlog != part*(i+1) || s.ahead != s.backlog+part || s.ahead > messages {
					t.Fatalf("%d messages, kill %d of %d: %+v", messages, i+1, kills, s)
				}
				if s.at < part*i || s.backlog-s.at < part/5 {
					t.Fatalf("%d messages, kill %d of %d: %+v leaves less than a fifth of %d", messages, i+1, kills, s, part)
				}
			}
		}
	}
}

func TestASeedMeansTheSameStrikes(t *testing.T) {
	a := planStrikes(55_104, 3, 1)
	if !slices.Equal(a, planStrikes(55_104, 3, 1)) {
		t.Error("one seed, two plans")
	}
	if slices.Equal(a, planStrikes(55_104, 3, 2)) {
		t.Error("two seeds, one plan")
	}
}

func TestOutputsCountAsUncommittedOnlyBeyondAPositionThatStands(t *testing.T) {
	a := newAim(strike{})
	for i, step := range []struct{ committed, written, want int }{
		{0, 500, 0},                  // who knows how many of them were there before
		{0, 500 + markersAtMost, 0},  // these may be markers
		{0, 501 + markersAtMost, 25}, // these are not
		{100, 700, 0},                // committed: begin anew
		{200, 900, 0},                // and again
		{200, 900 + 2*markersAtMost, 48},
	} {
		if got := a.beyond(step.committed, step.written); got != step.want {
			t.Errorf("step %d: %d, want %d", i, got, step.want)
		}
	}
}

func TestByHandIsCaughtWhereItStands(t *testing.T) {
	a := newAim(strike{at: 100, ahead: 300})
	for i, step := range []struct {
		committed, unsent, uncommitted int
		want                           bool
	}{
		{100, 0, 0, false}, // at work
		{99, 50, 50, true}, // it stands: its place lies in the batch after the commit
		{300, 0, 0, true},  // at rest: nothing is left
	} {
		a.uncommitted = 0
		trial := &trial{Config: Config{Variant: ByHand}, committed: step.committed}
		got, err := trial.caught(t.Context(), &a, step.unsent)
		if err != nil || got != step.want || a.uncommitted != step.uncommitted {
			t.Errorf("step %d: %v, %d uncommitted, %v", i, got, a.uncommitted, err)
		}
	}
}

// A worker that is killed before it has committed anything does not come back: that is said in place of a time.
func TestAKillBeforeTheReturnIsTold(t *testing.T) {
	var told []string
	trial := &trial{Config: Config{Kills: 2, Watch: Watch{Happened: func(text string) { told = append(told, text) }}}, committed: 7}
	trial.result.Kills = make([]Kill, 0, 2)
	trial.feeder = &feeder{}
	trial.struck(aim{uncommitted: 1})
	trial.struck(aim{uncommitted: 2})
	if want := []string{
		"kill 1 of 2: SIGKILL 1 outputs after its last commit, 7 messages committed",
		"  killed again before its first commit",
		"kill 2 of 2: SIGKILL 2 outputs after its last commit, 7 messages committed",
	}; !slices.Equal(told, want) {
		t.Errorf("told %q, want %q", told, want)
	}
}
