package task

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/oncemill/oncemill/internal/graph"
	"github.com/oncemill/oncemill/statestore"
	engine "github.com/oncemill/oncemill/statestore/memory"
)

// openTimers opens a store of timers, without a task around it.
func openTimers(t testing.TB) (*statestore.Task, *timers) {
	t.Helper()
	db, err := statestore.Open(statestore.Config{Engine: engine.New(), MemoryBudget: 1 << 30, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	d := &statestore.Declaration{Name: "timers", Kind: statestore.KindTimers, Internal: true}
	state, err := db.Acquire(statestore.TaskID{SubTopology: "sub"}, []*statestore.Declaration{d})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		state.Release()
		if err := db.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	task := &Task{state: state, cfg: Config{Sub: &graph.SubTopology{}}}
	task.timers = newTimers(task, state.View(d))
	return state, task.timers
}

// Places are those that a reading from the beginning finds, and counts those of a full count, after any history of timers
// that are set, replaced, cancelled and fired, of marks, rollbacks, commits and aborts.
func TestUpcomingTimersAreThoseOfTheStore(t *testing.T) {
	for seed := range uint64(5) {
		r := rand.New(rand.NewPCG(seed, 7))
		state, ts := openTimers(t)
		ts.task.timers = ts
		var n uint64
		confirm := func() {
			ts.confirm()
			n++
			if err := state.Reserve(); err != nil {
				t.Fatal(err)
			}
			state.Apply(statestore.Position{Checkpoint: statestore.Checkpoint{N: n}})
			ts.task.setMark()
		}
		for range 3000 {
			clock := clocks[r.IntN(2)]
			key := []byte{byte(r.IntN(4)), byte(r.IntN(256)), byte(r.IntN(1 + int(seed)))}
			var err error
			switch op := r.IntN(100); {
			case op < 50:
				err = ts.put(&firing{clock: clock, due: int64(r.IntN(3000)), key: key})
			case op < 60:
				_, err = ts.cancel(0, key, "")
			case op < 85:
				var f *firing
				if f, err = ts.next(clock, int64(r.IntN(3000))); err == nil && f != nil {
					_, err = ts.cancel(f.store, f.key, f.name)
				}
			case op < 92:
				ts.task.setMark()
			case op < 96:
				ts.task.rollback()
				ts.task.setMark()
			case op < 98:
				confirm()
			case op == 98:
				state.Discard()
				ts.abort()
				ts.task.setMark()
			default:
				confirm()
				for _, c := range clocks {
					err = ts.pending[c].scan(ts.view, int64(r.IntN(100)))
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			if r.IntN(8) == 0 {
				checkUpcoming(t, ts)
			}
		}
		confirm()
		for _, c := range clocks {
			if err := ts.pending[c].scan(ts.view, 1<<40); err != nil || !ts.pending[c].whole {
				t.Fatal("not counted to the end", err)
			}
		}
		checkUpcoming(t, ts)
	}
}

func checkUpcoming(t *testing.T, ts *timers) {
	t.Helper()
	for _, c := range clocks {
		var all []dueAt
		below := int64(0)
		err := each(ts.view, []byte{'d', byte(c)}, func(key, _ []byte) error {
			at, err := placeOf(key)
			all = append(all, at)
			if ts.pending[c].whole || string(key) < string(ts.pending[c].upTo) {
				below++
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		u := &ts.upcoming[c]
		end := 0
		for end < len(all) && all[end].compare(u.end) < 0 {
			end++
		}
		if !slices.Equal(u.known, all[:end]) {
			t.Fatalf("known %v, the store has %v below %v", u.known, all[:end], u.end)
		}
		if ts.pending[c].n != below {
			t.Fatalf("counted %d, the store has %d", ts.pending[c].n, below)
		}
	}
}

// Firing n timers takes a number of steps of the store's cursors that grows with n, whatever lies in front of them: each
// leaves a tombstone.
func TestFiringTimersTakesStepsInProportion(t *testing.T) {
	steps := func(n int) uint64 {
		state, ts := openTimers(t)
		for i := range n {
			if err := ts.put(&firing{clock: statestore.WallClock, due: int64(i / 3), key: []byte{byte(i), byte(i >> 8), byte(i >> 16)}}); err != nil {
				t.Fatal(err)
			}
		}
		before := state.IteratorSteps()
		for i := range n {
			ts.task.setMark()
			f, err := ts.next(statestore.WallClock, int64(n))
			if err != nil || f == nil {
				t.Fatalf("timer %d: %v", i, err)
			}
			cancel := func() {
				if _, err := ts.cancel(f.store, f.key, f.name); err != nil {
					t.Fatal(err)
				}
			}
			cancel()
			if i%5 == 0 { // its handler fails once
				ts.task.rollback()
				cancel()
			}
			if i%7 == 0 { // and sets one that is due at once
				if err := ts.put(&firing{clock: statestore.WallClock, due: -1, key: []byte("again")}); err != nil {
					t.Fatal(err)
				}
				if f, err := ts.next(statestore.WallClock, 0); err != nil || string(f.key) != "again" {
					t.Fatal(f, err)
				} else if _, err := ts.cancel(f.store, f.key, f.name); err != nil {
					t.Fatal(err)
				}
			}
		}
		return state.IteratorSteps() - before
	}
	for _, n := range []int{1_000, 10_000} {
		if got := steps(n); got > uint64(5*n) {
			t.Errorf("%d timers took %d steps", n, got)
		}
	}
}

func TestTimersBeyondTheBoundAreNotForgotten(t *testing.T) {
	_, ts := openTimers(t)
	if _, err := ts.earliest(statestore.WallClock); err != nil { // all are known: there are none
		t.Fatal(err)
	}
	const n = 2 * maxUpcoming
	for i := range n {
		if err := ts.put(&firing{clock: statestore.WallClock, due: int64(i), key: binary.BigEndian.AppendUint32(nil, uint32(i))}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range n {
		f, err := ts.next(statestore.WallClock, n)
		if err != nil || f == nil || f.due != int64(i) {
			t.Fatalf("timer %d: %+v, %v", i, f, err)
		}
		if _, err := ts.cancel(f.store, f.key, f.name); err != nil {
			t.Fatal(err)
		}
	}
}

func TestKnownTimersAreFoundAfterALongRollback(t *testing.T) {
	_, ts := openTimers(t)
	put := func(i int) {
		if err := ts.put(&firing{clock: statestore.WallClock, due: int64(i), key: binary.BigEndian.AppendUint32(nil, uint32(i))}); err != nil {
			t.Fatal(err)
		}
	}
	put(7)
	if _, err := ts.earliest(statestore.WallClock); err != nil {
		t.Fatal(err)
	}
	ts.task.setMark()
	for i := range 2 * maxUpcoming {
		put(100 + i)
	}
	ts.task.rollback()
	if due, err := ts.earliest(statestore.WallClock); err != nil || due != 7 {
		t.Fatalf("the first timer is due at %d, %v", due, err)
	}
}
