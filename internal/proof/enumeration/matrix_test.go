package enumeration_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/internal/step"
	"github.com/oncemill/oncemill/streamtest"
)

// What becomes of an application that a broker refuses.
const (
	goesOn      = "commit"
	abortsFirst = "abort + rewind"
	rebuilds    = "fenced + rebuild"
	stops       = "clean stop with a code"
	stands      = "stands still, says so, and goes on when healed"
)

// standsFor is how long a fault lasts that is there always: longer than an application waits until it says so.
const standsFor = 90 * time.Second

// thinks is how long a broker takes for an answer that it gives again and again: clients do not all wait before they ask again.
const thinks = 50 * time.Millisecond

// refusal is a cell of the matrix: an API answers with an error, so often, from a phase of the story on.
type refusal struct {
	story *story
	api   string
	code  coded
	times int // -1 is always
	phase string
}

func (c refusal) String() string {
	return fmt.Sprintf("%s/%s/%s/%s/%d", c.story.name, c.phase, c.api, c.code.err.Message, c.times)
}

// heard keeps what an application says at the level of warnings and above.
type heard struct {
	slog.Handler
	mu   *sync.Mutex
	said *[]string
}

// Handle implements slog.Handler.
func (h heard) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn || strings.HasPrefix(r.Message, "waiting for the group") {
		h.mu.Lock()
		*h.said = append(*h.said, r.Message)
		h.mu.Unlock()
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h heard) WithAttrs(attrs []slog.Attr) slog.Handler {
	return heard{h.Handler.WithAttrs(attrs), h.mu, h.said}
}

// topLevel are errors of a request as a whole, where others are of its partitions.
var topLevel = map[*kerr.Error]bool{kerr.FetchSessionIDNotFound: true, kerr.InvalidFetchSessionEpoch: true}

// try runs a cell, holds the outcome against its rule, and returns it.
func (c refusal) try(t *testing.T, want *ending, allowed verdict) (outcome string) {
	key, _ := keyOf(c.api)
	var mu sync.Mutex
	var said []string
	s := *c.story
	s.configure = func(process string, cfg *oncemill.Config) {
		if c.story.configure != nil {
			c.story.configure(process, cfg)
		}
		cfg.Logger = slog.New(heard{cfg.Logger.Handler(), &mu, &said})
	}
	var loss *streamtest.LossHandle
	var healed time.Time
	var warned int
	play := tryOut{story: &s}
	s.script = func(r *run) {
		r.onPhase = func(phase string) {
			if phase != c.phase {
				return
			}
			l := streamtest.Loss{Key: key, Times: c.times, Refuse: c.code.err, TopLevel: topLevel[c.code.err]}
			if c.times < 0 {
				l.Delay = thinks
			}
			loss = r.c.Lose(l)
			heal := sync.OnceFunc(func() {
				loss.Remove()
				healed = time.Now()
				r.mu.Lock()
				r.mu.healed = healed
				r.mu.Unlock()
				mu.Lock()
				warned = len(said)
				mu.Unlock()
			})
			r.heal, r.endings = heal, endings{allowed.codes, c.mostEnds()}
			if c.times < 0 {
				time.AfterFunc(standsFor, heal)
			}
		}
		c.story.script(r)
	}
	play.play(t, func(r *run) {
		if loss == nil || loss.Hits() == 0 {
			t.Fatal("no request was struck")
		}
		got, err := endingOf(r)
		switch {
		case err != nil:
		case got.outputs != want.outputs:
			err = fmt.Errorf("outputs\n%s\nwithout the fault\n%s", got.outputs, want.outputs)
		case got.state != want.state:
			err = fmt.Errorf("state\n%s\nwithout the fault\n%s", got.state, want.state)
		}
		if err = errors.Join(err, r.app.judge(r.c), r.positions()); err != nil {
			t.Fatal(err)
		}
		r.c.CheckState()
		steps := func(at step.Step) (n int) {
			for _, p := range r.c.Processes() {
				n += p.Steps(string(at))
			}
			return n
		}
		switch {
		case len(r.outcome) > 0:
			outcome = stops
		case steps(step.Resolve) > 0, steps(step.Start) > want.count(step.Start):
			outcome = rebuilds
		case steps(step.Aborting) > 0:
			outcome = abortsFirst
		default:
			outcome = goesOn
		}
		if c.times < 0 && !healed.IsZero() && outcome != stops && r.stoodStill(healed) {
			outcome = stands
			if warned == 0 && !c.ofClient() {
				t.Errorf("it stood still for %v and said nothing", standsFor)
			}
		}
		if err := allowed.judge(outcome, r.outcome); err != nil {
			t.Errorf("%s, %d times: %v", c.code.class, c.times, err)
		}
	})
	return outcome
}

