package soak

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

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
