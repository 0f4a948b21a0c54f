package streamtest_test

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/streamtest"
	"github.com/oncemill/oncemill/topology"
)

// twoNodes is a topology of the nodes a and b with policies of their own. What fails when is a function of the time, so that
// a run that is repeated goes the same way.
func twoNodes(a, b processor.Policy, fails func(node, value string, now time.Time) bool) *topology.Topology {
	topo := topology.New("twice")
	in := topology.Source(topo, "in", "in", serde.String(), serde.String())
	pass := func(node string) processor.Func[string, string, string, string] {
		return func(ctx *processor.Context[string, string], r record.Record[string, string]) error {
			if fails(node, r.Value, ctx.Now()) {
				return errHandler
			}
			return ctx.Forward(r)
		}
	}
	first := topology.Process(topo, "a", in, pass("a"), topology.OnFailure(a))
	second := topology.Process(topo, "b", first, pass("b"), topology.OnFailure(b))
	topology.Sink(topo, "out", second, "out", serde.String(), serde.String())
	return topo
}

// The head of a queue fails again at another node, whose policy does not keep the order: it leaves the queue and waits on
// its own. The queue goes on without it.
func TestQueueGoesOnWhenAnotherNodeParksItsHeadWithoutOrder(t *testing.T) {
	streamtest.Repeat(t, streamtest.Options{}, func(t *testing.T, o streamtest.Options) {
		var start time.Time
		until := map[string]time.Duration{"a": time.Second, "b": 1500 * time.Millisecond}
		topo := twoNodes(
			processor.DelayedRetryInOrder(processor.DeadLetter(), time.Second, time.Second),
			processor.DelayedRetry(processor.DeadLetter(), time.Second, time.Second),
			func(node, value string, now time.Time) bool {
				return value == "bad" && now.Before(start.Add(until[node]))
			})
		d := streamtest.New(t, topo, o)
		start = d.Now()
		d.Append("in", streamtest.Text("k", "bad"), streamtest.Text("k", "x"), streamtest.Text("k", "y"))
		d.Commit()
		d.Advance(1700 * time.Millisecond)
		d.Commit()
		wantOutput(t, d, "out", "x", "y")
		d.Advance(time.Hour)
		d.Pipe("in", streamtest.Text("k", "z"))
		d.Commit()
		wantOutput(t, d, "out", "x", "y", "bad", "z")
	})
}

// The same with one node whose policy keeps the order for its first attempts only.
func TestQueueGoesOnWhenItsHeadsPolicyNoLongerKeepsTheOrder(t *testing.T) {
	p := newPayments(paymentOptions{failure: processor.DelayedRetryInOrder(processor.DelayedRetry(processor.DeadLetter(), time.Hour), time.Second)})
	broken := true
	failing(p, &broken)
	d := p.driver(t, streamtest.Options{})
	d.Pipe("commands", bad("o1", "p1"), confirm("o1", "p2"))
	d.Commit()
	d.Advance(time.Minute)
	d.Commit()
	wantOutput(t, d, "events", paid1)
	broken = false
	d.Advance(24 * time.Hour)
	d.Commit()
	wantOutput(t, d, "events", paid1, `{"order":"o1","attempt":2}`)
	if n := len(d.Parked()); n != 0 {
		t.Fatalf("%d records wait for ever", n)
	}
}

// A record that waits without order joins the queue of its key in front. Who was the head keeps its delay, but waits for its
// turn; who joined keeps its own delay when the other one is done.
func TestRecordThatJoinsAQueueInFrontDelaysNobodyForEver(t *testing.T) {
	var start time.Time
	topo := twoNodes(
		processor.DelayedRetry(processor.DeadLetter(), time.Second),
		processor.DelayedRetryInOrder(processor.DeadLetter(), time.Minute, time.Minute),
		func(node, value string, now time.Time) bool {
			since := now.Sub(start)
			switch value + node {
			case "earlya":
				return since < time.Second
			case "earlyb":
				return since < 30*time.Second // joins at 1 s; its attempt before the last is due at 61 s
			case "laterb":
				return since < 60*time.Second // its attempt is due at 60.5 s
			}
			return false
		})
	d := streamtest.New(t, topo, streamtest.Options{})
	start = d.Now()
	d.Pipe("in", streamtest.Text("k", "early"))
	d.Advance(500 * time.Millisecond)
	d.Pipe("in", streamtest.Text("k", "later"), streamtest.Text("k", "last")) // due at 60.5 s, behind early by then
	d.Commit()
	d.Advance(60 * time.Second)
	d.Commit()
	wantOutput(t, d, "out")
	d.Advance(10 * time.Minute)
	d.Commit()
	wantOutput(t, d, "out", "early", "later", "last")
	if len(d.DeadLetters()) != 0 || len(d.Parked()) != 0 {
		t.Fatalf("%d dead letters, %d parked", len(d.DeadLetters()), len(d.Parked()))
	}
}

// randomPolicy draws a failure policy that ends in the dead letters. inOrder leaves out delays without order.
func randomPolicy(r *rand.Rand, inOrder bool) processor.Policy {
	p := processor.DeadLetter()
	for range 1 + r.IntN(3) {
		delays := make([]time.Duration, 1+r.IntN(3))
		for i := range delays {
			delays[i] = time.Duration(r.IntN(20)) * 100 * time.Millisecond
		}
		switch n := r.IntN(5); {
		case n == 0:
			p = processor.RetryInPlace(p, 0)
		case n <= 2 && !inOrder:
			p = processor.DelayedRetry(p, delays...)
		default:
			p = processor.DelayedRetryInOrder(p, delays...)
		}
	}
	return p
}

