package oncemill

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"testing"

	"github.com/oncemill/oncemill/internal/graph"
	"github.com/oncemill/oncemill/statestore"
)

// A term ends when the id changes, or when a generation passed that the member took no part in.
func TestTermOfAMembership(t *testing.T) {
	type move struct {
		join       int32 // out of this generation; -2 for none
		id         string
		generation int32
	}
	first := []move{{-1, "m", 3}}
	for name, c := range map[string]struct {
		moves []move
		same  bool
	}{
		"the next generation":                      {[]move{{3, "m", 4}}, true},
		"two callbacks of one session":             {[]move{{-2, "m", 3}}, true},
		"a rebalance that came to no assignment":   {[]move{{3, "", 0}, {4, "m", 5}}, true},
		"a JoinGroup sent again":                   {[]move{{3, "", 0}, {3, "m", 4}}, true},
		"another id":                               {[]move{{3, "n", 4}}, false},
		"another id in the same generation":        {[]move{{3, "n", 3}}, false},
		"a generation without this member":         {[]move{{3, "m", 5}}, false},
		"one before a rebalance without an answer": {[]move{{3, "", 0}, {5, "m", 6}}, false},
		"a group that counts from one again":       {[]move{{3, "m", 1}}, false},
	} {
		var at tenure
		var term int
		for _, m := range append(first, c.moves...) {
			if m.join != -2 {
				at.join(m.join)
			}
			if m.id == "" {
				continue
			}
			as := at.session(m.id, m.generation)
			if as.id != m.id || as.generation != m.generation {
				t.Fatalf("%s: %+v of %+v", name, as, m)
			}
			if term == 0 {
				term = as.term
			} else if (as.term == term) != c.same {
				t.Errorf("%s: term %d after %d", name, as.term, term)
			}
		}
	}
}

// What is claimed was assigned in the last session, whatever the client has joined since.
func TestPartitionsAreClaimedWithTheGenerationOfTheirSession(t *testing.T) {
	var at tenure
	if got := at.join(-1); got != -1 {
		t.Errorf("the first claim has generation %d", got)
	}
	at.session("m", 3)
	for _, from := range []int32{3, 4} {
		if got := at.join(from); got != 3 {
			t.Errorf("a claim out of generation %d has generation %d, want 3", from, got)
		}
	}
}

// A static member keeps its id when it misses a rebalance, so the id alone does not tell that its tasks were another's.
func TestTasksAreRestoredAnewWhenTheTermChanges(t *testing.T) {
	plan := &graph.Plan{App: "x", Subs: []*graph.SubTopology{{Name: "in"}}}
	w := &worker{app: &App{plan: plan, cfg: &Config{}}, log: slog.New(slog.NewTextHandler(io.Discard, nil)), ctx: context.Background()}
	w.app.mu.tasks = map[statestore.TaskID]TaskStatus{}
	w.restore = newRestorer(w)
	w.restore.limit = make(chan struct{}) // no restore gets further than waiting for its turn
	defer w.restore.close()
	id := statestore.TaskID{SubTopology: "in"}
	for _, c := range []struct {
		as   membership
		anew bool
		what string
	}{
		{membership{"m", 3, 1}, false, "the first membership"},
		{membership{"m", 4, 1}, false, "the next generation"},
		{membership{"m", 6, 2}, true, "a new term"},
	} {
		if err := w.adopt(c.as); err != nil {
			t.Fatal(err)
		}
		w.restore.mu.Lock()
		began := w.restore.mu.jobs[id] != nil
		w.restore.mu.Unlock()
		if began != c.anew || w.as != c.as {
			t.Errorf("%s: restore begun %v, membership %+v", c.what, began, w.as)
		}
		w.assigned = []statestore.TaskID{id}
	}
}

// A static member that missed a rebalance keeps its id: only the term says that what waits is not the membership of the tasks.
func TestFenceRefusesAnotherTermOfTheSameID(t *testing.T) {
	held := membership{"m", 3, 1}
	for name, c := range map[string]struct {
		waiting groupEvent
		ok      bool
	}{
		"the next generation":       {groupEvent{kind: groupRevoked, as: membership{"m", 4, 1}}, true},
		"another term":              {groupEvent{kind: groupAssigned, as: membership{"m", 5, 2}}, false},
		"lost, under the same term": {groupEvent{kind: groupLost, as: membership{"m", 3, 1}}, false},
	} {
		w := &worker{as: held}
		w.mail.mu.events = []groupEvent{c.waiting}
		as, err := w.fence()
		if (err == nil) != c.ok || err == nil && as != c.waiting.as || err != nil && !errors.Is(err, errGivenUp) {
			t.Errorf("%s: %+v, %v", name, as, err)
		}
	}
}
