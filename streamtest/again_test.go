package streamtest_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/streamtest"
)

// Sending again on purpose: dead letters that are replayed, and delayed retries.

func TestS58ReplayedDeadLetterRunsOnce(t *testing.T) {
	streamtest.Repeat(t, streamtest.Options{}, func(t *testing.T, o streamtest.Options) {
		broken := true
		p := newPayments(paymentOptions{failure: processor.DeadLetter()})
		failing(p, &broken)
		d := p.driver(t, o)
		d.Pipe("commands", bad("o1", "p1"))
		d.Commit()
		wantLetters(t, d, string(problem.HandlerFailed))
		wantOutput(t, d, "events")
		broken = false
		d.ReplayDeadLetter(0, false)
		d.ReplayDeadLetter(0, false)
		d.Commit()
		d.Pipe("commands", bad("o1", "p1"))
		d.Commit()
		wantOutput(t, d, "events", paid1)
		wantOrder(t, d, p, "o1", Order{Paid: true, Payments: 1})
		if m := wantMarkers(t, d, dedup.Applied); m[0].Replay != 1 || m[0].Forced {
			t.Fatalf("the marker is %+v", m[0])
		}
		for _, h := range d.Output("events")[0].Headers {
			if h.Key != record.HeaderID && h.Key != record.HeaderCause {
				t.Fatalf("the header %s passed through to the output", h.Key)
			}
		}
	})
}

func TestS58ReplayFailsAgain(t *testing.T) {
	broken := true
	p := newPayments(paymentOptions{failure: processor.DeadLetter()})
	failing(p, &broken)
	d := p.driver(t, streamtest.Options{Partitions: 3})
	d.Pipe("commands", bad("o1", "p1"))
	d.Commit()
	d.ReplayDeadLetter(0, false)
	d.Commit()
	letters := d.DeadLetters()
	if len(letters) != 2 || streamtest.Header(letters[0], record.HeaderDeadLetterReplay) != "1" ||
		streamtest.Header(letters[1], record.HeaderDeadLetterReplay) != "2" ||
		streamtest.Header(letters[0], record.HeaderDeadLetterID) == streamtest.Header(letters[1], record.HeaderDeadLetterID) {
		t.Fatalf("dead letters %v", letters)
	}
	broken = false
	d.RestartWithEmptyDisk()
	d.ReplayDeadLetter(0, false) // number 1 was used
	d.ReplayDeadLetter(1, false)
	d.ReplayDeadLetter(1, false)
	d.Commit()
	wantOutput(t, d, "events", paid1)
	if len(d.DeadLetters()) != 2 {
		t.Fatalf("%d dead letters", len(d.DeadLetters()))
	}
}

func TestS59ReplayAfterTheMarkerExpired(t *testing.T) {
	broken := true
	p := newPayments(paymentOptions{failure: processor.DeadLetter()})
	failing(p, &broken)
	d := p.driver(t, streamtest.Options{})
	d.Pipe("commands", bad("o1", "p1"))
	d.Commit()
	broken = false
	d.Advance(3 * window)
	d.Pipe("commands", confirm("o2", "p2"))
	d.Commit()
	runs := p.runs
	d.ReplayDeadLetter(0, false)
	d.ReplayDeadLetter(0, false)
	d.Commit()
	wantRuns(t, p.runs, runs)
	letters := d.DeadLetters()
	if len(letters) != 2 || streamtest.Header(letters[1], "__streams.errors.exception") != string(problem.ReplayRefused) {
		t.Fatalf("dead letters %v, want a refused replay", letters)
	}
	d.ReplayDeadLetter(0, true)
	d.ReplayDeadLetter(0, true)
	d.Commit()
	wantRuns(t, p.runs, runs+1)
	wantOrder(t, d, p, "o1", Order{Paid: true, Payments: 1})
	forced := 0
	for _, m := range d.Markers() {
		if m.Forced {
			forced++
		}
	}
	if forced != 1 {
		t.Fatalf("%d markers say that a replay was forced, want 1", forced)
	}
}

