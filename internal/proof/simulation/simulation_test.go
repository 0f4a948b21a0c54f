package simulation

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oncemill/oncemill/internal/invariants"
)

// noFaults stands for the faults of the seed's own plan.
const noFaults = "of the seed"

var (
	seedFlag   = flag.Uint64("seed", 1, "the first seed, or the only one with -repeat or -faults")
	seedsFlag  = flag.Int("seeds", 0, "how many seeds; 0: 300, 20 with -short, or 6 with the race detector")
	repeatFlag = flag.Int("repeat", 0, "run the seed that many times and tell how often it fails")
	faultsFlag = flag.String("faults", noFaults, "faults instead of those of the seed, as a failure prints them")
	longFlag   = flag.Bool("long", false, "run seeds for the time of -for, instead of a number of them")
	forFlag    = flag.Duration("for", 30*time.Minute, "how long -long runs")
	childFlag  = flag.Bool("child", false, "run as a child of this test")
)

// Seeds of the default run, in which each fault must strike and each situation be met, of a short one, and of one under the race detector,
// where each takes ten times as long.
const (
	defaultSeeds = 300
	shortSeeds   = 20
	raceSeeds    = 6
)

// TestSimulation runs the plans of many seeds. See the package comment, and docs/testing.md for its flags.
func TestSimulation(t *testing.T) {
	switch {
	case *childFlag:
		runChild(t)
	case *repeatFlag > 0 || *faultsFlag != noFaults:
		failed, last := repeat(t, *seedFlag, max(*repeatFlag, 1), *faultsFlag)
		fmt.Printf("proof: simulation: seed %d failed %d of %d times\n", *seedFlag, failed, max(*repeatFlag, 1))
		if last != nil {
			t.Errorf("seed %d failed %d of %d times; the last time:\n%s", *seedFlag, failed, max(*repeatFlag, 1), strings.Join(last.output, "\n"))
		}
	default:
		t.Parallel()
		runSeeds(t)
	}
}

// runSeeds runs seeds, and adds up what they met.
func runSeeds(t *testing.T) {
	seeds, began := *seedsFlag, time.Now()
	if seeds == 0 {
		switch {
		case invariants.Enabled:
			seeds = raceSeeds
		case testing.Short():
			seeds = shortSeeds
		default:
			seeds = defaultSeeds
		}
	}
	next, left := *seedFlag, seeds
	sum := newSum()
	errs := eachSeed(t, func() (uint64, int) {
		n := min(chunk, left)
		if *longFlag {
			if n = 0; time.Since(began) < *forFlag {
				n = chunk
			}
		}
		left -= n
		next += uint64(n)
		return next - uint64(n), n
	}, sum.add)
	for _, err := range errs {
		t.Errorf("a child failed although each of its runs was right: %v", err)
	}
	sum.print(time.Since(began))
	if sum.seeds >= defaultSeeds {
		sum.demand(t)
	}
	if most := 1 + sum.seeds/50; sum.again > most {
		t.Errorf("%d runs were done again because the clock stood; at most %d may", sum.again, most)
	}
	for i, a := range sum.failures {
		explain(t, a, i == 0)
	}
}

// fixedSeeds are few, as those of mutants have to be, and meet every kind of mistake of mutants/simulation.go.
const fixedSeeds = 12

// TestSimulationOfFixedSeeds runs a few seeds one after the other until one fails, and does not look for the reason.
func TestSimulationOfFixedSeeds(t *testing.T) {
	seeds := uint64(fixedSeeds)
	if invariants.Enabled {
		seeds = 2
	}
	again, ran := 0, 0
	for seed := uint64(1); seed <= seeds && !t.Failed(); {
		before := ran
		err := inChild(t, seed, int(seeds+1-seed), 1, noFaults, func(a *attempt) bool {
			ran++
			if again < mostAgain && a.stood() {
				again++
				seed = a.Seed
				return true
			}
			if seed = a.Seed + 1; a.Failed {
				t.Errorf("seed %d failed; %s\n%s", a.Seed, command(a.Seed, explained, noFaults), strings.Join(bounded(t, a), "\n"))
			}
			return !a.Failed
		})
		if err != nil || ran == before {
			t.Fatalf("a child has run %d seeds: %v", ran-before, err)
		}
	}
}

// sum adds up what runs met.
type sum struct {
	seeds, faults int
	again         int // runs that say nothing
	struck        map[Kind]int
	met           map[Situation]int // runs
	ended         map[string]int
	failures      []*attempt
}

func newSum() *sum {
	return &sum{struck: map[Kind]int{}, met: map[Situation]int{}, ended: map[string]int{}}
}

