package streamtest_test

import (
	"errors"
	"fmt"
	"slices"
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

// Stream-time timers fire between the record that made them due and the next one, however many records are fetched at once.
func TestStreamTimersFireBetweenTwoRecords(t *testing.T) {
	a := newAlarms(processor.Stop())
	d := streamtest.New(t, a.topo, streamtest.Options{})
	at := d.Now()
	d.Append("commands", command(1, "k", "stream x 1"), command(2, "o", "touch").At(at.Add(2*time.Second)), command(3, "k", "cancel x"))
	d.Commit()
	a.wantFired(t, "x")
}

// Marker time follows stream time, also that of records without an id: what expires does not depend on whether the task was
// restored in between.
func TestMarkersExpireByTheStreamTimeOfEverySource(t *testing.T) {
	for _, restart := range []bool{false, true} {
		topo := topology.New("shop")
		ids := topology.Source(topo, "ids", "ids", serde.String(), serde.String(), topology.Deduplicate(dedup.Config{ID: dedup.Header(idName), Window: window}))
		plain := topology.Source(topo, "plain", "plain", serde.String(), serde.String())
		topology.Sink(topo, "out", topology.Merge(topo, "both", ids, plain), "out", serde.String(), serde.String())
		d := streamtest.New(t, topo, streamtest.Options{})
		d.Pipe("ids", confirm("o1", "p1"))
		d.Commit()
		d.Advance(3 * window)
		d.Pipe("plain", streamtest.Text("o2", "later"))
		d.Commit()
		if restart {
			d.Restart()
		}
		d.Pipe("ids", confirm("o1", "p1").At(d.Now().Add(-3*window)))
		d.Commit()
		wantOutput(t, d, "out", "confirm", "later", "confirm")
	}
}

// A record that deduplication refuses does not wait behind a parked one of its key: it would come back as a duplicate, and leave no
// dead letter.
func TestS11ConflictBehindAParkedRecord(t *testing.T) {
	p := newPayments(paymentOptions{failure: processor.DelayedRetryInOrder(processor.DeadLetter(), time.Second)})
	p.before = func(_ *processor.Context[string, Confirmed], r record.Record[string, string]) error {
		if r.Value == "bad" && p.runs == 1 {
			return errHandler
		}
		return nil
	}
	d := p.driver(t, streamtest.Options{})
	d.Append("commands", bad("o1", "p1"), confirm("o1", "p1"), bad("o1", "p1"))
	d.Commit()
	wantLetters(t, d, string(problem.IDConflict))
	if got := len(d.Parked()); got != 1 {
		t.Fatalf("%d records wait, want the first copy", got)
	}
	d.Advance(time.Minute)
	d.Commit()
	wantLetters(t, d, string(problem.IDConflict))
	wantOrder(t, d, p, "o1", Order{Paid: true, Payments: 1})
}

// TestS12MissingIDStopsTheTask: where the policy says so, a record without an id is not passed over.
func TestS12MissingIDStopsTheTask(t *testing.T) {
	p := newPayments(paymentOptions{dedup: &dedup.Config{ID: dedup.Header(idName), Window: window, OnMissing: dedup.StopOnMissing}})
	d := p.driver(t, streamtest.Options{})
	d.Append("commands", confirm("o1", "p1"), streamtest.Text("o1", "confirm"), confirm("o1", "p2"))
	if err := d.TryRun(); problem.CodeOf(err) != problem.IDMissing {
		t.Fatalf("it ended with %v", err)
	}
	wantRuns(t, p.runs, 1)
}

// Records that were parked come back in one transaction: the marker of each has its own outputs, and a duplicate is answered with
// those.
func TestS6ReplayAfterSeveralCameBackAtOnce(t *testing.T) {
	cfg := replaying()
	p := newPayments(paymentOptions{dedup: cfg, failure: processor.DelayedRetry(processor.DeadLetter(), time.Second)})
	p.before = func(_ *processor.Context[string, Confirmed], _ record.Record[string, string]) error {
		if p.runs <= 3 {
			return errHandler
		}
		return nil
	}
	d := p.driver(t, streamtest.Options{})
	d.Append("commands", confirm("o1", "p1"), confirm("o2", "p2"), confirm("o3", "p3"))
	d.Commit()
	d.Advance(time.Minute)
	d.Commit()
	d.Pipe("commands", confirm("o3", "p3"), confirm("o2", "p2"))
	d.Commit()
	var got []string
	for _, r := range d.Output("events") {
		got = append(got, string(r.Key))
	}
	if want := []string{"o1", "o2", "o3", "o3", "o2"}; !slices.Equal(got, want) {
		t.Fatalf("events of %q, want %q", got, want)
	}
	wantRuns(t, p.runs, 6)
}

// What a broker refused of a timer says nothing about a timer that is set later, for the same key, name and time.
func TestRefusalIsOverWithItsTimer(t *testing.T) {
	a := &alarms{topo: topology.New("alarms"), store: statestore.KeyValue("keys", serde.String(), serde.String())}
	a.topo.Defaults(processor.Policies{Produce: processor.Skip()})
	in := topology.Source(a.topo, "commands", "commands", serde.String(), serde.String())
	topology.Sink(a.topo, "rings", topology.Process(a.topo, "alarm", in, a.handle, topology.OnTimer(a.store, a.fire)), "rings", serde.String(), serde.String())
	refuse := true
	d := streamtest.New(t, a.topo, streamtest.Options{Refuse: func(_ string, r *record.Raw) error {
		if refuse && strings.HasPrefix(string(r.Value), "x ") {
			return errors.New("the broker says no")
		}
		return nil
	}})
	at := d.Now()
	d.Pipe("commands", command(1, "k", "wall x 10").At(at))
	d.Commit()
	d.Advance(time.Minute)
	d.Commit()
	wantOutput(t, d, "rings")
	refuse = false
	d.Pipe("commands", command(2, "k", "wall x 10").At(at))
	d.Advance(time.Second)
	d.Commit()
	wantOutput(t, d, "rings", "x payload of x")
	if got := fmt.Sprint(a.fired); got != "[x x]" {
		t.Fatalf("fired %s", got)
	}
}

// TestR12ParkedRecordOfAnotherTopic: a source reads two topics. A record without an id that comes back from a delayed retry has the
// output ids of its own place, not those of the record at the same offset of the other topic.
func TestR12ParkedRecordOfAnotherTopic(t *testing.T) {
	topo := topology.New("several")
	failed := false
	in := topology.Source(topo, "in", "a", serde.String(), serde.String(), topology.AlsoTopics("b"))
	out := topology.Process(topo, "pass", in, func(ctx *processor.Context[string, string], r record.Record[string, string]) error {
		if r.Value == "of b" && !failed {
			failed = true
			return errHandler
		}
		return ctx.Forward(r)
	}, topology.OnFailure(processor.DelayedRetry(processor.Stop(), time.Second)))
	topology.Sink(topo, "out", out, "out", serde.String(), serde.String())
	d := streamtest.New(t, topo, streamtest.Options{})
	d.Pipe("a", streamtest.Text("k", "of a"))
	d.Pipe("b", streamtest.Text("k", "of b"))
	d.Commit()
	d.Advance(time.Minute)
	d.Commit()
	wantOutput(t, d, "out", "of a", "of b")
	got := d.Output("out")
	if a, b := streamtest.Header(got[0], record.HeaderID), streamtest.Header(got[1], record.HeaderID); a == b {
		t.Fatalf("both outputs have the id %s", a)
	}
}
