package streamtest_test

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/streamtest"
	"github.com/oncemill/oncemill/topology"
)

// wantPaidOnce is the end state of S1.
func wantPaidOnce(t testing.TB, d *streamtest.Driver, p *payments) {
	t.Helper()
	wantOutput(t, d, "events", paid1)
	wantOrder(t, d, p, "o1", Order{Paid: true, Payments: 1})
	wantPosition(t, d, "commands", 1)
	wantMarkers(t, d, dedup.Applied)
	event := d.Output("events")[0]
	if got := streamtest.Header(event, record.HeaderCause); got != "commands/0@0" {
		t.Fatalf("the event's cause is %q", got)
	}
	if id := streamtest.Header(event, record.HeaderID); len(id) != 32 {
		t.Fatalf("the event's id is %q", id)
	}
	if got := streamtest.Header(event, idName); got != "" {
		t.Fatalf("the event inherited the id %q of its input", got)
	}
}

func TestS1ConfirmOnce(t *testing.T) {
	p := newPayments(paymentOptions{})
	d := p.driver(t, streamtest.Options{})
	d.Pipe("commands", confirm("o1", "p1"))
	if len(d.Output("events")) != 0 {
		t.Fatal("an output is visible before the commit")
	}
	d.Commit()
	wantPaidOnce(t, d, p)
	wantRuns(t, p.runs, 1)
}

func TestS2EveryFault(t *testing.T) {
	eachFault(t, func(t *testing.T, strike func(*streamtest.Driver)) {
		p := newPayments(paymentOptions{})
		d := p.driver(t, streamtest.Options{})
		d.Append("commands", confirm("o1", "p1"))
		strike(d)
		d.Commit()
		wantPaidOnce(t, d, p)
	})
}

func TestS3CrashBeforeTheLocalApply(t *testing.T) {
	undisturbed := newPayments(paymentOptions{})
	clean := undisturbed.driver(t, streamtest.Options{})
	clean.Pipe("commands", confirm("o1", "p1"))
	clean.Commit()

	p := newPayments(paymentOptions{})
	d := p.driver(t, streamtest.Options{})
	d.Pipe("commands", confirm("o1", "p1"))
	d.CrashInCommit(true)
	d.Commit()
	wantPaidOnce(t, d, p)
	wantRuns(t, p.runs, 1)
	wantSame(t, d.Output("events"), clean.Output("events"))
}

// wantSame demands equal records, the offsets too.
func wantSame(t testing.TB, got, want []record.Raw) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("records\n%v\nwant\n%v", got, want)
	}
}

func TestS4AbortedOutputsAreInvisible(t *testing.T) {
	p := newPayments(paymentOptions{})
	d := p.driver(t, streamtest.Options{})
	d.Pipe("commands", confirm("o1", "p1"))
	first := d.Probe("events")
	d.Restart()
	if got := d.Output("events"); len(got) != 0 {
		t.Fatalf("a reader with read_committed sees %v", got)
	}
	if got := d.Probe("events"); len(got) != 1 || string(got[0].Value) != paid1 {
		t.Fatalf("the probe sees %v, want the aborted event", got)
	}
	d.Commit()
	wantPaidOnce(t, d, p)
	wantRuns(t, p.runs, 2)
	again := d.Output("events")[0]
	if a, b := streamtest.Header(first[0], record.HeaderID), streamtest.Header(again, record.HeaderID); a != b {
		t.Fatalf("the re-run gave the output the id %s, the first run %s", b, a)
	}
}

func TestS5UnknownCommit(t *testing.T) {
	for _, outcome := range []bool{true, false} {
		p := newPayments(paymentOptions{})
		d := p.driver(t, streamtest.Options{})
		d.Pipe("commands", confirm("o1", "p1"))
		d.CommitUnknown(outcome)
		if got := len(d.Output("events")); (got == 1) != outcome {
			t.Fatalf("outcome %v: %d events are visible", outcome, got)
		}
		d.Commit()
		wantPaidOnce(t, d, p)
		wantRuns(t, p.runs, map[bool]int{true: 1, false: 2}[outcome])
	}
}

