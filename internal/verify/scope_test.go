package verify

import (
	"fmt"
	"testing"
)

func TestParseSample(t *testing.T) {
	for text, want := range map[string]Sample{"1/100": {1, 100}, "3/4": {3, 4}, "5%": {50_000, 1_000_000}, "0.1%": {1000, 1_000_000}, "100%": {1_000_000, 1_000_000}} {
		if got, err := ParseSample(text); err != nil || got != want {
			t.Errorf("%s: %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "1", "0/5", "5/4", "1/0", "-1/5", "1/x", "0%", "101%", "x%", "NaN%", "0.00001%"} {
		if got, err := ParseSample(text); err == nil {
			t.Errorf("%q is taken as %v", text, got)
		}
	}
}

// Each fraction takes about its part, of ids that are alike, too.
func TestSampleTakesItsPart(t *testing.T) {
	const n = 100_000
	for _, s := range []Sample{{1, 2}, {1, 10}, {1, 100}, {3, 7}, {10_000, 1_000_000}} {
		taken := 0
		for i := range n {
			if s.Has(fmt.Appendf(nil, "order-%06d", i)) {
				taken++
			}
		}
		if want := float64(n) * float64(s.Take) / float64(s.Of); float64(taken) < 0.85*want || float64(taken) > 1.15*want {
			t.Errorf("%v takes %d of %d, want about %.0f", s, taken, n, want)
		}
	}
	if !(Sample{}).Has([]byte("x")) || (Sample{}).String() != "" {
		t.Error("the zero value leaves something out")
	}
}

// The numbers of the reasons add up to what was not judged, however many there are.
func TestReasonsAddUp(t *testing.T) {
	var c Check
	for i := range 100 {
		c.skip(fmt.Sprint("reason ", i%7))
	}
	sum := int64(0)
	for _, r := range c.Reasons {
		sum += r.Count
	}
	if sum != 100 || c.Skipped != 100 || len(c.Reasons) != maxReasons+1 || c.Reasons[maxReasons].Why != otherReasons {
		t.Errorf("%+v", c)
	}
}

func TestExcerptsShowWhereTwoValuesDiffer(t *testing.T) {
	long := make([]byte, 10_000)
	other := append([]byte(nil), long...)
	other[5000] = 'x'
	a, b := excerpts(long, other)
	if a == b || len(a) > 1000 {
		t.Errorf("%s\n%s", a, b)
	}
	if a, b = excerpts([]byte("a"), nil); a != `"a"` || b != "null" {
		t.Errorf("%s, %s", a, b)
	}
}
