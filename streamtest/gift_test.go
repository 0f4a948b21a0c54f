package streamtest_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/streamtest"
	"github.com/oncemill/oncemill/topology"
)

// gifts sends one gift for a customer's first order: an output that depends on mutable state (P10).
type gifts struct {
	topo   *topology.Topology
	counts *statestore.KeyValueStore[string, int64]
	runs   int
}

func newGifts(policy dedup.Policy) *gifts {
	g := &gifts{topo: topology.New("gifts"), counts: statestore.KeyValue("counts", serde.String(), serde.Int64())}
	in := topology.Source(g.topo, "orders", "orders", serde.String(), serde.String(),
		topology.Deduplicate(dedup.Config{ID: dedup.Header(idName), Window: window, OnDuplicate: policy}))
	out := topology.Process(g.topo, "gift", in, g.handle, topology.Uses(g.counts))
	topology.Sink(g.topo, "gifts", out, "gifts", serde.String(), serde.String())
	return g
}

func (g *gifts) handle(ctx *processor.Context[string, string], r record.Record[string, string]) error {
	g.runs++
	n, _, err := g.counts.Get(ctx, r.Key)
	if err != nil {
		return err
	}
	if strings.HasPrefix(r.Value, "cancel ") {
		return g.counts.Put(ctx, r.Key, n-1)
	}
	if err := g.counts.Put(ctx, r.Key, n+1); err != nil || n > 0 {
		return err
	}
	return ctx.Forward(record.New(r.Key, "gift for "+r.Value))
}

// order is the message that places an order; its id is its name.
func order(name string) streamtest.Message {
	return streamtest.Text("customer", name).With(idName, name)
}

func (g *gifts) want(t testing.TB, d *streamtest.Driver, orders int64, sent ...string) {
	t.Helper()
	wantOutput(t, d, "gifts", sent...)
	if n, _ := streamtest.Get(d, g.counts, "customer"); n != orders {
		t.Fatalf("%d orders, want %d", n, orders)
	}
}

func TestS14OneGift(t *testing.T) {
	streamtest.Repeat(t, streamtest.Options{}, func(t *testing.T, o streamtest.Options) {
		g := newGifts(dedup.DropDuplicate)
		d := streamtest.New(t, g.topo, o)
		d.Pipe("orders", order("ABC"), order("DEF"))
		d.Commit()
		g.want(t, d, 2, "gift for ABC")
		if cause := streamtest.Header(d.Output("gifts")[0], record.HeaderCause); cause != "orders/0@0" {
			t.Fatalf("the gift's parent is %s", cause)
		}
	})
}

func TestS15CrashBetweenTheCopies(t *testing.T) {
	g := newGifts(dedup.DropDuplicate)
	d := streamtest.New(t, g.topo, streamtest.Options{})
	d.Append("orders", order("ABC"), order("DEF"))
	d.Run()
	d.Append("orders", order("ABC"), order("DEF"))
	d.Restart()
	d.Commit()
	g.want(t, d, 2, "gift for ABC")
}

func TestS16ReplayedOutputsAreThoseOfTheFirstRun(t *testing.T) {
	g := newGifts(dedup.ReplayOutputs)
	d := streamtest.New(t, g.topo, streamtest.Options{})
	d.Pipe("orders", order("ABC"), order("DEF"))
	d.Commit()
	d.Pipe("orders", order("ABC"), order("DEF"))
	d.Commit()
	g.want(t, d, 2, "gift for ABC", "gift for ABC")
	wantRuns(t, g.runs, 2)
	sent := d.Output("gifts")
	sent[1].Offset = sent[0].Offset
	wantSame(t, sent[1:], sent[:1])
}

func TestS17CancelDoesNotBringASecondGift(t *testing.T) {
	streamtest.Repeat(t, streamtest.Options{}, func(t *testing.T, o streamtest.Options) {
		g := newGifts(dedup.DropDuplicate)
		d := streamtest.New(t, g.topo, o)
		d.Append("orders", order("ABC"), order("DEF"), order("cancel DEF"), order("DEF"), order("ABC"))
		d.Commit()
		g.want(t, d, 1, "gift for ABC")
	})
}

func TestS18EveryOrderAndEveryFault(t *testing.T) {
	permute([]string{"ABC", "DEF", "ABC", "DEF"}, func(log []string) {
		first := log[0]
		for _, f := range faults {
			for at := range len(log) {
				t.Run(fmt.Sprintf("%v/%s/%d", log, f.name, at), func(t *testing.T) {
					g := newGifts(dedup.DropDuplicate)
					d := streamtest.New(t, g.topo, streamtest.Options{})
					for i, name := range log {
						d.Append("orders", order(name))
						if i == at {
							f.do(d)
						}
					}
					d.Commit()
					g.want(t, d, 2, "gift for "+first)
				})
			}
		}
	})
}

// permute calls fn with every distinct order of the names.
func permute(names []string, fn func([]string)) {
	var walk func(rest, taken []string)
	walk = func(rest, taken []string) {
		if len(rest) == 0 {
			fn(slices.Clone(taken))
		}
		for i, name := range rest {
			if slices.Index(rest, name) == i {
				walk(slices.Delete(slices.Clone(rest), i, i+1), append(slices.Clone(taken), name))
			}
		}
	}
	walk(names, nil)
}
