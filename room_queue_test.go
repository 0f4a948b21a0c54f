package oncemill

import (
	"errors"
	"log/slog"
	"testing"

	"github.com/oncemill/oncemill/internal/embedded"
	"github.com/oncemill/oncemill/internal/step"
	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/topology"
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

// A worker that ends with an error, while it waits for room, is ahead of nobody any more: what the others have open they commit.
func TestAWorkerThatEndsLeavesTheQueueForRoom(t *testing.T) {
	b, err := embedded.Start(embedded.Config{Topics: map[string]int{"in": 1}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}()
	kept := statestore.KeyValue("kept", serde.String(), serde.String())
	topo := topology.New("app")
	in := topology.Source(topo, "in", "in", serde.String(), serde.String())
	topology.Process(topo, "keep", in, func(ctx *processor.Context[string, string], r record.Record[string, string]) error {
		return kept.Put(ctx, r.Key, r.Value)
	}, topology.Uses(kept))
	var app *App
	planted, waited := errors.New("planted"), 0
	app, err = New(Config{Brokers: b.Addrs(), StateDir: t.TempDir(), Topology: topo, Logger: slog.New(slog.DiscardHandler), Workers: 1,
		Steps: func(index int, s step.Step) error {
			if s != step.Poll {
				return nil
			}
			app.workers[index].enterRoom()
			waited = app.room.ahead(&worker{})
			return planted
		}})
	if err != nil {
		t.Fatal(err)
	}
	if err := app.Run(t.Context()); !errors.Is(err, planted) || waited != 1 {
		t.Fatalf("%d workers wait, and the application ends with %v", waited, err)
	}
	if n := app.room.ahead(&worker{}); n != 0 {
		t.Errorf("%d workers wait after the end of the only one", n)
	}
}
