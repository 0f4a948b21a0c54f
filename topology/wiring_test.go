package topology_test

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/oncemill/oncemill/internal/graph"
	"github.com/oncemill/oncemill/internal/host"
	"github.com/oncemill/oncemill/internal/murmur"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/topology"
)

// fakeHost records what a graph does with one record.
type fakeHost struct {
	partitions map[string]int32
	input      *record.Raw
	failed     *host.Failure
	node       *host.Node
	emitted    []host.Output
}

func (h *fakeHost) Enter(n *host.Node) *host.Node { previous := h.node; h.node = n; return previous }
func (h *fakeHost) Leave(previous *host.Node)     { h.node = previous }
func (h *fakeHost) Fail(f *host.Failure) error {
	if h.failed == nil {
		h.failed = f
	}
	return h.failed
}
func (h *fakeHost) Failed() *host.Failure { return h.failed }
func (h *fakeHost) OpenStore(*host.Node, *statestore.Declaration) (*statestore.View, error) {
	return nil, errors.New("no stores here")
}
func (h *fakeHost) ScheduleTimer(*host.Node, *statestore.Declaration, []byte, statestore.Timer) error {
	return errors.New("no timers here")
}
func (h *fakeHost) CancelTimer(*host.Node, *statestore.Declaration, []byte, string) (bool, error) {
	return false, errors.New("no timers here")
}
func (h *fakeHost) Input() *record.Raw           { return h.input }
func (h *fakeHost) StreamTime() time.Time        { return h.input.Timestamp }
func (h *fakeHost) Now() time.Time               { return h.input.Timestamp }
func (h *fakeHost) NewID(*host.Node) [16]byte    { return [16]byte{} }
func (h *fakeHost) Random(*host.Node) *rand.Rand { return rand.New(rand.NewPCG(1, 2)) }
func (h *fakeHost) Buffer() []byte               { return make([]byte, 0, 64) }
func (h *fakeHost) Keep([]byte)                  {}
func (h *fakeHost) Emit(n *host.Node, o *host.Output) error {
	h.emitted = append(h.emitted, *o)
	return nil
}
func (h *fakeHost) Partitions(topic string) (int32, error) {
	n, ok := h.partitions[topic]
	if !ok {
		return 0, problem.New(problem.UnknownTopic, topic, "it does not exist")
	}
	return n, nil
}

// harness is one task of the first sub-topology over a fake host.
type harness struct {
	t    *testing.T
	plan *graph.Plan
	host *fakeHost
	in   *graph.Instance
}

func instantiate(t *testing.T, sub int, fill func(*topology.Topology)) *harness {
	t.Helper()
	p := build(t, fill)
	h := &fakeHost{partitions: map[string]int32{"out": 8, "big": 8, "small": 8, "rest": 8, "shop-by-id-repartition": 8}}
	in, err := p.Instantiate(p.Subs[sub], h, "task")
	if err != nil {
		t.Fatal(err)
	}
	return &harness{t: t, plan: p, host: h, in: in}
}

// send feeds one record of partition 3 to a source and returns where it went: topic=value.
func (h *harness) send(source string, key, value []byte) (went []string, err error) {
	h.host.emitted, h.host.failed = nil, nil
	h.host.input = &record.Raw{Key: key, Value: value, Timestamp: time.UnixMilli(7), Position: record.Position{Topic: "in", Partition: 3, Offset: 5}}
	err = h.in.Sources[h.plan.Node(source).Index](h.host.input)
	for _, o := range h.host.emitted {
		went = append(went, o.Topic+"="+string(o.Value))
	}
	if h.host.node != nil && err == nil {
		h.t.Errorf("node %q was entered and never left", h.host.node.Name)
	}
	return went, err
}

func (h *harness) goes(source, value string, want ...string) {
	h.t.Helper()
	if got, err := h.send(source, []byte("k"), []byte(value)); err != nil || !slices.Equal(got, want) {
		h.t.Errorf("%q went to %q (%v), want %q", value, got, err, want)
	}
}

func TestBranchSendsARecordToTheFirstCaseThatTakesIt(t *testing.T) {
	longer := func(n int) func(record.Record[string, string]) bool {
		return func(r record.Record[string, string]) bool { return len(r.Value) > n }
	}
	h := instantiate(t, 0, func(t *topology.Topology) {
		arms := topology.Branch(t, "size", source(t, "orders", "in"), topology.Case[string, string]{Name: "big", When: longer(4)},
			topology.Case[string, string]{Name: "small", When: longer(2)})
		sink(t, "b", arms[0], "big")
		sink(t, "s", arms[1], "small")
		sink(t, "b2", arms[0], "out")
	})
	h.goes("orders", "12345", "big=12345", "out=12345")
	h.goes("orders", "123", "small=123")
	h.goes("orders", "1") // no case takes it
}

