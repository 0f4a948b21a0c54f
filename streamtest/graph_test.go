package streamtest_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
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

// sales counts units by product: customers are the key of the input, products that of the repartition topic.
type sales struct {
	topo  *topology.Topology
	units *statestore.KeyValueStore[string, int64]
	mu    struct {
		sync.Mutex
		splits, counts int // handler runs on both sides of the repartition topic
	}
}

func newSales(opts ...topology.SinkOption) *sales {
	s := &sales{topo: topology.New("sales"), units: statestore.KeyValue("units", serde.String(), serde.Int64())}
	in := topology.Source(s.topo, "lines", "lines", serde.String(), serde.String(),
		topology.Deduplicate(dedup.Config{ID: dedup.Header(idName), Window: window}))
	byProduct := topology.Process(s.topo, "split", in, s.split)
	products := topology.Repartition(s.topo, "by-product", byProduct, serde.String(), serde.String(), opts...)
	counts := topology.Process(s.topo, "count", products, s.count, topology.Uses(s.units))
	topology.Sink(s.topo, "totals", counts, "totals", serde.String(), serde.Int64())
	return s
}

func (s *sales) split(ctx *processor.Context[string, string], r record.Record[string, string]) error {
	s.mu.Lock()
	s.mu.splits++
	s.mu.Unlock()
	for product := range strings.FieldsSeq(r.Value) {
		if err := ctx.Forward(record.New(product, r.Key)); err != nil {
			return err
		}
	}
	return nil
}

func (s *sales) count(ctx *processor.Context[string, int64], r record.Record[string, string]) error {
	s.mu.Lock()
	s.mu.counts++
	s.mu.Unlock()
	n, _, err := s.units.Get(ctx, r.Key)
	if err != nil {
		return err
	}
	if err := s.units.Put(ctx, r.Key, n+1); err != nil {
		return err
	}
	return ctx.Forward(record.New(r.Key, n+1))
}

// runs is how often the handlers before and behind the repartition topic ran.
func (s *sales) runs() (splits, counts int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.splits, s.mu.counts
}

func TestRepartitionMeetsByTheNewKey(t *testing.T) {
	streamtest.Repeat(t, streamtest.Options{Partitions: 4}, func(t *testing.T, o streamtest.Options) {
		shop := newSales(topology.Partitions(3))
		units, d := shop.units, streamtest.New(t, shop.topo, o)
		want := map[string]int64{}
		for i := range 25 {
			line := fmt.Sprintf("p%d p%d", i%5, i%3)
			for product := range strings.FieldsSeq(line) {
				want[product]++
			}
			m := streamtest.Text(fmt.Sprint("customer", i), line).With(idName, fmt.Sprint("line", i))
			d.Append("lines", m)
			if i%4 == 0 {
				d.Append("lines", m)
			}
		}
		d.Commit()
		for product, n := range want {
			if got, _ := streamtest.Get(d, units, product); got != n {
				t.Fatalf("%d units of %s, want %d", got, product, n)
			}
		}
		if got := len(streamtest.Entries(d, units)); got != len(want) {
			t.Fatalf("%d entries for %d products: a product lies in two partitions", got, len(want))
		}
		last := map[string]int64{}
		for _, r := range streamtest.Read(d, "totals", serde.String(), serde.Int64()) {
			if r.Value != last[r.Key]+1 {
				t.Fatalf("total %d of %s comes after %d", r.Value, r.Key, last[r.Key])
			}
			last[r.Key] = r.Value
		}
		if n := len(d.Output("sales-by-product-repartition")); n != 50 {
			t.Fatalf("%d records in the repartition topic, want 50", n)
		}
	})
}

func TestRepartitionIsProcessedAfterTheCommitOnly(t *testing.T) {
	shop := newSales()
	units, d := shop.units, streamtest.New(t, shop.topo, streamtest.Options{})
	d.Pipe("lines", streamtest.Text("c", "p1").With(idName, "1"))
	if _, found := streamtest.Get(d, units, "p1"); found {
		t.Fatal("an uncommitted record was processed by the next sub-topology")
	}
	d.CommitOnce()
	d.Run()
	d.Abort()
	d.Commit()
	if n, _ := streamtest.Get(d, units, "p1"); n != 1 {
		t.Fatalf("%d units", n)
	}
	if n := d.Transactions("by-product_0"); n != 1 {
		t.Fatalf("%d transactions", n)
	}
}

