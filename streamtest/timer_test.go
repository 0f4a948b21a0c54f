package streamtest_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/streamtest"
	"github.com/oncemill/oncemill/topology"
)

// alarms sets timers as its commands say: "stream NAME SECONDS", "wall NAME SECONDS" (after the record's timestamp),
// "cancel NAME", "delete".
type alarms struct {
	topo  *topology.Topology
	store *statestore.KeyValueStore[string, string]
	fired []string
	// onFire, if set, decides how a firing ends.
	onFire func(ctx *processor.Context[string, string], key string, t statestore.Timer) error
}

func newAlarms(policy processor.Policy) *alarms {
	a := &alarms{topo: topology.New("alarms"), store: statestore.KeyValue("keys", serde.String(), serde.String())}
	in := topology.Source(a.topo, "commands", "commands", serde.String(), serde.String(),
		topology.Deduplicate(dedup.Config{ID: dedup.Header(idName), Window: window}))
	out := topology.Process(a.topo, "alarm", in, a.handle, topology.OnTimer(a.store, a.fire), topology.OnTimerFailure(policy))
	topology.Sink(a.topo, "rings", out, "rings", serde.String(), serde.String())
	return a
}

func (a *alarms) handle(ctx *processor.Context[string, string], r record.Record[string, string]) error {
	words := strings.Fields(r.Value)
	switch words[0] {
	case "delete":
		return a.store.Delete(ctx, r.Key)
	case "cancel":
		_, err := a.store.Cancel(ctx, r.Key, words[1])
		return err
	case "touch":
		return nil
	}
	var seconds int
	if _, err := fmt.Sscan(words[2], &seconds); err != nil {
		return err
	}
	if words[0] != "orphan" {
		if err := a.store.Put(ctx, r.Key, "set"); err != nil {
			return err
		}
	}
	clock := statestore.StreamTime
	if words[0] == "wall" {
		clock = statestore.WallClock
	}
	return a.store.Schedule(ctx, r.Key, statestore.Timer{Name: words[1], Clock: clock,
		At: r.Timestamp.Add(time.Duration(seconds) * time.Second), Payload: []byte("payload of " + words[1])})
}

func (a *alarms) fire(ctx *processor.Context[string, string], key string, t statestore.Timer) error {
	a.fired = append(a.fired, t.Name)
	ring := fmt.Sprintf("%s %s", t.Name, t.Payload)
	if err := ctx.Forward(record.New(key, ring)); err != nil {
		return err
	}
	if a.onFire != nil {
		return a.onFire(ctx, key, t)
	}
	return a.store.Put(ctx, key, "rang "+t.Name)
}

func command(n int, key, text string) streamtest.Message {
	return streamtest.Text(key, text).With(idName, fmt.Sprint("m", n))
}

func (a *alarms) wantFired(t testing.TB, want ...string) {
	t.Helper()
	if fmt.Sprint(a.fired) != fmt.Sprint(want) {
		t.Fatalf("fired %v, want %v", a.fired, want)
	}
}

func wantTimers(t testing.TB, d *streamtest.Driver, want ...string) {
	t.Helper()
	var got []string
	for _, timer := range d.Timers() {
		got = append(got, timer.Name)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("timers %v are set, want %v", got, want)
	}
}

func TestStreamTimerFiresOnceWhenTheStreamPasses(t *testing.T) {
	streamtest.Repeat(t, streamtest.Options{}, func(t *testing.T, o streamtest.Options) {
		a := newAlarms(processor.Stop())
		d := streamtest.New(t, a.topo, o)
		start := d.Now()
		d.Append("commands", command(1, "k", "stream late 20"), command(2, "k", "stream early 10"),
			command(3, "other", "touch").At(start.Add(9*time.Second)), command(4, "other", "touch").At(start.Add(25*time.Second)),
			command(5, "other", "touch").At(start.Add(26*time.Second)))
		d.Commit()
		wantOutput(t, d, "rings", "early payload of early", "late payload of late")
		wantTimers(t, d)
		if v, _ := streamtest.Get(d, a.store, "k"); v != "rang late" {
			t.Fatalf("state %q", v)
		}
		rings := d.Output("rings")
		if got := rings[0].Timestamp; !got.Equal(start.Add(10 * time.Second)) {
			t.Fatalf("the output of a timer has the timestamp %v", got)
		}
		if got := streamtest.Header(rings[0], record.HeaderCause); got != "timer:keys/early" {
			t.Fatalf("its cause is %q", got)
		}
		if a, b := streamtest.Header(rings[0], record.HeaderID), streamtest.Header(rings[1], record.HeaderID); a == b || a == "" {
			t.Fatalf("output ids %q and %q", a, b)
		}
	})
}