func (s *sum) add(a *attempt) {
	if a.Again {
		s.again++
		return
	}
	s.seeds++
	if a.Failed {
		s.failures = append(s.failures, a)
		fmt.Printf("simulation: seed %d failed\n", a.Seed) // at once: whoever waits for the end of a long run can begin
	}
	if a.Result == nil {
		return
	}
	for kind, n := range a.Result.Struck {
		s.struck[kind] += n
		s.faults += n
	}
	for situation, n := range a.Result.Met {
		if n > 0 {
			s.met[situation]++
		}
	}
	for code, n := range a.Result.Ended {
		s.ended[code] += n
	}
}

// print tells what was run and met, in lines that are collected from all tests.
func (s *sum) print(took time.Duration) {
	fmt.Printf("proof: simulation: %d seeds, %d failed, %d done again because the clock stood, %d faults struck, %v\n", s.seeds, len(s.failures), s.again, s.faults, took.Round(time.Second))
	var words []string
	for _, kind := range Kinds() {
		words = append(words, fmt.Sprintf("%s %d", kind, s.struck[kind]))
	}
	fmt.Printf("proof: simulation: faults: %s\n", strings.Join(words, ", "))
	words = nil
	for _, situation := range Situations() {
		words = append(words, fmt.Sprintf("%s %d", situation, s.met[situation]))
	}
	fmt.Printf("proof: simulation: runs with: %s\n", strings.Join(words, ", "))
}

// demand fails the test if some fault never struck, or some situation was never met.
func (s *sum) demand(t *testing.T) {
	for _, kind := range Kinds() {
		if s.struck[kind] == 0 {
			t.Errorf("the fault %q never struck in %d seeds", kind, s.seeds)
		}
	}
	for _, situation := range Situations() {
		if s.met[situation] == 0 {
			t.Errorf("%q was never met in %d seeds", situation, s.seeds)
		}
	}
}

const (
	explained    = 10 // how often a failing seed is repeated
	shrinkBudget = time.Minute
	shownLines   = 120
)

// explain reports a failing seed: what it said, how often it fails, and the shortest list of faults with which it fails still.
func explain(t *testing.T, a *attempt, shrinks bool) {
	plan := Draw(a.Seed)
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d failed: %s\nfaults: %s\n", a.Seed, plan.Settings.String(), Text(plan.Faults))
	fmt.Fprintf(&b, "%s\n", strings.Join(bounded(t, a), "\n"))
	fmt.Fprintf(&b, "repeat it and count the failures:\n  %s\n", command(a.Seed, explained, noFaults))
	if shrinks {
		failed, _ := repeat(t, a.Seed, explained, noFaults)
		fmt.Fprintf(&b, "repeated: it failed %d of %d times\n", failed, explained)
		if failed > 1 {
			tries := 3 * explained / failed
			short := Shrink(plan.Faults, func(faults []Fault) bool {
				again, _ := repeatUntil(t, a.Seed, tries, Text(faults))
				return again
			}, time.Now().Add(shrinkBudget))
			fmt.Fprintf(&b, "with these %d faults it fails still:\n  %s\n", len(short), command(a.Seed, explained, Text(short)))
		}
	}
	t.Error(b.String())
}

// bounded is what a failing run said: what is wrong, the faults and the last events; all of it lies in a file.
func bounded(t *testing.T, a *attempt) []string {
	path := filepath.Join(os.TempDir(), fmt.Sprintf("simulation-seed-%d.txt", a.Seed))
	if err := os.WriteFile(path, []byte(strings.Join(a.output, "\n")), 0o600); err != nil {
		t.Logf("the full output is lost: %v", err)
	}
	lines := a.output
	if n := len(lines); n > 2*shownLines {
		lines = slices.Concat(lines[:shownLines], []string{fmt.Sprintf("... %d lines, all in %s ...", n-2*shownLines, path)}, lines[n-shownLines:])
	}
	return lines
}

// command repeats a seed.
func command(seed uint64, times int, faults string) string {
	c := fmt.Sprintf("go test ./internal/proof/simulation -run 'TestSimulation$' -count=1 -seed %d -repeat %d", seed, times)
	if faults != noFaults {
		c += fmt.Sprintf(" -faults '%s'", faults)
	}
	return c
}

// repeat runs a seed some times, and returns how often it failed.
func repeat(t *testing.T, seed uint64, times int, faults string) (failed int, last *attempt) {
	for ran := 0; ran < times; {
		err := inChild(t, seed, 1, times-ran, faults, func(a *attempt) bool {
			if ran++; a.Failed {
				failed, last = failed+1, a
			}
			return true
		})
		if err != nil {
			t.Fatalf("a child failed although each of its runs was right: %v", err)
		}
	}
	return failed, last
}

// repeatUntil runs a seed until it fails, some times at most.
func repeatUntil(t *testing.T, seed uint64, times int, faults string) (failed bool, last *attempt) {
	err := inChild(t, seed, 1, times, faults, func(a *attempt) bool {
		failed, last = a.Failed, a
		return !a.Failed
	})
	if err != nil {
		t.Fatalf("a child failed although each of its runs was right: %v", err)
	}
	return failed, last
}
