package streamtest_test

import (
	"encoding/hex"
	"fmt"
	"reflect"
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

func TestS21OutputAndStateComeFromOneRun(t *testing.T) {
	eachFault(t, func(t *testing.T, strike func(*streamtest.Driver)) {
		calls := 0
		stamps := statestore.KeyValue("stamps", serde.String(), serde.String())
		topo := topology.New("shop")
		in := topology.Source(topo, "commands", "commands", serde.String(), serde.String(),
			topology.Deduplicate(dedup.Config{ID: dedup.Header(idName), Window: window}))
		out := topology.Process(topo, "stamp", in, func(ctx *processor.Context[string, string], r record.Record[string, string]) error {
			calls++ // an outside call that answers differently each time
			stamp := fmt.Sprintf("%d at %d", calls, ctx.Now().UnixNano())
			if err := stamps.Put(ctx, r.Key, stamp); err != nil {
				return err
			}
			return ctx.Forward(record.New(r.Key, stamp))
		}, topology.Uses(stamps))
		topology.Sink(topo, "events", out, "events", serde.String(), serde.String())
		d := streamtest.New(t, topo, streamtest.Options{})
		d.Append("commands", confirm("o1", "p1"))
		strike(d)
		d.Advance(time.Second)
		d.Commit()
		state, _ := streamtest.Get(d, stamps, "o1")
		wantOutput(t, d, "events", state)
	})
}

func TestS22RemoveIsNotUndoneByACopyOfAdd(t *testing.T) {
	items := statestore.KeyValue("items", serde.String(), serde.String())
	build := func() *topology.Topology {
		topo := topology.New("basket")
		in := topology.Source(topo, "commands", "commands", serde.String(), serde.String(),
			topology.Deduplicate(dedup.Config{ID: dedup.Header(idName), Window: window}))
		topology.Process(topo, "basket", in, func(ctx *processor.Context[string, string], r record.Record[string, string]) error {
			if r.Value == "remove" {
				return items.Delete(ctx, r.Key)
			}
			return items.Put(ctx, r.Key, r.Value)
		}, topology.Uses(items))
		return topo
	}
	streamtest.Repeat(t, streamtest.Options{}, func(t *testing.T, o streamtest.Options) {
		d := streamtest.New(t, build(), o)
		add, remove := streamtest.Text("book", "add").With(idName, "a"), streamtest.Text("book", "remove").With(idName, "r")
		d.Append("commands", add, remove, remove, add)
		d.Commit()
		if _, found := streamtest.Get(d, items, "book"); found {
			t.Fatal("the item is back")
		}
	})
}

func TestS43DuplicateAfterAMove(t *testing.T) {
	p := newPayments(paymentOptions{})
	d := p.driver(t, streamtest.Options{})
	d.Pipe("commands", confirm("o1", "p1"))
	d.Commit()
	d.Move(0)
	d.Pipe("commands", confirm("o1", "p1"), confirm("o1", "p2"))
	d.Commit()
	d.Move(0) // back to a disk that knows nothing of p2
	d.Pipe("commands", confirm("o1", "p2"))
	d.Commit()
	wantRuns(t, p.runs, 2)
	wantOrder(t, d, p, "o1", Order{Paid: true, Payments: 2})
	wantOutput(t, d, "events", paid1, `{"order":"o1","attempt":2}`)
}

func TestS44RestoredStateIsByteEqual(t *testing.T) {
	p := newPayments(paymentOptions{dedup: replaying()})
	d := p.driver(t, streamtest.Options{Partitions: 3})
	for i := range 20 {
		d.Pipe("commands", confirm(fmt.Sprint("o", i%7), fmt.Sprint("p", i)))
		d.Commit()
	}
	d.Checkpoint()
	before := d.State()
	d.RestartWithEmptyDisk()
	if after := d.State(); !reflect.DeepEqual(before, after) {
		t.Fatalf("restored\n%v\nwant\n%v", after, before)
	}
	d.Pipe("commands", confirm("o3", "p3"))
	d.Commit()
	wantRuns(t, p.runs, 20)
}

func TestS46ResetOffsets(t *testing.T) {
	p := newPayments(paymentOptions{})
	d := p.driver(t, streamtest.Options{})
	d.Pipe("commands", confirm("o1", "p1"), confirm("o1", "p2"))
	d.Commit()
	before, outputs := d.State(), d.Output("events")
	d.Redeliver("commands", 0, 0)
	d.Commit()
	if !reflect.DeepEqual(d.State(), before) {
		t.Fatal("a redelivery changed the state")
	}
	wantSame(t, d.Output("events"), outputs)
	wantRuns(t, p.runs, 2)
	if n := d.Stats().Verdicts[dedup.Redelivery]; n != 2 {
		t.Fatalf("%d redeliveries counted, want 2", n)
	}
}

// A redelivery whose marker has expired is found by its position.
func TestR4RedeliveryWithoutItsMarker(t *testing.T) {
	p := newPayments(paymentOptions{})
	d := p.driver(t, streamtest.Options{})
	d.Pipe("commands", confirm("o1", "p1"))
	d.Commit()
	d.Advance(3 * window)
	d.Pipe("commands", confirm("o1", "p2"))
	d.Commit()
	if m := wantMarkers(t, d, dedup.Applied); m[0].Offset != 1 {
		t.Fatalf("the marker that is left is of offset %d", m[0].Offset)
	}
	d.Redeliver("commands", 0, 0)
	d.Commit()
	wantRuns(t, p.runs, 2)
	wantOrder(t, d, p, "o1", Order{Paid: true, Payments: 2})
	wantOutput(t, d, "events", paid1, `{"order":"o1","attempt":2}`)
	if n := d.Stats().Verdicts[dedup.Redelivery]; n != 2 {
		t.Fatalf("%d redeliveries counted, want 2", n)
	}
}

func TestS48RecreatedTopic(t *testing.T) {
	p := newPayments(paymentOptions{})
	d := p.driver(t, streamtest.Options{})
	d.Pipe("commands", confirm("o1", "p1"), confirm("o1", "p2"))
	d.Commit()
	d.Recreate("commands")
	d.Pipe("commands", confirm("o1", "p3"), confirm("o1", "p1"))
	d.Commit()
	wantRuns(t, p.runs, 3)
	wantOrder(t, d, p, "o1", Order{Paid: true, Payments: 3})
	s := d.Stats().Verdicts
	if s[dedup.Redelivery] != 0 || s[dedup.Duplicate] != 1 {
		t.Fatalf("verdicts %v: want p3 new and p1 a duplicate", s)
	}
	ids := map[string]bool{}
	for _, e := range d.Output("events") {
		ids[streamtest.Header(e, record.HeaderID)] = true
	}
	if len(ids) != 3 {
		t.Fatalf("3 events have %d ids", len(ids))
	}
}

// issued is ConfirmPayment with an issue time.
func issued(d *streamtest.Driver, id string, at time.Time) streamtest.Message {
	return confirm("o1", id).With("issued", at.UTC().Format(time.RFC3339Nano)).At(d.Now())
}

func withIssueTime() *dedup.Config {
	return &dedup.Config{ID: dedup.Header(idName), Window: window, IssueTime: dedup.IssueHeader("issued")}
}

func TestS50Retention(t *testing.T) {
	p := newPayments(paymentOptions{dedup: withIssueTime()})
	d := p.driver(t, streamtest.Options{})
	start := d.Now()
	p1 := issued(d, "p1", start)
	d.Pipe("commands", p1)
	d.Commit()
	d.Advance(window - time.Minute)
	d.Pipe("commands", issued(d, "p2", d.Now()), p1.At(d.Now()))
	d.Commit()
	wantRuns(t, p.runs, 2)
	wantLetters(t, d)
	d.Advance(2 * window)
	d.Pipe("commands", issued(d, "p3", d.Now()), p1.At(d.Now()), p1.At(d.Now()))
	d.Commit()
	wantRuns(t, p.runs, 3)
	wantLetters(t, d, string(problem.IDTooOld))
	wantOrder(t, d, p, "o1", Order{Paid: true, Payments: 3})
	wantOutput(t, d, "events", paid1, `{"order":"o1","attempt":2}`, `{"order":"o1","attempt":3}`)
	for _, m := range d.Markers() {
		if m.Offset < 2 {
			t.Fatalf("the marker of offset %d is still there", m.Offset)
		}
	}
	// The markers that are left are the same on every replay.
	before := d.State()
	d.RestartWithEmptyDisk()
	if !reflect.DeepEqual(d.State(), before) {
		t.Fatal("the restored markers differ")
	}
}

func TestS50EvictionIsTheSameInEveryRun(t *testing.T) {
	streamtest.Repeat(t, streamtest.Options{}, func(t *testing.T, o streamtest.Options) {
		p := newPayments(paymentOptions{dedup: &dedup.Config{ID: dedup.Header(idName), Window: 10 * time.Minute}})
		d := p.driver(t, o)
		for i := range 30 {
			d.Append("commands", confirm("o1", fmt.Sprint("p", i)).At(d.Now().Add(time.Duration(i)*time.Minute)))
		}
		d.Commit()
		if n := len(d.Markers()); n < 10 || n > 16 {
			t.Fatalf("%d markers live, a window holds 10 and a bucket 5", n)
		}
		wantRunsAtLeast(t, p.runs, 30)
	})
}

func wantRunsAtLeast(t testing.TB, got, want int) {
	t.Helper()
	if got < want {
		t.Fatalf("the handler ran %d times, want at least %d", got, want)
	}
}

func TestS52KindIsPartOfTheScope(t *testing.T) {
	p := newPayments(paymentOptions{dedup: &dedup.Config{ID: dedup.Header(idName), Window: window,
		Kind: func(r *record.Raw) string { return string(r.Value) }}})
	d := p.driver(t, streamtest.Options{})
	start, end := streamtest.Text("game", "start").With(idName, "7"), streamtest.Text("game", "end").With(idName, "7")
	d.Pipe("commands", start, end, start, end)
	d.Commit()
	wantRuns(t, p.runs, 2)
	wantOrder(t, d, p, "game", Order{Paid: true, Payments: 2})
	wantMarkers(t, d, dedup.Applied, dedup.Applied)
	events := d.Output("events")
	if len(events) != 2 {
		t.Fatalf("%d events", len(events))
	}
	if a, b := streamtest.Header(events[0], record.HeaderID), streamtest.Header(events[1], record.HeaderID); a == b {
		t.Fatalf("both events have the id %s", a)
	}
}

// The scope is part of the cause: two sources that see equal ids at equal nodes give outputs of different ids.
func TestOutputIDsDependOnTheScope(t *testing.T) {
	id := func(scope string) string {
		p := newPayments(paymentOptions{dedup: &dedup.Config{ID: dedup.Header(idName), Window: window, Scope: scope}})
		d := p.driver(t, streamtest.Options{})
		d.Pipe("commands", confirm("o1", "p1"))
		d.Commit()
		return streamtest.Header(d.Output("events")[0], record.HeaderID)
	}
	if a, b := id("one"), id("two"); a == b {
		t.Fatalf("scopes one and two give the same output id %s", a)
	}
	want := dedup.CauseOfMessage("shop", "one", "", []byte("p1")).OutputID(dedup.SlotOf("events", 0))
	if got := id("one"); got != hex.EncodeToString(want[:]) {
		t.Fatalf("output id %s, want %x", got, want)
	}
}

func TestS53PoisonInABatch(t *testing.T) {
	for k := range 5 {
		t.Run(fmt.Sprint("position=", k), func(t *testing.T) {
			streamtest.Repeat(t, streamtest.Options{}, func(t *testing.T, o streamtest.Options) {
				p := newPayments(paymentOptions{failure: processor.DeadLetter()})
				p.after = func(_ *processor.Context[string, Confirmed], r record.Record[string, string]) error {
					if r.Value == "poison" {
						return errHandler
					}
					return nil
				}
				d := p.driver(t, o)
				for i := range 5 {
					m := confirm(fmt.Sprint("o", i), fmt.Sprint("p", i))
					if i == k {
						m = streamtest.Text("o1", "poison").With(idName, "bad").With("trace", "t1")
						d.Append("commands", m)
					}
					d.Append("commands", m)
				}
				d.Commit()
				if n := len(d.Output("events")); n != 4 {
					t.Fatalf("%d events, want 4", n)
				}
				wantPosition(t, d, "commands", 6)
				if orders := streamtest.Entries(d, p.orders); len(orders) != 4 || len(d.Markers()) != 5 {
					t.Fatalf("orders %v, %d markers", orders, len(d.Markers()))
				}
				letters := d.DeadLetters()
				if len(letters) != 1 || string(letters[0].Value) != "poison" || string(letters[0].Key) != "o1" ||
					streamtest.Header(letters[0], "trace") != "t1" || streamtest.Header(letters[0], idName) != "bad" {
					t.Fatalf("dead letters %v", letters)
				}
			})
		})
	}
}

// chain is a second application that counts the events of the first, deduplicated by their output ids.
func chain() (*topology.Topology, *statestore.KeyValueStore[string, int64]) {
	counts := statestore.KeyValue("event-counts", serde.String(), serde.Int64())
	topo := topology.New("billing")
	in := topology.Source(topo, "events", "events", serde.String(), serde.JSON[Confirmed](),
		topology.Deduplicate(dedup.Config{ID: dedup.OutputID(), Window: window}))
	out := topology.Process(topo, "bill", in, func(ctx *processor.Context[string, string], r record.Record[string, Confirmed]) error {
		n, _, err := counts.Get(ctx, r.Key)
		if err != nil {
			return err
		}
		if err := counts.Put(ctx, r.Key, n+1); err != nil {
			return err
		}
		return ctx.Forward(record.New(r.Key, fmt.Sprint("bill ", n+1)))
	}, topology.Uses(counts))
	topology.Sink(topo, "bills", out, "bills", serde.String(), serde.String())
	return topo, counts
}

func TestS54SecondStageAppliesOnce(t *testing.T) {
	p := newPayments(paymentOptions{dedup: replaying()})
	first := p.driver(t, streamtest.Options{})
	first.Pipe("commands", confirm("o1", "p1"), confirm("o1", "p2"), confirm("o1", "p1"), confirm("o1", "p2"))
	first.Commit()
	if n := len(first.Output("events")); n != 4 {
		t.Fatalf("the first stage sent %d events, want each twice", n)
	}
	topo, counts := chain()
	second := streamtest.New(t, topo, streamtest.Options{})
	for _, e := range first.Output("events") {
		second.Pipe("events", streamtest.Copy(e))
		second.Commit()
	}
	if n, _ := streamtest.Get(second, counts, "o1"); n != 2 {
		t.Fatalf("the second stage counted %d events, want 2", n)
	}
	wantOutput(t, second, "bills", "bill 1", "bill 2")
	seen := map[string]bool{}
	for _, b := range second.Output("bills") {
		id := streamtest.Header(b, record.HeaderID)
		for _, e := range first.Output("events") {
			if id == streamtest.Header(e, record.HeaderID) {
				t.Fatalf("the bill inherited the id %s of its input", id)
			}
		}
		if cause := streamtest.Header(b, record.HeaderCause); !strings.HasPrefix(cause, "events/0@") || seen[id] {
			t.Fatalf("bill %s of %s", id, cause)
		}
		seen[id] = true
	}
}