// Whatever the policies, every record comes to an end, and only to one; and if all of them keep the order, the outputs of
// each key are in that of the input. The driver checks after each step that the head of a queue has a timer (under the
// build tag invariants or the race detector).
func TestRandomPoliciesLeaveNoRecordParkedForEver(t *testing.T) {
	for seed := range uint64(150 / raceSample) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { driveRandomPolicies(t, seed) })
	}
}

func driveRandomPolicies(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 1))
	inOrder := seed%3 == 0
	var healed time.Time
	topo := twoNodes(randomPolicy(r, inOrder), randomPolicy(r, inOrder), func(node, value string, now time.Time) bool {
		h := fnv.New32a()
		fmt.Fprint(h, seed, node, value, now.UnixMilli()/100)
		return now.Before(healed) && h.Sum32()%100 < 40
	})
	d := streamtest.New(t, topo, streamtest.Options{CommitEvery: r.IntN(5), MaxTimers: 1 + r.IntN(5)})
	healed = d.Now().Add(5 * time.Second)
	const records = 40
	for i := range records {
		d.Pipe("in", streamtest.Text(fmt.Sprint("k", r.IntN(3)), fmt.Sprint(i)))
		switch r.IntN(8) {
		case 0, 1, 2:
			d.Advance(time.Duration(r.IntN(500)) * time.Millisecond)
		case 3:
			d.Commit()
			d.Move(0)
		case 4:
			d.Abort()
			d.Run()
		case 5:
			d.RestartWithEmptyDisk()
			d.Run()
		}
	}
	for range 3 {
		d.Advance(time.Hour)
		d.Commit()
	}
	if n := len(d.Parked()); n != 0 {
		t.Fatalf("%d records wait for ever", n)
	}
	ends := map[string]int{}
	last := map[string]int{}
	for _, e := range d.Output("out") {
		ends[string(e.Value)]++
		var n int
		if _, err := fmt.Sscan(string(e.Value), &n); err != nil {
			t.Fatal(err)
		}
		if inOrder && n < last[string(e.Key)] {
			t.Fatalf("key %s: %d after %d", e.Key, n, last[string(e.Key)])
		}
		last[string(e.Key)] = n
	}
	for _, e := range d.DeadLetters() {
		ends[string(e.Value)]++
	}
	for i := range records {
		if n := ends[fmt.Sprint(i)]; n != 1 {
			t.Fatalf("record %d came to %d ends", i, n)
		}
	}
}

// The beginning of a queue that was remembered in a transaction that was aborted is forgotten with it.
func TestQueueThatWasWorkedOffInAnAbortedTransactionIsWorkedOffAgain(t *testing.T) {
	var start time.Time
	const queued = 60
	topo := twoNodes(processor.DeadLetter(), processor.DelayedRetryInOrder(processor.DeadLetter(), time.Second),
		func(node, _ string, now time.Time) bool { return node == "b" && now.Sub(start) < time.Second })
	d := streamtest.New(t, topo, streamtest.Options{})
	start = d.Now()
	for i := range queued {
		d.Pipe("in", streamtest.Text("k", fmt.Sprint(i)))
	}
	d.Commit()
	d.Advance(2 * time.Second)
	d.Abort()
	d.Run()
	d.Pipe("in", streamtest.Text("k", "after"))
	d.Commit()
	d.Advance(24 * time.Hour)
	d.Commit()
	if n := len(d.Parked()); n != 0 {
		t.Fatalf("%d records wait for ever", n)
	}
	for i, r := range d.Output("out") {
		if want := fmt.Sprint(i); i < queued && string(r.Value) != want {
			t.Fatalf("output %d is %s: out of order", i, r.Value)
		}
	}
	if n := len(d.Output("out")); n != queued+1 {
		t.Fatalf("%d outputs", n)
	}
}

// A record that waits without order joins a queue of which the beginning is remembered, in front of it.
func TestRecordThatJoinsALongQueueInFrontIsItsHead(t *testing.T) {
	var start time.Time
	const queued = 60
	topo := twoNodes(
		processor.DelayedRetry(processor.DeadLetter(), time.Second),
		processor.DelayedRetryInOrder(processor.DeadLetter(), 500*time.Millisecond, time.Second, time.Hour),
		func(node, value string, now time.Time) bool {
			since := now.Sub(start)
			switch {
			case value+node == "earlya":
				return since < time.Second
			case value+node == "earlyb":
				return since < 90*time.Second
			case value == "last" && node == "b":
				return since < 120*time.Second
			case node == "b":
				return since < 400*time.Millisecond
			}
			return false
		})
	d := streamtest.New(t, topo, streamtest.Options{})
	start = d.Now()
	d.Pipe("in", streamtest.Text("k", "early"))
	for i := range queued {
		d.Pipe("in", streamtest.Text("k", fmt.Sprint(i)))
	}
	d.Pipe("in", streamtest.Text("k", "last"))
	d.Commit()
	d.Advance(700 * time.Millisecond) // the queue was worked off but for its last, which failed again
	d.Pipe("in", streamtest.Text("k", "behind"))
	d.Advance(24 * time.Hour)
	d.Commit()
	if n := len(d.Parked()); n != 0 || len(d.DeadLetters()) != 0 {
		t.Fatalf("%d records wait for ever, %d dead letters", n, len(d.DeadLetters()))
	}
	if n := len(d.Output("out")); n != queued+3 {
		t.Fatalf("%d outputs", n)
	}
}
