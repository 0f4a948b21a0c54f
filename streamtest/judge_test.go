package streamtest_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/streamtest"
	"github.com/oncemill/oncemill/topology"
)

// judge computes by plain loops what the log of commands must come to: of each id in each partition the first copy counts,
// in the order of the log; a bad one becomes a dead letter.
type judge struct {
	orders  map[string]int    // payments by order
	events  map[string]string // value by cause
	letters map[string]bool   // by position
}

func judgeLog(log []record.Raw) *judge {
	j := &judge{orders: map[string]int{}, events: map[string]string{}, letters: map[string]bool{}}
	seen := map[string]bool{}
	for _, r := range log {
		id := fmt.Sprint(r.Partition, "/", streamtest.Header(r, idName))
		if seen[id] {
			continue
		}
		seen[id] = true
		if string(r.Value) == "bad" {
			j.letters[r.Position.String()] = true
			continue
		}
		j.orders[string(r.Key)]++
		j.events[r.Position.String()] = fmt.Sprintf(`{"order":%q,"attempt":%d}`, r.Key, j.orders[string(r.Key)])
	}
	return j
}

// check holds the driver against the judge.
func (j *judge) check(t *testing.T, d *streamtest.Driver, p *payments) {
	t.Helper()
	events := d.Output("events")
	ids := map[string]bool{}
	for _, e := range events {
		cause, id := streamtest.Header(e, record.HeaderCause), streamtest.Header(e, record.HeaderID)
		if ids[id] || j.events[cause] != string(e.Value) {
			t.Fatalf("event %s of %s is %s, want %s once", id, cause, e.Value, j.events[cause])
		}
		ids[id] = true
	}
	if len(events) != len(j.events) {
		t.Fatalf("%d events, want %d", len(events), len(j.events))
	}
	letters := d.DeadLetters()
	for _, l := range letters {
		at := fmt.Sprintf("%s/%s@%s", streamtest.Header(l, "__streams.errors.topic"), streamtest.Header(l, "__streams.errors.partition"),
			streamtest.Header(l, "__streams.errors.offset"))
		if !j.letters[at] {
			t.Fatalf("a dead letter of %s", at)
		}
	}
	if len(letters) != len(j.letters) {
		t.Fatalf("%d dead letters, want %d", len(letters), len(j.letters))
	}
	entries := streamtest.Entries(d, p.orders)
	for _, e := range entries {
		if e.Value.Payments != j.orders[e.Key] {
			t.Fatalf("order %s has %d payments, want %d", e.Key, e.Value.Payments, j.orders[e.Key])
		}
	}
	if len(entries) != len(j.orders) {
		t.Fatalf("%d orders, want %d", len(entries), len(j.orders))
	}
	if got, want := len(d.Markers()), len(j.events)+len(j.letters); got != want {
		t.Fatalf("%d markers, want %d", got, want)
	}
}

// Random histories with duplicates, poison and faults at any moment come to what plain loops over the log compute.
func TestRandomHistoriesAgainstTheJudge(t *testing.T) {
	seeds := uint64(150 / raceSample)
	if testing.Short() {
		seeds = 20
	}
	struck := map[string]int{}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 0))
			p := newPayments(paymentOptions{failure: processor.DeadLetter(), sink: []topology.SinkOption{topology.OnProduceFailure(processor.Stop())}})
			broken := true
			failing(p, &broken)
			d := p.driver(t, streamtest.Options{Partitions: 1 + random.Int32N(3), CommitEvery: random.IntN(6)})
			for i := range 60 {
				m := confirm(fmt.Sprint("o", random.IntN(8)), fmt.Sprint("p", random.IntN(40)))
				if random.IntN(8) == 0 {
					m = bad(fmt.Sprint("o", random.IntN(8)), fmt.Sprint("bad", random.IntN(5)))
				}
				// An id belongs to one body: the order that it was first used with.
				m = pin(m, d)
				d.Append("commands", m)
				for range random.IntN(3) {
					d.Step()
				}
				if random.IntN(5) == 0 {
					f := faults[random.IntN(len(faults))]
					struck[f.name]++
					f.do(d)
				}
				if i%20 == 19 {
					d.Advance(time.Second)
				}
			}
			d.Commit()
			judgeLog(d.Output("commands")).check(t, d, p)
		})
	}
	for _, f := range faults {
		if struck[f.name] == 0 && !testing.Short() {
			t.Errorf("the fault %q never struck", f.name)
		}
	}
}

// pin makes a later copy of an id a true copy.
func pin(m streamtest.Message, d *streamtest.Driver) streamtest.Message {
	id := m.Header(idName)
	for _, r := range d.Output("commands") {
		if streamtest.Header(r, idName) == id {
			return streamtest.Copy(r)
		}
	}
	return m
}
