package main

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// report is what a verifier says of its search.
type report struct {
	States    float64 // stored
	Depth     int     // of the longest behaviour
	Megabytes float64
	Violated  string // the first property that does not hold; empty if none was found
	Complete  bool   // every state was looked at
	Why       string // if not
}

var (
	violation = regexp.MustCompile(`(?m)^pan:\d+: (.+) \(at depth \d+\)`)
	vector    = regexp.MustCompile(`(?m)^State-vector \d+ byte, depth reached (\d+), errors: (\d+)`)
	stored    = regexp.MustCompile(`(?m)^\s*([0-9.e+]+) states, stored`)
	memory    = regexp.MustCompile(`(?m)^\s*([0-9.]+)\s+total actual memory usage`)
)

// gaps are what a verifier says if it did not look at every state.
var gaps = []string{"max search depth too small", "reached -DMEMLIM bound", "out of memory", "memory exhausted", "Search not completed", "aborting", "interrupted"}

// parseReport reads the output of a verifier. An error says that it is no report.
func parseReport(out string) (r report, err error) {
	m := vector.FindStringSubmatch(out)
	states := stored.FindStringSubmatch(out)
	used := memory.FindStringSubmatch(out)
	if m == nil || states == nil || used == nil {
		return r, fmt.Errorf("not a report of a verifier: %.500s", out)
	}
	if r.Depth, err = strconv.Atoi(m[1]); err != nil {
		return r, err
	}
	if r.States, err = strconv.ParseFloat(states[1], 64); err != nil {
		return r, err
	}
	if r.Megabytes, err = strconv.ParseFloat(used[1], 64); err != nil {
		return r, err
	}
	if v := violation.FindStringSubmatch(out); v != nil {
		r.Violated = strings.TrimPrefix(v[1], "assertion violated ")
	} else if m[2] != "0" {
		r.Violated = m[2] + " errors without a name"
	}
	for _, gap := range gaps {
		if strings.Contains(out, gap) && r.Why == "" {
			r.Why = gap
		}
	}
	if r.Why == "" && !strings.Contains(out, "Full statespace search for:") {
		r.Why = "the search was no full one"
	}
	r.Complete = r.Why == "" && r.Violated == ""
	return r, nil
}