// Two paths that meet again are no cycle.
func TestTwoPathsIntoOneSubTopology(t *testing.T) {
	topo := topology.New("diamond")
	pass := func(name string, in topology.Stream[string, string]) topology.Stream[string, string] {
		return topology.Process(topo, name, in, func(ctx *processor.Context[string, string], r record.Record[string, string]) error {
			return ctx.Forward(record.New(r.Key, r.Value+" "+name))
		})
	}
	left := pass("left", topology.Source(topo, "in-left", "in-left", serde.String(), serde.String()))
	right := pass("right", topology.Source(topo, "in-right", "in-right", serde.String(), serde.String()))
	a := topology.Repartition(topo, "a", left, serde.String(), serde.String())
	b := topology.Repartition(topo, "b", right, serde.String(), serde.String())
	topology.Sink(topo, "out", topology.Merge(topo, "both", a, b), "out", serde.String(), serde.String())
	d := streamtest.New(t, topo, streamtest.Options{})
	d.Pipe("in-left", streamtest.Text("k", "1"))
	d.Pipe("in-right", streamtest.Text("k", "2"))
	d.Commit()
	wantOutput(t, d, "out", "1 left", "2 right")
}

func TestBranchAndForwardTo(t *testing.T) {
	topo := topology.New("branch")
	in := topology.Source(topo, "in", "in", serde.String(), serde.String())
	arms := topology.Branch(topo, "size", in,
		topology.Case[string, string]{Name: "large", When: func(r record.Record[string, string]) bool { return len(r.Value) > 3 }},
		topology.Case[string, string]{Name: "none", When: func(r record.Record[string, string]) bool { return r.Value == "" }},
		topology.Case[string, string]{Name: "rest"})
	topology.Sink(topo, "large", arms[0], "large", serde.String(), serde.String())
	topology.Sink(topo, "rest", arms[2], "rest", serde.String(), serde.String())
	named := topology.Process(topo, "named", arms[1], func(ctx *processor.Context[string, string], r record.Record[string, string]) error {
		if err := ctx.ForwardTo("second", r); err != nil {
			return err
		}
		return ctx.ForwardTo("third", r)
	}, topology.OnFailure(processor.DeadLetter()))
	topology.Sink(topo, "first", named, "first", serde.String(), serde.String())
	topology.Sink(topo, "second", named, "second", serde.String(), serde.String())
	d := streamtest.New(t, topo, streamtest.Options{})
	d.Pipe("in", streamtest.Text("k", "long text"), streamtest.Text("k", "abc"), streamtest.Text("k", ""))
	d.Commit()
	wantOutput(t, d, "large", "long text")
	wantOutput(t, d, "rest", "abc")
	wantOutput(t, d, "first")
	wantOutput(t, d, "second") // rolled back: there is no third
	wantLetters(t, d, string(problem.HandlerFailed))
}

func TestUnequalPartitionsAreRefused(t *testing.T) {
	topo := topology.New("pair")
	a := topology.Source(topo, "a", "a", serde.String(), serde.String())
	b := topology.Source(topo, "b", "b", serde.String(), serde.String())
	topology.Sink(topo, "out", topology.Merge(topo, "both", a, b), "out", serde.String(), serde.String())
	_, err := streamtest.Open(topo, streamtest.Options{Topics: map[string]int32{"a": 2, "b": 3}})
	if !errors.Is(err, &problem.Error{Code: problem.NotCopartitioned}) {
		t.Fatalf("error %v", err)
	}
}

func TestKeysChooseTheirPartitionAsInJava(t *testing.T) {
	p := newPayments(paymentOptions{})
	d := p.driver(t, streamtest.Options{Partitions: 6})
	for i := range 40 {
		d.Pipe("commands", confirm(fmt.Sprint("o", i), fmt.Sprint("p", i)))
	}
	d.Pipe("commands", confirm("o1", "x").On(5))
	d.Commit()
	used := map[int32]bool{}
	for _, in := range d.Output("commands")[:40] {
		used[in.Partition] = true
	}
	events := d.Output("events")
	byKey := map[string]int32{}
	for _, e := range events {
		byKey[string(e.Key)] = e.Partition
	}
	for _, in := range d.Output("commands")[:40] {
		if byKey[string(in.Key)] != in.Partition {
			t.Fatalf("key %s: input in partition %d, output in %d", in.Key, in.Partition, byKey[string(in.Key)])
		}
	}
	if len(used) != 6 || d.Output("commands")[40].Partition != 5 {
		t.Fatalf("partitions %v", used)
	}
}

// S42, and the pending marker of S50, cannot happen here: whatever the history, a marker that says "applied" and the
// output of its message are committed together or not at all, and no other marker exists.
func TestS42MarkersAndOutputsAreNeverApart(t *testing.T) {
	ids := []string{"p1", "p2", "p1"}
	for _, first := range faults {
		for _, second := range faults {
			t.Run(first.name+", "+second.name, func(t *testing.T) {
				p := newPayments(paymentOptions{})
				d := p.driver(t, streamtest.Options{})
				wantTogether(t, d)
				for i, id := range ids {
					d.Append("commands", confirm("o1", id))
					if i == 0 {
						first.do(d)
					} else {
						second.do(d)
					}
					wantTogether(t, d)
				}
				d.Commit()
				wantTogether(t, d)
				wantMarkers(t, d, dedup.Applied, dedup.Applied)
			})
		}
	}
}

