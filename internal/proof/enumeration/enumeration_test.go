package enumeration_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oncemill/oncemill/internal/leaktest"
	"github.com/oncemill/oncemill/internal/step"
)

var (
	oneCase = flag.String("case", "", "run this case alone, as a failure prints it")
	long    = flag.Bool("long", false, "run all pairs instead of a sample")
	budget  = flag.Duration("for", time.Hour, "with -long: begin no case after this time")
	shard   = flag.String("shard", defaultShard, "i/n runs every n-th case from the i-th on")
	sample  = flag.Int("sample", 400, "how many of the pairs that are not run completely are drawn")
	seed    = flag.Uint64("seed", 7, "what draws them")
)

func TestMain(m *testing.M) {
	debug.SetGCPercent(1600) // thousands of small clusters, little of which lives on
	leaktest.Main(m)
}

// calm are the stories without a fault, each told once.
var calm = struct {
	sync.Mutex
	endings map[string]*ending
}{endings: map[string]*ending{}}

// calmly tells a story without a fault.
func calmly(t *testing.T, s *story) *ending {
	t.Helper()
	calm.Lock()
	defer calm.Unlock()
	if calm.endings[s.name] == nil {
		e := tell(t, s)
		calm.endings[s.name] = &e
	}
	return calm.endings[s.name]
}

// try runs a case.
func (c tryOut) try(t *testing.T) {
	want := calmly(t, c.story)
	c.play(t, func(r *run) {
		if err := c.hold(r, want); err != nil {
			t.Fatal(err)
		}
	})
}

// tryAll runs cases in parallel, until the time is over. It returns how many ran.
func tryAll(t *testing.T, name string, cases []tryOut, until time.Time) int {
	var ran atomic.Int64
	t.Run(name, func(t *testing.T) {
		for _, c := range cases {
			t.Run(strings.NewReplacer(" ", "_", "%", "").Replace(c.String()), func(t *testing.T) {
				t.Parallel()
				if time.Now().After(until) {
					return
				}
				ran.Add(1)
				c.try(t)
			})
		}
	})
	return int(ran.Load())
}

// ofShard is the part of what there is that the flag -shard names.
func ofShard[T any](t *testing.T, all []T) (out []T) {
	t.Helper()
	var i, n int
	if _, err := fmt.Sscanf(*shard, "%d/%d", &i, &n); err != nil || n < 1 || i < 0 || i >= n {
		t.Fatalf("-shard %q is not i/n", *shard)
	}
	for k := i; k < len(all); k += n {
		out = append(out, all[k])
	}
	return out
}

// Every story without a fault has the same moments each time, if not in the same order where goroutines go side by side, and a crash at
// each of them would lose something each time or never: what is enumerated does not depend on the scheduler.
func TestStoriesAreToldAlike(t *testing.T) {
	for _, s := range stories() {
		want := calmly(t, s)
		for range 3 {
			again := tell(t, s)
			had := map[moment]bool{}
			for _, m := range want.at(s) {
				had[m] = true
			}
			for _, m := range again.at(s) {
				if !had[m] {
					t.Errorf("%s: the moment %s was not there the first time", s.name, m)
				}
				if again.unsynced[m] != want.unsynced[m] {
					t.Errorf("%s: something is unsynced at %s once, and once nothing", s.name, m)
				}
				delete(had, m)
			}
			for m := range had {
				t.Errorf("%s: the moment %s was not there again", s.name, m)
			}
		}
	}
}

// never is the end of what has no bound.
var never = time.Now().Add(24 * time.Hour)

// TestSingles: every fault at every moment of every story, complete.
func TestSingles(t *testing.T) {
	left, reached := leftOut{}, map[step.Step]bool{}
	var all []tryOut
	for _, s := range stories() {
		e := calmly(t, s)
		for _, m := range e.at(s) {
			place, _ := step.Of(m.step)
			reached[place.Step] = true
		}
		all = append(all, singles(s, e, left)...)
	}
	began := time.Now()
	ran := tryAll(t, "of", ofShard(t, all), never)
	for _, s := range step.All() {
		if !reached[s] {
			t.Errorf("no story takes the step %s", s)
		}
	}
	fmt.Printf("proof: enumeration: %d of %d singles in %v, %d of %d steps, in %d stories; left out %s\n",
		ran, len(all), time.Since(began).Round(time.Second), len(reached), len(step.All()), len(stories()), left)
}

// TestPairs: crash and unknown outcome complete, all others drawn by seed, or complete with -long.
func TestPairs(t *testing.T) {
	began := time.Now()
	until := never
	if *long {
		until = began.Add(*budget)
	}
	var complete, others []tryOut
	for _, s := range []*story{storyNamed("alone"), storyNamed("sales")} {
		e := calmly(t, s)
		if s.name == "alone" {
			complete = append(complete, crashPairs(s, e, func(first fault) (follow *ending) {
				tryOut{story: s, faults: []fault{first}, look: true}.play(t, func(r *run) {
					e, err := endingOf(r)
					if err != nil {
						t.Fatal(err)
					}
					follow = &e
				})
				return follow
			})...)
		}
		others = append(others, otherPairs(s, e)...)
	}
	drawn := others
	if !*long {
		drawn = slices.Clone(others)
		rand.New(rand.NewPCG(*seed, 0)).Shuffle(len(drawn), func(i, j int) { drawn[i], drawn[j] = drawn[j], drawn[i] })
		drawn = drawn[:min(*sample, len(drawn))]
	}
	n := tryAll(t, "complete", ofShard(t, complete), until)
	m := tryAll(t, "drawn", ofShard(t, drawn), until)
	fmt.Printf("proof: enumeration: %d of %d pairs of crash and unknown outcome, %d of %d other pairs, seed %d, in %v\n",
		n, len(complete), m, len(others), *seed, time.Since(began).Round(time.Second))
}

// TestCase runs the case of the flag -case.
func TestCase(t *testing.T) {
	if *oneCase == "" {
		return
	}
	c, err := parseCase(*oneCase)
	if err != nil {
		t.Fatal(err)
	}
	c.try(t)
}

// Every case reads as it was written, so that a failure can be repeated.
func TestCasesAreWrittenAndRead(t *testing.T) {
	s := stories()[0]
	e := calmly(t, s)
	for _, c := range slices.Concat(singles(s, e, leftOut{}), otherPairs(s, e)[:2000]) {
		if got, err := parseCase(c.String()); err != nil || got.String() != c.String() {
			t.Fatalf("%q is read as %q, %v", c, got, err)
		}
	}
	for _, wrong := range []string{"nobody", "alone; work/a/flush/1", "alone; work/a/flush/x crash 0% same", "alone; work/a/nap/1 crash 0% same", "alone; work/a/flush/1 lost Nothing"} {
		if c, err := parseCase(wrong); err == nil {
			t.Errorf("%q is read as %q", wrong, c)
		}
	}
}
