package task_test

import (
	"bytes"
	"slices"
	"testing"
	"time"

	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/topology"
)

// A transaction of one timer holds one timer, whatever else is due, by either clock.
func TestFireOneFiresOneTimer(t *testing.T) {
	k, fired := withTimers(t)
	step := func(n int, raw *record.Raw) error { return k.task.StepOnly(n, raw, start) }
	setTimers(t, step)
	want := []string{"w1", "w2", "s1", "s2"}
	for n := range len(want) + 1 {
		more, err := k.task.FireOne(start.Add(2 * time.Second))
		if err != nil || more != (n < len(want)) {
			t.Fatalf("call %d: fired %v, %v", n+1, more, err)
		}
		if due := want[:min(n+1, len(want))]; !slices.Equal(*fired, due) || k.task.Timers() != len(due) {
			t.Fatalf("after call %d %q fired, %d are counted, want %q", n+1, *fired, k.task.Timers(), due)
		}
	}
}

// The stream-time timers that a record makes due fire with it, before the next record, which another poll may bring.
func TestStepFiresWhatTheRecordMadeDue(t *testing.T) {
	k, fired := withTimers(t)
	setTimers(t, func(n int, raw *record.Raw) error { return k.task.Step(n, raw, start) })
	if want := []string{"s1", "s2"}; !slices.Equal(*fired, want) {
		t.Fatalf("%q fired, want %q", *fired, want)
	}
}

// withTimers is a task that sets a timer of one second for each record whose value is a clock. The names of those that fired are
// kept.
func withTimers(t *testing.T) (*kit, *[]string) {
	t.Helper()
	rings := statestore.KeyValue("rings", serde.String(), serde.String())
	topo := topology.New("app")
	in := topology.Source(topo, "in", "in", serde.String(), serde.String())
	var fired []string
	set := func(ctx *processor.Context[string, string], r record.Record[string, string]) error {
		clock, known := map[string]statestore.Clock{"wall": statestore.WallClock, "stream": statestore.StreamTime}[r.Value]
		if !known {
			return nil
		}
		if err := rings.Put(ctx, r.Key, r.Value); err != nil {
			return err
		}
		return rings.Schedule(ctx, r.Key, statestore.Timer{Name: r.Key, Clock: clock, At: r.Timestamp.Add(time.Second)})
	}
	ring := func(_ *processor.Context[string, string], key string, _ statestore.Timer) error {
		fired = append(fired, key)
		return nil
	}
	topology.Process(topo, "alarm", in, set, topology.OnTimer(rings, ring))
	return newKit(t, topo), &fired
}

// setTimers sets two timers of each clock, and moves stream time beyond them.
func setTimers(t *testing.T, step func(input int, raw *record.Raw) error) {
	t.Helper()
	for offset, r := range []struct {
		key, value string
		after      time.Duration
	}{{"s1", "stream", 0}, {"w1", "wall", 0}, {"s2", "stream", 0}, {"w2", "wall", 0}, {"t", "touch", 2 * time.Second}} {
		raw := &record.Raw{Key: []byte(r.key), Value: []byte(r.value), Timestamp: start.Add(r.after), Position: record.Position{Offset: int64(offset)}}
		if err := step(0, raw); err != nil {
			t.Fatal(err)
		}
	}
}

// The memory of outputs is used again by the next transaction, but not after DropMemory: a client that was closed may still read it.
func TestDropMemoryLeavesOutputsAlone(t *testing.T) {
	for _, drop := range []bool{false, true} {
		topo := topology.New("app")
		in := topology.Source(topo, "in", "in", serde.String(), serde.String())
		topology.Sink(topo, "out", in, "out", serde.String(), serde.String())
		k := newKit(t, topo)
		value := bytes.Repeat([]byte("a"), 100)
		k.step(&record.Raw{Key: []byte("k"), Value: value, Timestamp: start})
		output := k.task.TakeOutputs()[0].Value
		if drop {
			k.task.DropMemory()
		}
		k.task.Abort()
		k.next = 0
		k.step(&record.Raw{Key: []byte("k"), Value: bytes.Repeat([]byte("b"), 100), Timestamp: start})
		if kept := bytes.Equal(output, value); kept != drop {
			t.Errorf("dropped %v: the output of the aborted transaction is %.10q", drop, output)
		}
	}
}

// What a transaction took for its outputs is free when it has ended, and positions in the changelogs lie behind its last records.
func TestATransactionLeavesNothingButItsPosition(t *testing.T) {
	counts := statestore.KeyValue("counts", serde.String(), serde.String())
	topo := topology.New("app")
	in := topology.Source(topo, "in", "in", serde.String(), serde.String())
	out := topology.Process(topo, "keep", in, func(ctx *processor.Context[string, string], r record.Record[string, string]) error {
		if err := counts.Put(ctx, r.Key, r.Value); err != nil {
			return err
		}
		return ctx.Forward(r)
	}, topology.Uses(counts))
	topology.Sink(topo, "out", out, "out", serde.String(), serde.String())
	k := newKit(t, topo)
	for n := range 3 {
		k.step(&record.Raw{Key: []byte("k"), Value: []byte("v"), Timestamp: start})
		if k.task.MemoryBytes() == 0 || k.task.Steps() != 1 {
			t.Fatal("an output takes no memory: the test shows nothing")
		}
		if n == 1 {
			k.task.Abort()
			k.next--
		} else {
			k.commit()
		}
		if k.task.MemoryBytes() != 0 || k.task.Steps() != 0 || k.task.Dirty() {
			t.Errorf("after transaction %d: %d bytes, %d steps, dirty %v", n+1, k.task.MemoryBytes(), k.task.Steps(), k.task.Dirty())
		}
		for _, l := range k.task.Logs() {
			if l.Next != k.logEnd[l.Topic] {
				t.Errorf("after transaction %d: position %d in %s, which ends at %d", n+1, l.Next, l.Topic, k.logEnd[l.Topic])
			}
		}
	}
	if len(k.task.Logs()) == 0 {
		t.Error("there is no changelog: the test shows nothing")
	}
}