func TestS6DuplicateAfterTheCommit(t *testing.T) {
	p := newPayments(paymentOptions{})
	d := p.driver(t, streamtest.Options{})
	d.Pipe("commands", confirm("o1", "p1"))
	d.Commit()
	d.Pipe("commands", confirm("o1", "p1"))
	d.Commit()
	wantOutput(t, d, "events", paid1)
	wantOrder(t, d, p, "o1", Order{Paid: true, Payments: 1})
	wantPosition(t, d, "commands", 2)
	wantRuns(t, p.runs, 1)
	if n := d.Stats().Verdicts[dedup.Duplicate]; n != 1 {
		t.Fatalf("%d duplicates counted, want 1", n)
	}
}

func replaying() *dedup.Config {
	return &dedup.Config{ID: dedup.Header(idName), Window: window, OnDuplicate: dedup.ReplayOutputs}
}

func TestS6ReplayGivesTheSameBytes(t *testing.T) {
	for _, restart := range []bool{false, true} {
		p := newPayments(paymentOptions{dedup: replaying()})
		d := p.driver(t, streamtest.Options{})
		d.Pipe("commands", confirm("o1", "p1").WithHeaders(record.Header{Key: "trace", Value: nil}))
		d.Commit()
		// Later state must not reach the answer.
		d.Pipe("commands", confirm("o1", "p2"))
		d.Commit()
		if restart {
			d.RestartWithEmptyDisk()
		}
		d.Advance(time.Minute) // the answer has the time of the first run, too
		d.Pipe("commands", confirm("o1", "p1"), confirm("o1", "p3"))
		d.Commit()
		wantRuns(t, p.runs, 3)
		events := d.Output("events")
		if len(events) != 4 {
			t.Fatalf("%d events, want 4", len(events))
		}
		events[2].Offset = events[0].Offset
		wantSame(t, events[2:3], events[0:1])
	}
}

func TestS7DuplicateInOneBatch(t *testing.T) {
	streamtest.Repeat(t, streamtest.Options{}, func(t *testing.T, o streamtest.Options) {
		p := newPayments(paymentOptions{})
		d := p.driver(t, o)
		d.Append("commands", confirm("o1", "p1"), confirm("o1", "p1"))
		d.Commit()
		wantOutput(t, d, "events", paid1)
		wantOrder(t, d, p, "o1", Order{Paid: true, Payments: 1})
		wantPosition(t, d, "commands", 2)
		wantMarkers(t, d, dedup.Applied)
	})
}

func TestS8FirstCommittedCopyWins(t *testing.T) {
	p := newPayments(paymentOptions{})
	d := p.driver(t, streamtest.Options{})
	d.Append("commands", confirm("o1", "p1"))
	d.Step()
	d.Abort()
	d.Append("commands", confirm("o1", "p1"))
	d.Commit()
	d.Redeliver("commands", 0, 0)
	d.Commit()
	wantOutput(t, d, "events", paid1)
	if m := wantMarkers(t, d, dedup.Applied); m[0].Offset != 0 {
		t.Fatalf("the marker names offset %d", m[0].Offset)
	}
	if cause := streamtest.Header(d.Output("events")[0], record.HeaderCause); cause != "commands/0@0" {
		t.Fatalf("the event is attributed to %s", cause)
	}
}

func TestS9FailureAfterTheForward(t *testing.T) {
	p := newPayments(paymentOptions{})
	p.after = func(*processor.Context[string, Confirmed], record.Record[string, string]) error { return errHandler }
	d := p.driver(t, streamtest.Options{})
	d.Append("commands", confirm("o1", "p1"))
	if err := d.TryCommit(); !errors.Is(err, errHandler) {
		t.Fatalf("the policy stops with %v", err)
	}
	if n := len(d.Probe("events")) + len(d.Markers()); n != 0 {
		t.Fatalf("%d events and markers after a failure", n)
	}
	wantOrder(t, d, p, "o1", Order{})
	wantPosition(t, d, "commands", 0)
	p.after = nil
	d.Commit()
	wantPaidOnce(t, d, p)
	wantRuns(t, p.runs, 2)
}

