package streamtest_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/streamtest"
	"github.com/oncemill/oncemill/topology"
)

const (
	window = time.Hour
	idName = "message-id"
)

// Order is the aggregate of the payment scenarios: it knows nothing of messages.
type Order struct {
	Paid     bool `json:"paid"`
	Payments int  `json:"payments"`
}

// Confirmed is the event of a payment.
type Confirmed struct {
	Order   string `json:"order"`
	Attempt int    `json:"attempt"`
}

// payments is the ConfirmPayment topology. It counts the handler's runs; before, if set, runs first in the handler.
type payments struct {
	topo   *topology.Topology
	orders *statestore.KeyValueStore[string, Order]
	runs   int
	before func(ctx *processor.Context[string, Confirmed], r record.Record[string, string]) error
	after  func(ctx *processor.Context[string, Confirmed], r record.Record[string, string]) error
}

type paymentOptions struct {
	dedup   *dedup.Config // nil: the header message-id; see noDedup
	noDedup bool
	failure processor.Policy
	decode  processor.Policy
	produce processor.Policy
	sink    []topology.SinkOption
}

func newPayments(o paymentOptions) *payments {
	p := &payments{topo: topology.New("shop"), orders: statestore.KeyValue("orders", serde.String(), serde.JSON[Order]())}
	p.topo.Defaults(processor.Policies{Produce: o.produce})
	cfg := dedup.Config{ID: dedup.Header(idName), Window: window}
	if o.dedup != nil {
		cfg = *o.dedup
	}
	opts := []topology.SourceOption{topology.OnDecodeFailure(o.decode)}
	if !o.noDedup {
		opts = append(opts, topology.Deduplicate(cfg))
	}
	in := topology.Source(p.topo, "commands", "commands", serde.String(), serde.String(), opts...)
	events := topology.Process(p.topo, "confirm", in, p.handle, topology.Uses(p.orders), topology.OnFailure(o.failure))
	topology.Sink(p.topo, "events", events, "events", serde.String(), serde.JSON[Confirmed](), o.sink...)
	return p
}

func (p *payments) handle(ctx *processor.Context[string, Confirmed], r record.Record[string, string]) error {
	p.runs++
	if p.before != nil {
		if err := p.before(ctx, r); err != nil {
			return err
		}
	}
	order, _, err := p.orders.Get(ctx, r.Key)
	if err != nil {
		return err
	}
	order.Payments++
	order.Paid = true
	if err := p.orders.Put(ctx, r.Key, order); err != nil {
		return err
	}
	if err := ctx.Forward(record.New(r.Key, Confirmed{Order: r.Key, Attempt: order.Payments})); err != nil {
		return err
	}
	if p.after != nil {
		return p.after(ctx, r)
	}
	return nil
}

func (p *payments) driver(t testing.TB, o streamtest.Options) *streamtest.Driver {
	t.Helper()
	return streamtest.New(t, p.topo, o)
}

// confirm is the message ConfirmPayment with an id.
func confirm(order, id string) streamtest.Message {
	return streamtest.Text(order, "confirm").With(idName, id)
}

// wantOutput demands the committed values of a topic.
func wantOutput(t testing.TB, d *streamtest.Driver, topic string, want ...string) {
	t.Helper()
	var got []string
	for _, r := range d.Output(topic) {
		got = append(got, string(r.Value))
	}
	if fmt.Sprint(got) != fmt.Sprint(want) || len(got) != len(want) {
		t.Fatalf("topic %q: committed values %q, want %q", topic, got, want)
	}
}

func wantOrder(t testing.TB, d *streamtest.Driver, p *payments, key string, want Order) {
	t.Helper()
	if got, _ := streamtest.Get(d, p.orders, key); got != want {
		t.Fatalf("order %q is %+v, want %+v", key, got, want)
	}
}

func wantRuns(t testing.TB, got, want int) {
	t.Helper()
	if got != want {
		t.Fatalf("the handler ran %d times, want %d", got, want)
	}
}

// wantMarkers demands the outcomes of the live markers, in the order of the messages' positions.
func wantMarkers(t testing.TB, d *streamtest.Driver, want ...dedup.Outcome) []streamtest.Marker {
	t.Helper()
	markers := d.Markers()
	var got []dedup.Outcome
	for _, m := range markers {
		got = append(got, m.Outcome)
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Fatalf("markers %v, want %v", got, want)
	}
	return markers
}

func wantPosition(t testing.TB, d *streamtest.Driver, topic string, want int64) {
	t.Helper()
	if got := d.Position(topic, 0); got != want {
		t.Fatalf("the committed position of %q is %d, want %d", topic, got, want)
	}
}

// wantLetters demands the error codes of the committed dead letters.
func wantLetters(t testing.TB, d *streamtest.Driver, want ...string) []record.Raw {
	t.Helper()
	letters := d.DeadLetters()
	var got []string
	for _, l := range letters {
		got = append(got, streamtest.Header(l, "__streams.errors.exception"))
	}
	if fmt.Sprint(got) != fmt.Sprint(want) || len(got) != len(want) {
		for _, l := range letters {
			t.Logf("dead letter: %s", streamtest.Header(l, "__streams.errors.message"))
		}
		t.Fatalf("dead letters %q, want %q", got, want)
	}
	return letters
}

var errHandler = errors.New("the handler says no")

const paid1 = `{"order":"o1","attempt":1}`
