package oncemill

import (
	"testing"

	"github.com/oncemill/oncemill/statestore"
)

// Who came first is served first, and keeps its place when it comes again.
func TestRoomIsAQueue(t *testing.T) {
	var q room
	a, b, other := &worker{index: 1}, &worker{index: 2}, &worker{index: 3}
	want := func(when string, aheadOfA, aheadOfB, aheadOfOther int) {
		t.Helper()
		if x, y, z := q.ahead(a), q.ahead(b), q.ahead(other); x != aheadOfA || y != aheadOfB || z != aheadOfOther {
			t.Errorf("%s: %d, %d and %d are ahead", when, x, y, z)
		}
	}
	q.enter(a)
	want("one waits", 0, 1, 1)
	q.enter(b)
	q.enter(a)
	want("two wait", 0, 1, 2)
	q.leave(a)
	want("the first has left", 1, 0, 1)
	q.enter(a)
	want("it comes again", 1, 0, 2)
}

// A worker with state begins nothing while another one waits for room; one without state takes none of it.
func TestNobodyBeginsBesideOneThatWaits(t *testing.T) {
	app := &App{}
	app.room.enter(&worker{})
	for _, stateful := range []bool{false, true} {
		w := &worker{app: app, tasks: map[statestore.TaskID]*running{}}
		if stateful {
			w.tasks[statestore.TaskID{SubTopology: "s"}] = &running{state: new(statestore.Task)}
		}
		if w.mayBegin() == stateful {
			t.Errorf("stateful %v: it may begin %v", stateful, !stateful)
		}
	}
}