func TestWallTimerFiresWhenTheClockPasses(t *testing.T) {
	streamtest.Repeat(t, streamtest.Options{}, func(t *testing.T, o streamtest.Options) {
		a := newAlarms(processor.Stop())
		var streamTimes, nows []time.Time
		d := streamtest.New(t, a.topo, o)
		start := d.Now()
		a.onFire = func(ctx *processor.Context[string, string], key string, timer statestore.Timer) error {
			streamTimes, nows = append(streamTimes, ctx.StreamTime()), append(nows, ctx.Now())
			return nil
		}
		d.Pipe("commands", command(1, "k", "wall w 10"))
		d.Commit()
		d.Advance(9999 * time.Millisecond)
		d.Commit()
		wantOutput(t, d, "rings")
		d.Advance(time.Minute)
		d.Commit()
		wantOutput(t, d, "rings", "w payload of w")
		d.Advance(time.Hour)
		d.Commit()
		wantOutput(t, d, "rings", "w payload of w")
		if !streamTimes[0].Equal(start) {
			t.Fatalf("a wall-clock timer sees the stream time %v, want that of the last record, %v", streamTimes[0], start)
		}
		if nows[0].Before(start.Add(10 * time.Second)) {
			t.Fatalf("it fired at %v", nows[0])
		}
	})
}

func TestTimerSurvivesEveryFault(t *testing.T) {
	for _, clock := range []string{"wall", "stream"} {
		eachFault(t, func(t *testing.T, strike func(*streamtest.Driver)) {
			a := newAlarms(processor.Stop())
			d := streamtest.New(t, a.topo, streamtest.Options{})
			d.Append("commands", command(1, "k", clock+" x 10"))
			strike(d)
			d.Commit()
			wantTimers(t, d, "x")
			d.Advance(time.Minute)
			d.Append("commands", command(2, "other", "touch"))
			strike(d)
			d.Commit()
			wantOutput(t, d, "rings", "x payload of x")
			wantTimers(t, d)
		})
	}
}

func TestTimerIsReplaced(t *testing.T) {
	a := newAlarms(processor.Stop())
	d := streamtest.New(t, a.topo, streamtest.Options{})
	d.Pipe("commands", command(1, "k", "wall x 10"), command(2, "k", "wall x 30"), command(3, "k", "wall y 20"))
	d.Commit()
	wantTimers(t, d, "y", "x")
	d.Advance(15 * time.Second)
	a.wantFired(t)
	d.Pipe("commands", command(4, "k", "stream x 0")) // another clock, the same timer
	d.Advance(time.Minute)
	d.Commit()
	a.wantFired(t, "x", "y")
}

func TestTimerIsCancelled(t *testing.T) {
	a := newAlarms(processor.Stop())
	d := streamtest.New(t, a.topo, streamtest.Options{})
	d.Pipe("commands", command(1, "k", "wall x 10"), command(2, "k", "wall y 10"), command(3, "k", "cancel x"), command(4, "k", "cancel none"))
	d.Commit()
	d.Advance(time.Minute)
	a.wantFired(t, "y")
}

func TestTimerEndsWithItsState(t *testing.T) {
	a := newAlarms(processor.Stop())
	d := streamtest.New(t, a.topo, streamtest.Options{})
	d.Pipe("commands", command(1, "k", "wall x 10"), command(2, "k", "stream y 10"), command(3, "k2", "wall x 10"))
	d.Commit()
	d.Pipe("commands", command(4, "k", "delete"))
	d.Commit()
	wantTimers(t, d, "x")
	if got := string(d.Timers()[0].Key); got != "k2" {
		t.Fatalf("the timer of key %q is left", got)
	}
	d.Advance(time.Minute)
	a.wantFired(t, "x")
}