func TestS60DelayedRetryIsNoDuplicateOfItself(t *testing.T) {
	streamtest.Repeat(t, streamtest.Options{}, func(t *testing.T, o streamtest.Options) {
		p := newPayments(paymentOptions{failure: processor.DelayedRetry(processor.DeadLetter(), time.Second, time.Minute)})
		d := p.driver(t, o)
		start := d.Now()
		p.after = func(ctx *processor.Context[string, Confirmed], r record.Record[string, string]) error {
			if r.Value == "bad" && ctx.Now().Before(start.Add(30*time.Second)) {
				return errHandler
			}
			return nil
		}
		d.Append("commands", bad("o1", "p1"), confirm("o1", "p2"), bad("o1", "p1"))
		d.Commit()
		wantOutput(t, d, "events", paid1) // p2 has overtaken
		wantPosition(t, d, "commands", 3)
		wantMarkers(t, d, dedup.Parked, dedup.Applied)
		if parked := d.Parked(); len(parked) != 1 || string(parked[0].Value) != "bad" || parked[0].Offset != 0 {
			t.Fatalf("parked %v", parked)
		}
		d.Advance(2 * time.Second)
		d.Commit()
		wantOutput(t, d, "events", paid1)
		wantMarkers(t, d, dedup.Parked, dedup.Applied)
		d.Pipe("commands", bad("o1", "p1"))
		d.Advance(2 * time.Minute)
		d.Commit()
		wantOutput(t, d, "events", paid1, `{"order":"o1","attempt":2}`)
		wantMarkers(t, d, dedup.Applied, dedup.Applied)
		if len(d.Parked()) != 0 || len(d.DeadLetters()) != 0 {
			t.Fatalf("%d parked records, %d dead letters", len(d.Parked()), len(d.DeadLetters()))
		}
		if cause := streamtest.Header(d.Output("events")[1], record.HeaderCause); cause != "commands/0@0" {
			t.Fatalf("the cause is %s", cause)
		}
	})
}

func TestDelayedRetryEndsInTheDeadLetters(t *testing.T) {
	broken := true
	p := newPayments(paymentOptions{failure: processor.DelayedRetry(processor.DeadLetter(), time.Second, time.Second)})
	failing(p, &broken)
	d := p.driver(t, streamtest.Options{})
	d.Pipe("commands", bad("o1", "p1"))
	d.Commit()
	for range 5 {
		d.Advance(time.Minute)
		d.Commit()
	}
	wantRuns(t, p.runs, 3)
	wantLetters(t, d, string(problem.HandlerFailed))
	wantMarkers(t, d, dedup.DeadLettered)
	if len(d.Parked()) != 0 {
		t.Fatal("the record is still parked")
	}
	broken = false
	d.ReplayDeadLetter(0, false)
	d.Commit()
	wantOutput(t, d, "events", paid1)
}

func TestDelayedRetryInOrder(t *testing.T) {
	streamtest.Repeat(t, streamtest.Options{}, func(t *testing.T, o streamtest.Options) {
		p := newPayments(paymentOptions{failure: processor.DelayedRetryInOrder(processor.DeadLetter(), time.Second, time.Minute)})
		d := p.driver(t, o)
		start := d.Now()
		var applied []string
		p.after = func(ctx *processor.Context[string, Confirmed], r record.Record[string, string]) error {
			if r.Value == "bad" && ctx.Now().Before(start.Add(30*time.Second)) {
				return errHandler
			}
			applied = append(applied, r.Key)
			return nil
		}
		d.Append("commands", bad("o1", "p1"), confirm("o1", "p2"), confirm("o2", "p3"), confirm("o1", "p4"), confirm("o1", "p2"))
		d.Commit()
		wantOutput(t, d, "events", `{"order":"o2","attempt":1}`)
		wantMarkers(t, d, dedup.Parked, dedup.Parked, dedup.Applied, dedup.Parked)
		d.Advance(2 * time.Second)
		d.Commit()
		wantMarkers(t, d, dedup.Parked, dedup.Parked, dedup.Applied, dedup.Parked)
		d.Advance(2 * time.Minute)
		d.Pipe("commands", confirm("o1", "p5"))
		d.Commit()
		wantMarkers(t, d, dedup.Applied, dedup.Applied, dedup.Applied, dedup.Applied, dedup.Applied)
		var causes []string
		for _, e := range d.Output("events") {
			causes = append(causes, streamtest.Header(e, record.HeaderCause))
		}
		if got := fmt.Sprint(causes); got != "[commands/0@2 commands/0@0 commands/0@1 commands/0@3 commands/0@5]" {
			t.Fatalf("order of the events: %s", got)
		}
		wantOrder(t, d, p, "o1", Order{Paid: true, Payments: 4})
	})
}

// The marker of a parked record is not evicted while the record waits.
func TestR8ParkedRecordOutlivesItsWindow(t *testing.T) {
	p := newPayments(paymentOptions{failure: processor.DelayedRetry(processor.DeadLetter(), 10*window)})
	broken := true
	failing(p, &broken)
	d := p.driver(t, streamtest.Options{})
	d.Pipe("commands", bad("o1", "p1"))
	d.Commit()
	for i := range 6 {
		d.Advance(window)
		d.Pipe("commands", confirm("o2", fmt.Sprint("x", i)), bad("o1", "p1"))
		d.Commit()
	}
	if len(d.Parked()) != 1 {
		t.Fatalf("%d records are parked: a duplicate was admitted", len(d.Parked()))
	}
	broken = false
	d.RestartWithEmptyDisk()
	d.Advance(10 * window)
	d.Commit()
	wantOrder(t, d, p, "o1", Order{Paid: true, Payments: 1})
}

