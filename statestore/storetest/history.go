package storetest

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/oncemill/oncemill/statestore"
)

const (
	historySeeds = 25
	historySteps = 60
	historyKeys  = 40
)

// history is one random run of an engine beside a map.
type history struct {
	t       *testing.T
	rng     *rand.Rand
	seed    uint64
	world   World
	engine  statestore.Engine
	model   map[string]string
	counter int
	crashes int
}

// testHistory compares an engine with a map through random ingests, excises, restarts and crashes. What was acknowledged is
// there after a crash, whole.
func testHistory(t *testing.T, newWorld func(t testing.TB) World) {
	crashes := 0
	for seed := range uint64(historySeeds) {
		h := &history{t: t, rng: rand.New(rand.NewPCG(seed, 3)), seed: seed, world: newWorld(t), model: map[string]string{}}
		h.engine = h.world.Open(t)
		for range historySteps {
			h.step()
		}
		h.compare()
		closeAll(t, h.engine)
		crashes += h.crashes
	}
	if crashes == 0 {
		t.Fatal("no run crashed")
	}
}

func (h *history) step() {
	switch x := h.rng.IntN(20); {
	case x < 12:
		h.ingest()
	case x < 14:
		h.excise()
	case x < 15:
		closeAll(h.t, h.engine)
		h.engine = h.world.Open(h.t)
	case x < 16:
		h.world.Crash(h.t, []int{0, 10, 50, 100}[h.rng.IntN(4)], h.seed)
		h.crashes++
		h.engine = h.world.Open(h.t)
		h.compare()
	default:
		h.compare()
	}
}

// ingest makes one run for each of some tasks "a" to "d".
func (h *history) ingest() {
	var runs []statestore.Run
	for _, task := range []string{"a", "b", "c", "d"} {
		if h.rng.IntN(2) == 0 {
			runs = append(runs, h.run(task))
		}
	}
	ingest(h.t, h.engine, runs...)
}

func (h *history) run(task string) statestore.Run {
	r := statestore.Run{Span: span(task, string(task[0]+1))}
	if h.rng.IntN(4) == 0 {
		from := h.rng.IntN(historyKeys)
		d := span(h.key(task, from), h.key(task, from+h.rng.IntN(10)+1))
		r.Deletes = []statestore.Span{d}
		maps.DeleteFunc(h.model, func(k, _ string) bool { return k >= string(d.Lower) && k < string(d.Upper) })
	}
	cells := map[string]string{}
	for range h.rng.IntN(8) {
		k := h.key(task, h.rng.IntN(historyKeys))
		if h.rng.IntN(3) == 0 {
			cells[k] = k
			delete(h.model, k)
			continue
		}
		h.counter++
		v := fmt.Sprint(h.counter)
		cells[k] = k + "=" + v
		h.model[k] = v
	}
	var list []string
	for _, k := range slices.Sorted(maps.Keys(cells)) {
		list = append(list, cells[k])
	}
	r.Cells = Cells(list...)
	return r
}

func (h *history) key(task string, i int) string { return fmt.Sprintf("%s%02d", task, i) }

func (h *history) excise() {
	task := string(rune('a' + h.rng.IntN(4)))
	next := string(task[0] + 1)
	if err := h.engine.Excise(context.Background(), []byte(task), []byte(next)); err != nil {
		h.t.Fatalf("seed %d: %v", h.seed, err)
	}
	maps.DeleteFunc(h.model, func(k, _ string) bool { return strings.HasPrefix(k, task) })
}

func (h *history) compare() {
	h.t.Helper()
	var list []string
	for _, k := range slices.Sorted(maps.Keys(h.model)) {
		list = append(list, k+"="+h.model[k])
	}
	r := reader(h.t, h.engine, "a", "e")
	defer closeAll(h.t, r)
	if got, want := dump(h.t, r, "a", "e"), strings.Join(list, " "); got != want {
		h.t.Fatalf("seed %d: the engine has\n%s\nwant\n%s", h.seed, got, want)
	}
}