func TestBranchWithoutConditionTakesTheRest(t *testing.T) {
	h := instantiate(t, 0, func(t *topology.Topology) {
		arms := topology.Branch(t, "size", source(t, "orders", "in"),
			topology.Case[string, string]{Name: "big", When: func(r record.Record[string, string]) bool { return len(r.Value) > 4 }},
			topology.Case[string, string]{Name: "rest"})
		sink(t, "b", arms[0], "big")
		sink(t, "r", arms[1], "rest")
	})
	h.goes("orders", "12345", "big=12345")
	h.goes("orders", "1", "rest=1")
}

func TestMergePassesOnTheRecordsOfEveryStream(t *testing.T) {
	h := instantiate(t, 0, func(t *topology.Topology) {
		sink(t, "o", topology.Merge(t, "all", source(t, "a", "in"), source(t, "b", "in2")), "out")
	})
	h.goes("a", "1", "out=1")
	h.goes("b", "2", "out=2")
}

func TestChildrenReceiveInTheOrderOfDeclaration(t *testing.T) {
	h := instantiate(t, 0, func(t *topology.Topology) {
		p := through(t, "count", source(t, "orders", "in"))
		sink(t, "z", p, "rest")
		sink(t, "a", through(t, "deeper", p), "big")
		sink(t, "m", p, "small")
	})
	h.goes("orders", "v", "rest=v", "big=v", "small=v")
}

func TestForwardToReachesOneChild(t *testing.T) {
	h := instantiate(t, 0, func(t *topology.Topology) {
		p := topology.Process(t, "route", source(t, "orders", "in"), func(ctx *processor.Context[string, string], r record.Record[string, string]) error {
			return ctx.ForwardTo(r.Value, r)
		})
		sink(t, "b", p, "big")
		sink(t, "s", p, "small")
	})
	h.goes("orders", "s", "small=s")
	if _, err := h.send("orders", []byte("k"), []byte("nobody")); err == nil || h.host.failed.Node != "route" || h.host.failed.Phase != host.PhaseProcess {
		t.Errorf("%v, failed %v", err, h.host.failed)
	}
}

func TestRepartitionIsASinkHereAndASourceThere(t *testing.T) {
	fill := func(t *topology.Topology) {
		sink(t, "o", repartition(t, "by-id", source(t, "orders", "in")), "out")
	}
	instantiate(t, 0, fill).goes("orders", "v", "shop-by-id-repartition=v")
	instantiate(t, 1, fill).goes("by-id", "v", "out=v")
}

func TestSinkChoosesTopicByRecord(t *testing.T) {
	h := instantiate(t, 0, func(t *topology.Topology) {
		topology.SinkTo(t, "o", source(t, "orders", "in"), func(r record.Record[string, string]) string { return r.Value }, serde.String(), serde.String())
	})
	h.goes("orders", "big", "big=big")
	if _, err := h.send("orders", []byte("k"), []byte("nowhere")); problem.CodeOf(err) != problem.UnknownTopic || h.host.failed.Phase != host.PhaseEncode || h.host.failed.Node != "o" {
		t.Errorf("%v, failed %v", err, h.host.failed)
	}
}

func TestPartitionOfAnOutput(t *testing.T) {
	chosen := int32(6)
	h := instantiate(t, 0, func(t *topology.Topology) {
		s := topology.Source(t, "orders", "in", serde.Nullable(serde.String()), serde.String())
		topology.Sink(t, "default", s, "out", serde.Nullable(serde.String()), serde.String())
		topology.Sink(t, "own", s, "big", serde.Nullable(serde.String()), serde.String(),
			topology.PartitionBy(func(topic string, key []byte, r record.Record[*string, string], partitions int32) int32 {
				if topic != "big" || partitions != 8 {
					return -1
				}
				return chosen
			}))
	})
	if _, err := h.send("orders", []byte("alice"), nil); err == nil {
		t.Error("a null value was decoded as a string")
	}
	if _, err := h.send("orders", []byte("alice"), []byte("v")); err != nil {
		t.Fatal(err)
	}
	if got, want := h.host.emitted[0].Partition, murmur.Partition([]byte("alice"), 8); got != want {
		t.Errorf("partition %d, Java chooses %d", got, want)
	}
	if got := h.host.emitted[1].Partition; got != 6 {
		t.Errorf("the partitioner's choice became %d", got)
	}
	if _, err := h.send("orders", nil, []byte("v")); err != nil {
		t.Fatal(err)
	}
	if o := h.host.emitted[0]; o.Partition != 3 || o.Key != nil {
		t.Errorf("without a key: partition %d, key %q", o.Partition, o.Key)
	}
	for _, chosen = range []int32{-1, 8} {
		if _, err := h.send("orders", nil, []byte("v")); problem.CodeOf(err) != problem.UnknownTopic {
			t.Errorf("partition %d: %v", chosen, err)
		}
	}
}

