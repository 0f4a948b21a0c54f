package statestore_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/statestore/memory"
)

// rig is a DB over an engine in memory, with a clock and hooks of its own.
type rig struct {
	t      testing.TB
	db     *statestore.DB
	engine *faultyEngine
	mu     sync.Mutex
	now    time.Time
	timer  chan time.Time
}

func newRig(t testing.TB, change func(*statestore.Config)) *rig {
	r := &rig{t: t, engine: &faultyEngine{Engine: memory.New()}, now: time.Unix(1_700_000_000, 0), timer: make(chan time.Time)}
	cfg := statestore.Config{Engine: r.engine, MemoryBudget: 8 << 20, Now: r.clock,
		After: func(time.Duration) <-chan time.Time { return r.timer }}
	if change != nil {
		change(&cfg)
	}
	db, err := statestore.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.db = db
	t.Cleanup(func() {
		if err := db.Close(context.Background()); err != nil && !errors.Is(err, statestore.ErrClosed) {
			t.Errorf("close: %v", err)
		}
		if used := db.MemoryUsed(); used.Total() != 0 {
			t.Errorf("memory is left: %+v", used)
		}
	})
	return r
}

func (r *rig) clock() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

func (r *rig) pass(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now = r.now.Add(d)
}

func (r *rig) acquire(partition int) *statestore.Task {
	r.t.Helper()
	task, err := r.db.Acquire(taskID(partition), stores)
	if err != nil {
		r.t.Fatal(err)
	}
	return task
}

// commit writes "key=value" and, for a tombstone, "key" as transaction n.
func (r *rig) commit(task *statestore.Task, n uint64, cells ...string) {
	r.t.Helper()
	put(r.t, task.View(counts), cells...)
	r.apply(task, statestore.Position{Checkpoint: statestore.Checkpoint{N: n}})
}

func (r *rig) apply(task *statestore.Task, pos statestore.Position) {
	r.t.Helper()
	if err := task.Reserve(); err != nil {
		r.t.Fatal(err)
	}
	task.Apply(pos)
}

func put(t testing.TB, v *statestore.View, cells ...string) {
	t.Helper()
	for c := range storeCells(cells) {
		var err error
		if c.Tombstone {
			err = v.Delete(c.Key)
		} else {
			err = v.Put(c.Key, c.Value)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func storeCells(cells []string) func(func(statestore.Cell) bool) {
	return func(yield func(statestore.Cell) bool) {
		for _, c := range cells {
			k, v, has := strings.Cut(c, "=")
			if !yield(statestore.Cell{Key: []byte(k), Value: []byte(v), Tombstone: !has}) {
				return
			}
		}
	}
}

func contents(t testing.TB, v *statestore.View, from, to []byte, reverse bool) string {
	t.Helper()
	var out []string
	it := v.Iterate(from, to, reverse)
	defer it.Close()
	for it.Next() {
		out = append(out, string(it.Key())+"="+string(it.Value()))
	}
	if it.Err() != nil {
		t.Fatal(it.Err())
	}
	return strings.Join(out, " ")
}

func wantContents(t testing.TB, task *statestore.Task, want string) {
	t.Helper()
	if got := contents(t, task.View(counts), nil, nil, false); got != want {
		t.Fatalf("the store has %q, want %q", got, want)
	}
}

// checkpoint writes the task's state and waits for it.
func (r *rig) checkpoint(task *statestore.Task) {
	r.t.Helper()
	ticket := r.db.Checkpoint(task)
	<-ticket.Done()
	if err := ticket.Err(); err != nil {
		r.t.Fatal(err)
	}
	if err := task.Tick(); err != nil {
		r.t.Fatal(err)
	}
}

func wantN(t testing.TB, task *statestore.Task, n uint64) {
	t.Helper()
	pos, ok := task.Position()
	if !ok || pos.N != n {
		t.Fatalf("the position is %d, %v, want %d", pos.N, ok, n)
	}
}