func TestS10NothingChangedStillLeavesAMarker(t *testing.T) {
	runs := 0
	topo := topology.New("shop")
	in := topology.Source(topo, "commands", "commands", serde.String(), serde.String(),
		topology.Deduplicate(dedup.Config{ID: dedup.Header(idName), Window: window}))
	topology.Process(topo, "ignore", in, func(*processor.Context[string, string], record.Record[string, string]) error {
		runs++
		return nil
	})
	d := streamtest.New(t, topo, streamtest.Options{})
	d.Pipe("commands", confirm("o1", "p1"))
	d.Commit()
	wantMarkers(t, d, dedup.Applied)
	d.Restart()
	d.Pipe("commands", confirm("o1", "p1"))
	d.Commit()
	wantRuns(t, runs, 1)
}

func TestS11Conflict(t *testing.T) {
	p := newPayments(paymentOptions{})
	d := p.driver(t, streamtest.Options{})
	other := streamtest.Text("o1", "another body").With(idName, "p1")
	d.Pipe("commands", confirm("o1", "p1"), other, other, confirm("o1", "p1"))
	d.Commit()
	wantOutput(t, d, "events", paid1)
	wantOrder(t, d, p, "o1", Order{Paid: true, Payments: 1})
	wantRuns(t, p.runs, 1)
	letters := wantLetters(t, d, string(problem.IDConflict))
	if string(letters[0].Value) != "another body" || streamtest.Header(letters[0], idName) != "p1" {
		t.Fatalf("the dead letter is %v", letters[0])
	}
}

// A message that is a dead letter itself, and other messages under its id, are dead letters of their own.
func TestS11ConflictsHaveIDsOfTheirOwn(t *testing.T) {
	p := newPayments(paymentOptions{failure: processor.DeadLetter()})
	p.after = func(*processor.Context[string, Confirmed], record.Record[string, string]) error { return errHandler }
	d := p.driver(t, streamtest.Options{})
	d.Pipe("commands", confirm("o1", "p1"), streamtest.Text("o1", "a").With(idName, "p1"), streamtest.Text("o1", "b").With(idName, "p1"))
	d.Commit()
	ids := map[string]bool{}
	for _, l := range d.DeadLetters() {
		ids[streamtest.Header(l, record.HeaderDeadLetterID)] = true
	}
	if len(d.DeadLetters()) != 3 || len(ids) != 3 {
		t.Fatalf("%d dead letters with %d ids, want 3 and 3", len(d.DeadLetters()), len(ids))
	}
}

func TestS12WithoutID(t *testing.T) {
	p := newPayments(paymentOptions{})
	d := p.driver(t, streamtest.Options{})
	d.Pipe("commands", streamtest.Text("o1", "confirm"), streamtest.Text("o1", "confirm"),
		streamtest.Text("o1", "confirm").With(idName, ""), streamtest.Text("o2", "confirm").With(idName, strings.Repeat("x", 10_000)))
	d.Commit()
	wantRuns(t, p.runs, 0)
	wantOutput(t, d, "events")
	letters := wantLetters(t, d, string(problem.IDMissing), string(problem.IDInvalid))
	if string(letters[0].Key) != "o1" || string(letters[0].Value) != "confirm" {
		t.Fatalf("the dead letter is %v", letters[0])
	}
	wantPosition(t, d, "commands", 4)
}

func TestS13EncodingIsFreeOfMessaging(t *testing.T) {
	state := func(o paymentOptions) []streamtest.Cell {
		p := newPayments(o)
		d := p.driver(t, streamtest.Options{})
		d.Pipe("commands", confirm("o1", "p1"), confirm("o2", "p2"), confirm("o1", "p3"))
		d.Commit()
		return slices.DeleteFunc(d.State(), func(c streamtest.Cell) bool { return c.Store != "orders" })
	}
	with, without := state(paymentOptions{}), state(paymentOptions{noDedup: true})
	if len(with) != 2 || !reflect.DeepEqual(with, without) {
		t.Fatalf("with deduplication %v, without %v", with, without)
	}
	if got := string(with[0].Value); got != `{"paid":true,"payments":2}` {
		t.Fatalf("the order is encoded as %s", got)
	}
}