func TestEmptyIsNotNullThroughASink(t *testing.T) {
	h := instantiate(t, 0, func(t *topology.Topology) {
		values := serde.Nullable(serde.String())
		s := topology.Source(t, "orders", "in", serde.String(), values)
		topology.Sink(t, "o", s, "out", serde.String(), values)
	})
	for _, value := range [][]byte{nil, {}, []byte("v")} {
		if _, err := h.send("orders", []byte{}, value); err != nil {
			t.Fatal(err)
		}
		o := h.host.emitted[0]
		if (o.Value == nil) != (value == nil) || string(o.Value) != string(value) || o.Key == nil {
			t.Errorf("key %v, value %v of %v", o.Key, o.Value, value)
		}
	}
}

func TestDecodeFailureNamesSourceAndPlace(t *testing.T) {
	h := instantiate(t, 0, func(t *topology.Topology) {
		topology.Source(t, "orders", "in", serde.Int64(), serde.Int64())
	})
	for _, c := range []struct {
		key, value []byte
		part       string
	}{
		{[]byte("short"), make([]byte, 8), "key of in/3@5"},
		{make([]byte, 8), []byte("short"), "value of in/3@5"},
	} {
		_, err := h.send("orders", c.key, c.value)
		var p *problem.Error
		if !errors.As(err, &p) || p.Code != problem.DecodeFailed || p.Place != c.part {
			t.Errorf("%v", err)
		}
		if f := h.host.failed; f == nil || f.Phase != host.PhaseDecode || f.Node != "orders" {
			t.Errorf("%v", f)
		}
	}
}

func TestFailureOfAChildCannotBeSwallowed(t *testing.T) {
	h := instantiate(t, 0, func(t *topology.Topology) {
		p := topology.Process(t, "careless", source(t, "orders", "in"), func(ctx *processor.Context[string, string], r record.Record[string, string]) error {
			_ = ctx.Forward(r)
			return nil
		})
		topology.Process(t, "broken", p, func(*processor.Context[string, string], record.Record[string, string]) error {
			return errors.New("it broke")
		})
	})
	_, err := h.send("orders", []byte("k"), []byte("v"))
	var f *host.Failure
	if !errors.As(err, &f) || f.Node != "broken" || f.Phase != host.PhaseProcess {
		t.Errorf("%v", err)
	}
}

func TestTimersReachTheirHandler(t *testing.T) {
	totals := text("totals")
	h := instantiate(t, 0, func(t *topology.Topology) {
		p := through(t, "count", source(t, "orders", "in"), topology.OnTimer(totals,
			func(ctx *processor.Context[string, string], key string, timer statestore.Timer) error {
				if timer.Name == "broken" {
					return errors.New("it broke")
				}
				return ctx.Forward(record.New(key, timer.Name+" at "+ctx.Timestamp().UTC().Format(time.TimeOnly)))
			}))
		sink(t, "o", p, "out")
	})
	port := h.in.Timers[graph.TimerKey{Node: "count", Store: totals.Declaration().ID()}]
	if port == nil {
		t.Fatalf("no port: %v", h.in.Timers)
	}
	h.host.input = &record.Raw{Position: record.Position{Partition: 3, Offset: -1}}
	if err := port([]byte("alice"), statestore.Timer{Name: "remind", At: time.Unix(3600, 0)}); err != nil {
		t.Fatal(err)
	}
	if o := h.host.emitted; len(o) != 1 || string(o[0].Key) != "alice" || string(o[0].Value) != "remind at 01:00:00" {
		t.Errorf("%v", o)
	}
	err := port([]byte("alice"), statestore.Timer{Name: "broken"})
	var f *host.Failure
	if !errors.As(err, &f) || f.Phase != host.PhaseTimer || f.Node != "count" {
		t.Errorf("%v", err)
	}
}

func TestInstancesOpenAndCloseTheirProcessors(t *testing.T) {
	var calls []string
	totals := text("totals")
	h := instantiate(t, 0, func(t *topology.Topology) {
		sink(t, "o", topology.ProcessWith(t, "count", source(t, "orders", "in"), newCounter(totals, &calls), topology.Uses(totals)), "out")
	})
	calls = calls[:0] // those of the dry run
	in, err := h.plan.Instantiate(h.plan.Subs[0], h.host, "orders_3")
	if err != nil {
		t.Fatal(err)
	}
	h.in = in
	h.goes("orders", "v", "out=v")
	for _, closeFn := range in.Close {
		if err := closeFn(); err != nil {
			t.Error(err)
		}
	}
	if want := []string{"Init orders_3", "Process", "Close"}; !slices.Equal(calls, want) {
		t.Errorf("%q", calls)
	}
}
