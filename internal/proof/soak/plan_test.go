package soak

import (
	"slices"
	"testing"
	"time"
)

func TestTwentyMinutesHaveWhatTheyPromise(t *testing.T) {
	c := CountsFor(20 * time.Minute)
	if c[Kill]+c[Wipe] < 30 || c[Pause] < 10 || c[Join]+c[Leave] < 10 || c[BrokerKill] < 10 {
		t.Errorf("too few: %v", c)
	}
	for _, kind := range Kinds {
		if c[kind] < 1 || CountsFor(time.Minute)[kind] < 1 {
			t.Errorf("%s is missing", kind)
		}
	}
	if len(perHour) != len(Kinds) {
		t.Errorf("%d kinds are drawn, %d are known", len(perHour), len(Kinds))
	}
}

func TestAPlanHasItsFaultsInOrderAndInTime(t *testing.T) {
	for seed := range uint64(200) {
		for _, length := range []time.Duration{time.Minute, 3 * time.Minute, 20 * time.Minute} {
			counts := CountsFor(length)
			plan := Draw(seed, length, counts)
			found, extra := Counts{}, 0
			for i, f := range plan {
				found[f.Kind]++
				if i > 0 && f.At < plan[i-1].At || f.At < warmUp || f.At > length-coolDown(length) {
					t.Fatalf("seed %d: fault %d is out of place: %v", seed, i, f)
				}
				if f.Kind == Pause && f.For < beyond {
					t.Fatalf("seed %d: a pause that no timeout notices: %v", seed, f)
				}
				switch f.Kind {
				case Join:
					extra++
				case Leave:
					extra--
				}
				if extra < 0 {
					t.Fatalf("seed %d: one leaves before it has joined: %v", seed, f)
				}
			}
			for _, kind := range Kinds {
				if found[kind] != counts[kind] {
					t.Fatalf("seed %d: %d of %s, want %d", seed, found[kind], kind, counts[kind])
				}
			}
		}
	}
}

func TestASeedMeansTheSamePlan(t *testing.T) {
	a := Draw(7, time.Minute, CountsFor(time.Minute))
	if !slices.Equal(a, Draw(7, time.Minute, CountsFor(time.Minute))) {
		t.Error("one seed, two plans")
	}
	if slices.Equal(a, Draw(8, time.Minute, CountsFor(time.Minute))) {
		t.Error("two seeds, one plan")
	}
}

func TestTimeoutsPassInAPause(t *testing.T) {
	if beyond <= sessionTimeout || beyond <= transactionTimeout {
		t.Errorf("a pause of %v: the session ends after %v, a transaction after %v", beyond, sessionTimeout, transactionTimeout)
	}
}
