package simulation

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/oncemill/oncemill/internal/invariants"
)

// variants change how the same messages are processed, and nothing of what must come out.
var variants = []struct {
	name   string
	change func(p *Plan)
}{
	{"the faults of the seed", func(p *Plan) { p.Faults = Draw(p.Seed).Faults }},
	{"the faults of another seed", func(p *Plan) {
		p.Faults = Draw(p.Seed + 1000).Faults
		for i := range p.Faults { // it may have more processes
			if f := &p.Faults[i]; f.Process != "" {
				f.Process = processName(int(f.Process[0]-'a') % p.Settings.Processes)
			}
		}
	}},
	{"transactions of one record", func(p *Plan) { p.Settings.CommitRecords = 1 }},
	{"large transactions, seldom checkpoints", func(p *Plan) {
		p.Settings.CommitRecords, p.Settings.CommitInterval = 100_000, time.Second
		p.Settings.CheckpointInterval, p.Settings.CheckpointRecords = time.Minute, 1_000_000
	}},
	{"checkpoints all the time", func(p *Plan) { p.Settings.CheckpointInterval, p.Settings.CheckpointRecords = 200*time.Millisecond, 5 }},
	{"stores in memory", func(p *Plan) { p.Settings.Memory = true }},
	{"one process with one worker", func(p *Plan) {
		p.Settings.Processes, p.Settings.Started, p.Settings.Workers[0] = 1, 1, 1
	}},
	{"twice the workers", func(p *Plan) {
		for i := range p.Settings.Workers {
			p.Settings.Workers[i] *= 2
		}
	}},
}

// metamorphic is the plan of a seed for comparison, without faults. No marker expires, because whether a replay meets one depends on when
// it comes.
func metamorphic(seed uint64) *Plan {
	plan := Draw(seed)
	plan.Settings.Window, plan.Settings.Ballast = time.Hour, 0
	plan.Settings.Started, plan.Faults = plan.Settings.Processes, nil
	return plan
}

// TestMetamorphic runs the same messages under faults, and under other batch sizes, engines, intervals and numbers of workers. What is
// committed for each key is the same, and so is the state.
func TestMetamorphic(t *testing.T) {
	t.Parallel()
	if *childFlag {
		return
	}
	seeds, began := uint64(3), time.Now()
	if invariants.Enabled {
		seeds = 1
	}
	lines := 0
	for seed := *seedFlag; seed < *seedFlag+seeds; seed++ {
		var want *Outcome
		t.Run(fmt.Sprintf("%d as drawn", seed), func(t *testing.T) { want = Run(t, metamorphic(seed)).Outcome })
		for _, v := range variants {
			t.Run(fmt.Sprintf("%d with %s", seed, v.name), func(t *testing.T) {
				plan := metamorphic(seed)
				v.change(plan)
				result := Run(t, plan)
				if len(plan.Faults) > 0 && len(result.Struck) == 0 {
					t.Error("no fault has struck")
				}
				got := result.Outcome
				if different := want.Differences(got); len(different) > 0 {
					t.Errorf("as drawn, and with %s:\n%s", v.name, strings.Join(different, "\n"))
				}
				lines += got.lines()
			})
		}
	}
	fmt.Printf("proof: metamorphic: %d seeds, each in %d other ways, %d lines equal, %v\n", seeds, len(variants), lines, time.Since(began).Round(time.Second))
}

// lines is how much of an outcome there is to compare.
func (o *Outcome) lines() int {
	n := len(o.Letters) + len(o.State)
	for _, m := range []map[string][]string{o.Events, o.Moves, o.Totals} {
		for _, lines := range m {
			n += len(lines)
		}
	}
	return n
}

// Outcomes that differ in anything are told apart.
func TestDifferencesAreSeen(t *testing.T) {
	t.Parallel()
	one := func() *Outcome {
		return &Outcome{Events: map[string][]string{"a": {"1", "2"}}, Moves: map[string][]string{"p by a": {"1: 5"}}, Totals: map[string][]string{"p by a": {"1: 5"}},
			State: map[string]string{"accounts a": "2"}, Letters: []string{"c/0@4 OM202"}}
	}
	if d := one().Differences(one()); len(d) > 0 {
		t.Fatalf("equal outcomes differ: %q", d)
	}
	for name, change := range map[string]func(o *Outcome){
		"order":  func(o *Outcome) { o.Events["a"] = []string{"2", "1"} },
		"lost":   func(o *Outcome) { delete(o.Moves, "p by a") },
		"more":   func(o *Outcome) { o.Totals["p by b"] = []string{"1: 5"} },
		"state":  func(o *Outcome) { o.State["accounts a"] = "3" },
		"ghost":  func(o *Outcome) { o.State["accounts b"] = "1" },
		"letter": func(o *Outcome) { o.Letters = nil },
	} {
		other := one()
		change(other)
		if len(one().Differences(other)) != 1 || len(other.Differences(one())) != 1 {
			t.Errorf("%s is not seen", name)
		}
	}
}