func TestTimerNeedsState(t *testing.T) {
	a := newAlarms(processor.Stop())
	d := streamtest.New(t, a.topo, streamtest.Options{})
	d.Append("commands", command(1, "k", "orphan x 10"))
	if err := d.TryRun(); problem.CodeOf(err) != problem.TimerWithoutState || !strings.Contains(err.Error(), `"k"`) || !strings.Contains(err.Error(), `"keys"`) {
		t.Fatalf("error %v", err)
	}
	wantTimers(t, d)
}

func TestTimersOfARolledBackRecordAreGone(t *testing.T) {
	a := newAlarms(processor.Stop())
	d := streamtest.New(t, a.topo, streamtest.Options{})
	d.Pipe("commands", command(1, "k", "wall x 10"))
	d.Abort()
	wantTimers(t, d)
	d.Commit()
	wantTimers(t, d, "x")
}

func TestTimerFailures(t *testing.T) {
	panics := func(_ *processor.Context[string, string], _ string, timer statestore.Timer) error {
		if timer.Name == "bad" {
			panic("the timer panics")
		}
		return nil
	}
	setUp := func(t *testing.T, policy processor.Policy, o streamtest.Options) (*alarms, *streamtest.Driver) {
		a := newAlarms(policy)
		a.onFire = panics
		d := streamtest.New(t, a.topo, o)
		d.Pipe("commands", command(1, "k", "stream one 10"), command(2, "k", "stream bad 11"), command(3, "k", "stream two 12"))
		d.Commit()
		return a, d
	}
	touch := func(d *streamtest.Driver) streamtest.Message {
		return command(9, "o", "touch").At(d.Now().Add(time.Minute))
	}
	t.Run("dead letter", func(t *testing.T) {
		streamtest.Repeat(t, streamtest.Options{}, func(t *testing.T, o streamtest.Options) {
			_, d := setUp(t, processor.DeadLetter(), o)
			d.Pipe("commands", touch(d))
			d.Commit()
			wantOutput(t, d, "rings", "one payload of one", "two payload of two")
			wantMarkers(t, d, dedup.Applied, dedup.Applied, dedup.Applied, dedup.Applied)
			letter := wantLetters(t, d, string(problem.HandlerPanicked))[0]
			if string(letter.Key) != "k" || string(letter.Value) != "payload of bad" ||
				streamtest.Header(letter, record.HeaderDeadLetterTimer) != "keys/bad" ||
				!strings.Contains(streamtest.Header(letter, "__streams.errors.stacktrace"), "timer_test.go") ||
				!strings.Contains(streamtest.Header(letter, "__streams.errors.message"), `"alarm"`) {
				t.Fatalf("the dead letter is %v %q", letter, letter.Headers)
			}
			wantTimers(t, d)
		})
	})
	t.Run("skip", func(t *testing.T) {
		_, d := setUp(t, processor.Skip(), streamtest.Options{})
		d.Pipe("commands", touch(d))
		d.Commit()
		wantOutput(t, d, "rings", "one payload of one", "two payload of two")
		wantTimers(t, d)
		if s := d.Stats(); s.TimersFailed != 1 || s.TimersFired != 2 || s.Skipped != 1 {
			t.Fatalf("stats %+v", s)
		}
	})
	t.Run("stop", func(t *testing.T) {
		a, d := setUp(t, processor.Stop(), streamtest.Options{})
		d.Append("commands", touch(d))
		if err := d.TryRun(); problem.CodeOf(err) != problem.HandlerPanicked {
			t.Fatalf("error %v", err)
		}
		wantTimers(t, d, "one", "bad", "two")
		wantOutput(t, d, "rings")
		a.onFire = nil
		d.Commit()
		wantOutput(t, d, "rings", "one payload of one", "bad payload of bad", "two payload of two")
	})
	t.Run("retry in place", func(t *testing.T) {
		a, d := setUp(t, processor.RetryInPlace(processor.DeadLetter(), time.Second, 0), streamtest.Options{})
		d.Pipe("commands", touch(d))
		d.Commit()
		a.wantFired(t, "one", "bad", "bad", "bad", "two")
		wantLetters(t, d, string(problem.HandlerPanicked))
		if got := fmt.Sprint(d.Waits()); got != "[1s 0s]" {
			t.Fatalf("waits %s", got)
		}
	})
	t.Run("a failed timer leaves no state", func(t *testing.T) {
		a, d := setUp(t, processor.Skip(), streamtest.Options{})
		a.onFire = func(ctx *processor.Context[string, string], key string, timer statestore.Timer) error {
			if err := a.store.Put(ctx, key, "written by "+timer.Name); err != nil || timer.Name != "two" {
				return err
			}
			return errHandler
		}
		d.Pipe("commands", touch(d))
		d.Commit()
		if v, _ := streamtest.Get(d, a.store, "k"); v != "written by bad" {
			t.Fatalf("state %q", v)
		}
	})
}