// wantTogether looks at what is committed now: markers in a state restored from the changelogs alone, outputs in the topic.
func wantTogether(t *testing.T, d *streamtest.Driver) {
	t.Helper()
	d.RestartWithEmptyDisk()
	var causes, markers []string
	for _, e := range d.Output("events") {
		causes = append(causes, streamtest.Header(e, record.HeaderCause))
	}
	for _, m := range d.Markers() {
		if m.Outcome != dedup.Applied {
			t.Fatalf("a marker says %s", m.Outcome)
		}
		markers = append(markers, fmt.Sprintf("commands/0@%d", m.Offset))
	}
	slices.Sort(causes)
	if fmt.Sprint(causes) != fmt.Sprint(markers) {
		t.Fatalf("committed outputs of %v, markers of %v", causes, markers)
	}
}

// The same histories on the engine of production, with a small memory budget and checkpoints in between.
func TestScenariosOnPebble(t *testing.T) {
	for _, size := range []int{1, 5, 0} {
		shop := newSales(topology.Partitions(2))
		units, d := shop.units, streamtest.New(t, shop.topo, streamtest.Options{Partitions: 2, CommitEvery: size, Disk: streamtest.PebbleDisks(t.TempDir()), CheckpointRecords: 20})
		for i := range 60 {
			d.Pipe("lines", streamtest.Text(fmt.Sprint("c", i), "p1 p2").With(idName, fmt.Sprint(i%50)))
			switch i {
			case 10:
				d.Restart()
			case 20:
				d.Commit()
				d.Move(1)
			case 30:
				d.Commit()
				d.Restart()
			case 40:
				d.RestartWithEmptyDisk()
			case 45:
				d.Compact()
				d.Move(1)
			}
		}
		d.Advance(time.Minute)
		d.Commit()
		// Equal ids in different partitions are different messages: deduplication is local to the partition.
		want := int64(0)
		seen := map[string]bool{}
		for _, in := range d.Output("lines") {
			key := fmt.Sprint(in.Partition, streamtest.Header(in, idName))
			if !seen[key] {
				seen[key] = true
				want++
			}
		}
		for _, product := range []string{"p1", "p2"} {
			if n, _ := streamtest.Get(d, units, product); n != want {
				t.Fatalf("%d units of %s, want %d", n, product, want)
			}
		}
	}
}

// A sub-topology without stores has its positions in the group's offsets alone.
func TestStatelessTopologyUnderEveryFault(t *testing.T) {
	eachFault(t, func(t *testing.T, strike func(*streamtest.Driver)) {
		topo := topology.New("pass")
		in := topology.Source(topo, "in", "in", serde.String(), serde.String())
		topology.Sink(topo, "out", in, "out", serde.String(), serde.String())
		d := streamtest.New(t, topo, streamtest.Options{})
		d.Append("in", streamtest.Text("k", "a"), streamtest.Text("k", "b"))
		strike(d)
		d.Append("in", streamtest.Text("k", "c"))
		strike(d)
		d.Commit()
		wantOutput(t, d, "out", "a", "b", "c")
		if got := d.Position("in", 0); got != 3 {
			t.Fatalf("position %d", got)
		}
	})
}

// A source of several topics has one set of markers, and a position for each topic.
func TestSourceOfSeveralTopics(t *testing.T) {
	streamtest.Repeat(t, streamtest.Options{}, func(t *testing.T, o streamtest.Options) {
		runs := statestore.KeyValue("runs", serde.String(), serde.Int64())
		topo := topology.New("several")
		in := topology.Source(topo, "in", "a", serde.String(), serde.String(), topology.AlsoTopics("b"),
			topology.Deduplicate(dedup.Config{ID: dedup.Header(idName), Window: window}))
		topology.Process(topo, "count", in, func(ctx *processor.Context[string, string], r record.Record[string, string]) error {
			n, _, err := runs.Get(ctx, r.Key)
			if err != nil {
				return err
			}
			return runs.Put(ctx, r.Key, n+1)
		}, topology.Uses(runs))
		d := streamtest.New(t, topo, o)
		d.Append("a", confirm("o1", "p1"))
		d.Append("b", confirm("o1", "p2"), confirm("o1", "p1"))
		d.Append("a", confirm("o1", "p2"), confirm("o1", "p3"))
		d.Commit()
		if n, _ := streamtest.Get(d, runs, "o1"); n != 3 {
			t.Fatalf("%d runs, want 3", n)
		}
		if a, b := d.Position("a", 0), d.Position("b", 0); a != 3 || b != 2 {
			t.Fatalf("positions %d and %d", a, b)
		}
		if v := d.Stats().Verdicts; v[dedup.Redelivery] != 0 {
			t.Fatalf("verdicts %v: equal offsets of two topics were confused", v)
		}
	})
}