// There are more of them than are renewed at a time.
func TestR8ManyParkedRecordsOutliveTheirWindow(t *testing.T) {
	p := newPayments(paymentOptions{failure: processor.DelayedRetry(processor.DeadLetter(), 10*window)})
	broken := true
	failing(p, &broken)
	d := p.driver(t, streamtest.Options{})
	const n = 300
	send := func() {
		for i := range n {
			d.Append("commands", bad(fmt.Sprint("o", i), fmt.Sprint("p", i)))
		}
	}
	send()
	d.Commit()
	for i := range 3 {
		d.Advance(window)
		d.Append("commands", confirm("other", fmt.Sprint("x", i)))
		send()
		d.Commit()
	}
	if len(d.Parked()) != n {
		t.Fatalf("%d records are parked, want %d: a duplicate was admitted", len(d.Parked()), n)
	}
	broken = false
	d.Advance(10 * window)
	d.Commit()
	for i := range n {
		wantOrder(t, d, p, fmt.Sprint("o", i), Order{Paid: true, Payments: 1})
	}
}

// A refused record moves marker time, too, and with it the buckets: the marker of a parked record is written again then as well.
func TestR8ParkedRecordOutlivesItsWindowAmongRefusedRecords(t *testing.T) {
	p := newPayments(paymentOptions{failure: processor.DelayedRetry(processor.DeadLetter(), 10*window)})
	broken := true
	failing(p, &broken)
	d := p.driver(t, streamtest.Options{})
	d.Pipe("commands", bad("o1", "p1"))
	d.Commit()
	for i := range 6 {
		d.Advance(window)
		d.Pipe("commands", streamtest.Text("o2", fmt.Sprint("without an id ", i)), bad("o1", "p1"))
		d.Commit()
	}
	if n, letters := len(d.Parked()), len(d.DeadLetters()); n != 1 || letters != 6 {
		t.Fatalf("%d records are parked, %d dead letters, want 1 and 6: a duplicate was admitted", n, letters)
	}
}

// A long queue behind a parked record is bounded like timers are: else it would make one transaction that the broker aborts
// for its length, again and again.
func TestQueueBehindAParkedRecordIsBounded(t *testing.T) {
	p := newPayments(paymentOptions{failure: processor.DelayedRetryInOrder(processor.DeadLetter(), time.Second)})
	broken := true
	failing(p, &broken)
	d := p.driver(t, streamtest.Options{MaxTimers: 4, CommitEvery: 4})
	d.Pipe("commands", bad("o1", "p0"))
	for i := range 20 {
		d.Pipe("commands", confirm("o1", fmt.Sprint("p", i+1)))
	}
	d.Commit()
	wantOutput(t, d, "events")
	broken = false
	d.Advance(time.Minute)
	d.Commit()
	events := d.Output("events")
	if len(events) != 21 || len(d.Parked()) != 0 {
		t.Fatalf("%d events, %d records are still parked", len(events), len(d.Parked()))
	}
	inOne := 1 // a transaction's marker takes an offset between two transactions
	for i := 1; i < len(events); i++ {
		if want := fmt.Sprint("commands/0@", i); streamtest.Header(events[i], record.HeaderCause) != want {
			t.Fatalf("event %d is that of %s", i, streamtest.Header(events[i], record.HeaderCause))
		}
		if inOne++; events[i].Offset != events[i-1].Offset+1 {
			inOne = 1
		}
		if inOne > 4 {
			t.Fatalf("%d records of the queue in one transaction", inOne)
		}
	}
}

// A test that closes its driver is repeated and compared as well.
func TestRepeatOfATestThatClosesItsDriver(t *testing.T) {
	runs := 0
	streamtest.Repeat(t, streamtest.Options{}, func(t *testing.T, o streamtest.Options) {
		runs++
		topo, sums := totals()
		d, err := streamtest.Open(topo, o)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		d.Pipe("amounts", amount("m1", "anna", 5), amount("m1", "anna", 5), amount("m2", "anna", 2))
		d.Commit()
		if sum, _ := streamtest.Get(d, sums, "anna"); sum != 7 || d.Err() != nil {
			t.Errorf("the sum is %d; %v", sum, d.Err())
		}
	})
	if runs < 20 {
		t.Errorf("it ran %d times", runs)
	}
}