func TestTimersAreBoundedPerRecord(t *testing.T) {
	a := newAlarms(processor.Stop())
	d := streamtest.New(t, a.topo, streamtest.Options{MaxTimers: 2})
	for i := range 5 {
		d.Pipe("commands", command(i, "k", fmt.Sprintf("stream t%d %d", i, i+1)))
	}
	d.Append("commands", command(9, "o", "touch").At(d.Now().Add(time.Minute)))
	d.Commit()
	a.wantFired(t, "t0", "t1", "t2", "t3", "t4")
}

// A transaction that only fired timers moves no offset: its number alone says whether it was committed.
func TestUnknownCommitOfTimersOnly(t *testing.T) {
	for _, outcome := range []bool{true, false} {
		a := newAlarms(processor.Stop())
		d := streamtest.New(t, a.topo, streamtest.Options{})
		d.Pipe("commands", command(1, "k", "wall x 10"))
		d.Commit()
		d.Advance(time.Minute)
		d.CommitUnknown(outcome)
		d.Commit()
		wantOutput(t, d, "rings", "x payload of x")
		wantTimers(t, d)
		if n := d.Transactions("commands_0"); n != 2 {
			t.Fatalf("%d transactions", n)
		}
		a.wantFired(t, map[bool][]string{true: {"x"}, false: {"x", "x"}}[outcome]...)
	}
}

// A record that set an earlier timer has failed: the timer that is left does not fire in its place.
func TestTimerOfARolledBackRecordDoesNotHurryAnother(t *testing.T) {
	topo := topology.New("hurry")
	topo.Defaults(processor.Policies{Process: processor.Skip()})
	store := statestore.KeyValue("bells", serde.String(), serde.String())
	in := topology.Source(topo, "in", "in", serde.String(), serde.String())
	out := topology.Process(topo, "set", in, func(ctx *processor.Context[string, string], r record.Record[string, string]) error {
		if err := store.Put(ctx, r.Key, r.Value); err != nil {
			return err
		}
		in := time.Hour
		if r.Value == "bad" {
			in = time.Second
		}
		if err := store.Schedule(ctx, r.Key, statestore.Timer{Name: "x", Clock: statestore.WallClock, At: ctx.Now().Add(in)}); err != nil {
			return err
		}
		if r.Value == "bad" {
			return errHandler
		}
		return nil
	}, topology.OnTimer(store, func(ctx *processor.Context[string, string], key string, timer statestore.Timer) error {
		return ctx.Forward(record.New(key, timer.Name))
	}))
	topology.Sink(topo, "out", out, "out", serde.String(), serde.String())
	d := streamtest.New(t, topo, streamtest.Options{})
	d.Pipe("in", streamtest.Text("good", "good"))
	d.Commit()
	d.Advance(time.Second) // somebody looks when the next timer is due
	d.Pipe("in", streamtest.Text("other", "bad"))
	d.Commit()
	d.Advance(time.Minute)
	d.Commit()
	if out := d.Output("out"); len(out) != 0 {
		t.Fatalf("a timer of in an hour has fired after a minute: %q", out[0].Key)
	}
	d.Advance(time.Hour)
	d.Commit()
	if out := d.Output("out"); len(out) != 1 {
		t.Fatalf("%d timers have fired", len(out))
	}
}
