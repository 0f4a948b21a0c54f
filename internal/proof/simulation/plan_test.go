package simulation

import (
	"reflect"
	"slices"
	"testing"
	"time"
)

// Every fault of every plan is read back as it was printed, and a seed makes the same plan again.
func TestPlansArePlainData(t *testing.T) {
	t.Parallel()
	drawn := map[Kind]int{}
	for seed := range uint64(300) {
		plan := Draw(seed)
		back, err := ParseFaults(Text(plan.Faults))
		if err != nil || !reflect.DeepEqual(back, plan.Faults) {
			t.Fatalf("seed %d: read back (%v):\n%s\nfrom:\n%s", seed, err, Text(back), Text(plan.Faults))
		}
		if again := Draw(seed); !reflect.DeepEqual(again, plan) {
			t.Fatalf("seed %d makes another plan", seed)
		}
		if n := len(plan.Faults); n < 20 || n > 70 || !slices.IsSortedFunc(plan.Faults, func(a, b Fault) int { return int(a.At - b.At) }) {
			t.Fatalf("seed %d: %d faults, or not in order", seed, n)
		}
		for _, f := range plan.Faults {
			drawn[f.Kind]++
		}
	}
	for _, kind := range Kinds() {
		if drawn[kind] < 50 {
			t.Errorf("%d faults %q in 300 plans", drawn[kind], kind)
		}
	}
}

func TestFaultsThatCannotBeRead(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"1s", "now kill a", "1s explode a", "1s kill", "1s kill a lost=much", "1s crash a", "1s crash a step=nowhere", "1s lose api=Nothing",
		"1s refuse api=EndTxn err=NOTHING", "1s broker node=3", "1s kill a why=so", "1s lose api=Fetch err=REQUEST_TIMED_OUT"} {
		if faults, err := ParseFaults(text); err == nil {
			t.Errorf("%q was read as %v", text, faults)
		}
	}
}

// Of many faults the two that matter together are left, also when they fail only every other time and the question is asked thrice.
func TestShrinkFindsWhatMatters(t *testing.T) {
	t.Parallel()
	var all []Fault
	for i := range 60 {
		all = append(all, Fault{At: time.Duration(i) * time.Second, Kind: Leaders})
	}
	for _, flaky := range []bool{false, true} {
		asked := 0
		fails := func(faults []Fault) bool {
			both := slices.Contains(faults, all[7]) && slices.Contains(faults, all[41])
			if !flaky {
				asked++
				return both
			}
			for range 3 {
				if asked++; both && asked%2 == 0 {
					return true
				}
			}
			return false
		}
		got := Shrink(all, fails, time.Now().Add(time.Minute))
		if want := []Fault{all[7], all[41]}; !reflect.DeepEqual(got, want) {
			t.Errorf("flaky %v: %s is left", flaky, Text(got))
		}
		if asked > 500 {
			t.Errorf("flaky %v: asked %d times", flaky, asked)
		}
	}
	if got := Shrink(all, func([]Fault) bool { return true }, time.Now().Add(time.Minute)); len(got) > 0 {
		t.Errorf("%s is left of what fails without faults", Text(got))
	}
	if got := Shrink(all, func([]Fault) bool { return true }, time.Now().Add(-time.Second)); len(got) != len(all) {
		t.Errorf("%d faults are left after the deadline", len(got))
	}
}