// ofClient reports that the client itself asks, for an input that it reads: it does not tell of what it tries again; the lag does. It lists
// offsets, after the start, of a topic that it has no metadata of yet.
func (c refusal) ofClient() bool {
	return c.api == "Fetch" || c.api == "ListOffsets" && c.phase != "start"
}

// mostEnds is how often processes may end: as often as they are refused. What is refused always is healed with the first end, when another
// answer may be under way.
func (c refusal) mostEnds() int {
	if c.times < 0 {
		return 2
	}
	return c.times
}

// count is how often a story takes a step.
func (e *ending) count(at step.Step) (n int) {
	for _, m := range e.moments {
		if m.step == at {
			n++
		}
	}
	return n
}

// TestErrorCodes: each API x each of its errors x {once, three times, always}.
func TestErrorCodes(t *testing.T) {
	began := time.Now()
	used := map[string]bool{}
	var cells []refusal
	for _, name := range []string{"sales", "old", "removal"} {
		s := storyNamed(name)
		calmly(t, s)
		for api, phases := range apisOf(t, s) {
			if used[api] {
				continue
			}
			used[api] = true
			if len(codes()[api]) == 0 {
				t.Errorf("%s is asked, and no error is listed for it", api)
			}
			for _, phase := range phases {
				for _, code := range codes()[api] {
					for _, times := range []int{1, 3, -1} {
						cells = append(cells, refusal{s, api, code, times, phase})
					}
				}
			}
		}
	}
	for api := range codes() {
		if !used[api] {
			t.Errorf("errors are listed for %s, which is never asked", api)
		}
	}
	slices.SortFunc(cells, func(a, b refusal) int { return strings.Compare(a.String(), b.String()) })
	complete := len(cells)
	cells = ofShard(t, cells)
	var mu sync.Mutex
	ran, outcomes, rulesUsed := 0, map[string]int{}, map[*rule]bool{}
	t.Run("of", func(t *testing.T) {
		for _, c := range cells {
			t.Run(c.String(), func(t *testing.T) {
				t.Parallel()
				want, counts := calmly(t, c.story), ruleOf(c.api, c.phase, c.code, c.times)
				outcome := c.try(t, want, counts.verdict)
				mu.Lock()
				defer mu.Unlock()
				outcomes[outcome]++
				rulesUsed[counts] = true
				ran++
			})
		}
	})
	for i := range rules {
		if r := &rules[i]; ran == complete && !rulesUsed[r] {
			t.Errorf("no cell needs the rule %v %s %s %v %v: %s", r.apis, r.phase, r.class, r.errs, r.times, r.why)
		}
	}
	fmt.Printf("proof: error codes: %d cells of %d APIs in %v: %v\n", len(cells), len(used), time.Since(began).Round(time.Second), outcomes)
}

// apisOf are the APIs that the processes of a story ask, with the phases in which a fault of them begins: the start, and the first
// one after it in which they are asked.
func apisOf(t *testing.T, s *story) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	watched := *s
	watched.script = func(r *run) {
		phase, before := "", map[kmsg.Key]int{}
		note := func() {
			now := r.c.Requests()
			for key, n := range now {
				if seen := out[key.Name()]; n > before[key] && (len(seen) == 0 || seen[0] == "start" && len(seen) == 1 && phase != "start") {
					out[key.Name()] = append(seen, phase)
				}
			}
			before = now
		}
		r.onPhase = func(next string) {
			note()
			phase = next
		}
		s.script(r)
		note()
	}
	tryOut{story: &watched}.play(t, func(*run) {})
	for api := range out {
		slices.Sort(out[api])
	}
	return maps.Clone(out)
}
