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
