package topology_test

import (
	"errors"
	"fmt"
	"runtime"
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
	"github.com/oncemill/oncemill/topology"
)

type (
	stream = topology.Stream[string, string]
	store  = statestore.KeyValueStore[string, string]
)

func pass(ctx *processor.Context[string, string], r record.Record[string, string]) error {
	return ctx.Forward(r)
}

func text(name string) *store { return statestore.KeyValue(name, serde.String(), serde.String()) }

func source(t *topology.Topology, name, topic string, opts ...topology.SourceOption) stream {
	return topology.Source(t, name, topic, serde.String(), serde.String(), opts...)
}

func through(t *topology.Topology, name string, in stream, opts ...topology.ProcessOption) stream {
	return topology.Process(t, name, in, pass, opts...)
}

func sink(t *topology.Topology, name string, in stream, topic string, opts ...topology.SinkOption) {
	topology.Sink(t, name, in, topic, serde.String(), serde.String(), opts...)
}

func repartition(t *topology.Topology, name string, in stream, opts ...topology.SinkOption) stream {
	return topology.Repartition(t, name, in, serde.String(), serde.String(), opts...)
}

// mistakes builds a topology and returns what Build reports, one string for each mistake.
func mistakes(t *testing.T, top *topology.Topology) []string {
	t.Helper()
	_, err := top.Build()
	if err == nil {
		t.Fatal("it builds")
	}
	var p *problem.Error
	if !errors.As(err, &p) || p.Code != problem.TopologyInvalid {
		t.Fatalf("not a *problem.Error of the topology: %v", err)
	}
	var joined interface{ Unwrap() []error }
	if !errors.As(p.Cause, &joined) {
		t.Fatalf("the mistakes are not joined: %v", p.Cause)
	}
	var all []string
	for _, e := range joined.Unwrap() {
		all = append(all, e.Error())
	}
	return all
}

// refused demands that Build reports the mistakes, in order, and no others.
func refused(t *testing.T, build func(*topology.Topology), want ...string) {
	t.Helper()
	refusedAt(t, func(top *topology.Topology) []string {
		build(top)
		return want
	})
}

// refusedAt is refused for mistakes whose place is known only when they are made.
func refusedAt(t *testing.T, build func(*topology.Topology) (want []string)) {
	t.Helper()
	top := topology.New("shop")
	want := build(top)
	if got := mistakes(t, top); !slices.Equal(got, want) {
		t.Errorf("got:\n  %s\nwant:\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

// here is the place of the caller, "file:line", with lines added.
func here(lines int) string {
	_, file, line, _ := runtime.Caller(1)
	return fmt.Sprintf("%s:%d", file[strings.LastIndexByte(file, '/')+1:], line+lines)
}

func TestMissingNamesPrintTheLineToWrite(t *testing.T) {
	top := topology.New("shop")
	const advice = `names are part of what is stored: write topology.%s(t, "some-name", ...)`
	var want []string
	expect := func(place, kind, function string) {
		want = append(want, fmt.Sprintf("%s: a %s has no name; "+advice, place, kind, function))
	}
	keys := serde.String()
	expect(here(1), "source", "Source")
	s := topology.Source(top, "", "orders", keys, keys)
	expect(here(1), "processor", "Process")
	topology.Process(top, "", s, pass)
	expect(here(1), "processor", "ProcessWith")
	topology.ProcessWith(top, "", s, newCounter(text("totals"), nil), topology.Uses(text("unused")))
	expect(here(1), "merge", "Merge")
	topology.Merge(top, "", s, topology.Process(top, "p", s, pass))
	expect(here(1), "branch", "Branch")
	topology.Branch(top, "", s, topology.Case[string, string]{Name: "rest"})
	expect(here(1), "sink", "Sink")
	topology.Sink(top, "", s, "out", keys, keys)
	expect(here(1), "sink", "SinkTo")
	topology.SinkTo(top, "", s, func(record.Record[string, string]) string { return "out" }, keys, keys)
	expect(here(1), "repartition topic", "Repartition")
	topology.Repartition(top, "", s, keys, keys)
	got := mistakes(t, top)
	if len(got) < len(want) || !slices.Equal(got[:len(want)], want) {
		t.Errorf("got:\n  %s\nwant first:\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

func TestCaseWithoutName(t *testing.T) {
	refusedAt(t, func(t *topology.Topology) []string {
		place := here(1)
		topology.Branch(t, "size", source(t, "orders", "in"), topology.Case[string, string]{})
		return []string{place + `: case 1 of Branch "size" has no name: write topology.Case[K, V]{Name: "some-name", ...}`}
	})
}

func TestDuplicateNodeNames(t *testing.T) {
	refused(t, func(t *topology.Topology) {
		s := source(t, "orders", "in")
		through(t, "orders", s)
		topology.Branch(t, "size", s, topology.Case[string, string]{Name: "all"})
		sink(t, "size-all", s, "out")
	}, `two nodes are named "orders"`, `two nodes are named "size-all"`)
}

func TestTwoSourcesOfOneTopic(t *testing.T) {
	refused(t, func(t *topology.Topology) {
		source(t, "orders", "in")
		source(t, "again", "other", topology.AlsoTopics("in"))
	}, `sources "orders" and "again" read topic "in": use one source with several children`)
}

func TestIllegalNames(t *testing.T) {
	long := strings.Repeat("x", 201)
	const rule = "use 1 to 200 of a-z A-Z 0-9 . _ -"
	top := topology.New("my shop")
	sink(top, "out/1", through(top, long, source(top, "ordérs", "in")), "out")
	through(top, "count", source(top, "clicks", "c"), topology.Uses(text("to tals")))
	want := []string{`application id "my shop": ` + rule, `node name "out/1": ` + rule, fmt.Sprintf("node name %q: %s", long, rule),
		`node name "ordérs": ` + rule, `store name "to tals": ` + rule}
	got := mistakes(t, top)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("got:\n  %s\nwant:\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

func TestIllegalTopics(t *testing.T) {
	long := strings.Repeat("t", 250)
	refused(t, func(t *topology.Topology) {
		sink(t, "out", source(t, "orders", "in put", topology.AlsoTopics("..", long)), "out put")
	}, `source "orders": topic name "in put" is not legal in Kafka`, `source "orders": topic name ".." is not legal in Kafka`,
		fmt.Sprintf("source %q: topic name %q is not legal in Kafka", "orders", long), `sink "out": topic name "out put" is not legal in Kafka`)
	top := topology.New("shop")
	sink(top, "out", source(top, "orders", long[:249]), long[:249])
	if got := mistakes(t, top); len(got) != 1 || !strings.HasPrefix(got[0], "a cycle") { // the name itself is legal
		t.Errorf("%v", got)
	}
}

func TestInternalTopicNameTooLong(t *testing.T) {
	app, name := strings.Repeat("a", 150), strings.Repeat("s", 100)
	top := topology.New(app)
	through(top, "count", source(top, "orders", "in"), topology.Uses(text(name)))
	want := fmt.Sprintf("internal topic %q has 261 characters, Kafka allows 249: shorten the name of the application, store or node", app+"-"+name+"-changelog")
	if got := mistakes(t, top); !slices.Equal(got, []string{want}) {
		t.Errorf("%v", got)
	}
}

func TestOwnInternalTopicsAreNotReadOrWritten(t *testing.T) {
	refused(t, func(t *topology.Topology) {
		s := source(t, "orders", "in", topology.Deduplicate(dedup.Config{ID: dedup.Key(), Window: time.Hour}))
		sink(t, "again", s, "shop-orders-replay")
		sink(t, "log", s, "shop-orders-markers-changelog")
		source(t, "dead", "shop-dead-letters")
	}, `sink "again" writes "shop-orders-replay", the replay topic of this application`,
		`sink "log" writes "shop-orders-markers-changelog", the marker changelog topic of this application`,
		`source "dead" reads "shop-dead-letters", the dead letters topic of this application`,
		`a cycle through topics: [orders orders]; a record would go round for ever`)
}

func TestNoNodes(t *testing.T) {
	refused(t, func(*topology.Topology) {}, "no nodes: begin with topology.Source(t, ...)")
}

func TestCyclesThroughTopics(t *testing.T) {
	refused(t, func(t *topology.Topology) { sink(t, "out", source(t, "orders", "in"), "in") },
		"a cycle through topics: [orders orders]; a record would go round for ever")
	refused(t, func(t *topology.Topology) {
		sink(t, "a-out", source(t, "a", "a-topic"), "b-topic")
		sink(t, "b-out", repartition(t, "middle", source(t, "b", "b-topic")), "a-topic")
	}, "a cycle through topics: [a b middle a]; a record would go round for ever")
	top := topology.New("shop") // two ways to one topic are no cycle
	s := source(top, "a", "a-topic")
	sink(top, "left", s, "b-topic")
	sink(top, "right", repartition(top, "middle", s), "b-topic")
	source(top, "b", "b-topic")
	if _, err := top.Build(); err != nil {
		t.Error(err)
	}
}

// These names collide under FNV-1a with 32 bits, found by trying.
func TestNameIDCollisions(t *testing.T) {
	if statestore.NameID("store-1162789") != statestore.NameID("store-1379192") {
		t.Fatal("the names do not collide")
	}
	refused(t, func(t *topology.Topology) {
		through(t, "count", source(t, "orders", "in"), topology.Uses(text("store-1162789"), text("store-1379192")))
	}, `stores "store-1162789" and "store-1379192" have the same 32-bit id: rename one`)
	refused(t, func(t *topology.Topology) {
		source(t, "orders-593623", "a")
		source(t, "orders-1300020", "b")
	}, `sub-topologies "orders-593623" and "orders-1300020" have the same 32-bit id: rename one source`)
	refused(t, func(t *topology.Topology) {
		through(t, "count", source(t, "orders", "in"), topology.Uses(text("totals-498149"), text("totals-1000444")))
	}, `changelogs "shop-totals-498149-changelog" and "shop-totals-1000444-changelog" have the same 32-bit id: rename one store`)
	top := topology.New("shop") // ids of changelogs only meet within a task
	through(top, "count", source(top, "orders", "in"), topology.Uses(text("totals-498149")))
	through(top, "other", source(top, "clicks", "clicked"), topology.Uses(text("totals-1000444")))
	if _, err := top.Build(); err != nil {
		t.Error(err)
	}
}

func TestStoresWithEqualNames(t *testing.T) {
	refused(t, func(t *topology.Topology) {
		s := source(t, "orders", "in")
		through(t, "count", s, topology.Uses(text("totals")))
		through(t, "sum", s, topology.Uses(text("totals")))
	}, `two stores are named "totals"`)
	refused(t, func(t *topology.Topology) { // one of them is internal
		through(t, "count", source(t, "orders", "in"), topology.Uses(text("orders-task")))
	}, `two stores are named "orders-task"`)
}

func TestNodesWithoutSource(t *testing.T) {
	refusedAt(t, func(t *topology.Topology) []string {
		source(t, "orders", "in")
		place := here(1)
		none := topology.Merge[string, string](t, "nothing")
		through(t, "count", none, topology.Uses(text("totals")))
		place2 := here(1)
		topology.Merge[string, string](t, "nothing-else")
		return []string{place + `: Merge "nothing" needs at least two streams`, place2 + `: Merge "nothing-else" needs at least two streams`,
			`node "nothing" and what hangs on it have no source`, `node "nothing-else" and what hangs on it have no source`}
	})
}

func TestStreamOfAnotherTopology(t *testing.T) {
	foreign := source(topology.New("mall"), "orders", "in")
	refusedAt(t, func(t *topology.Topology) []string {
		place := here(1)
		topology.Process(t, "count", foreign, pass)
		return []string{place + `: the input of node "count" is not a stream of this topology`,
			`node "count" and what hangs on it have no source`}
	})
	top := topology.New("shop")
	s := source(top, "clicks", "clicks")
	topology.Merge(top, "all", s, foreign)
	topology.Branch(top, "size", foreign, topology.Case[string, string]{Name: "rest"})
	sink(top, "out", stream{}, "out")
	if got := mistakes(t, top); len(got) != 5 { // three inputs, and branch and sink have no source
		t.Errorf("%v", got)
	}
}

func TestMergeOfOneAndBranchOfNone(t *testing.T) {
	refusedAt(t, func(t *topology.Topology) []string {
		s := source(t, "orders", "in")
		merge := here(1)
		topology.Merge(t, "all", s)
		branch := here(1)
		topology.Branch(t, "size", s)
		return []string{merge + `: Merge "all" needs at least two streams`, branch + `: Branch "size" has no cases`}
	})
}

func TestCasesAfterOneThatTakesEverything(t *testing.T) {
	refusedAt(t, func(t *topology.Topology) []string {
		place := here(1)
		topology.Branch(t, "size", source(t, "orders", "in"), topology.Case[string, string]{Name: "all"}, topology.Case[string, string]{Name: "none"})
		return []string{place + `: case "all" of Branch "size" takes everything, so those after it take nothing: put it last`}
	})
}

func TestWhatIsMissing(t *testing.T) {
	keys := serde.String()
	var places []string
	place := func(p string) { places = append(places, p) }
	top := topology.New("shop")
	place(here(1))
	s := topology.Source[string, string](top, "orders", "in", nil, keys)
	place(here(1))
	topology.Process[string, string, string, string](top, "count", s, nil)
	place(here(1))
	topology.Sink(top, "out", s, "", keys, keys)
	place(here(1))
	topology.Sink[string, string](top, "out2", s, "topic", keys, nil)
	place(here(1))
	topology.Repartition(top, "by-id", s, keys, keys, topology.Partitions(-1))
	place(here(1))
	topology.Sink(top, "out3", s, "topic", keys, keys, topology.Partitions(3))
	place(here(1))
	topology.Sink(top, "out4", s, "topic", keys, keys, topology.DeduplicateAfter(dedup.Config{}))
	want := []string{
		places[0] + `: node "orders" has no serde for its key`,
		places[1] + `: node "count" has no function`,
		places[2] + `: sink "out" has no topic`,
		places[3] + `: node "out2" has no serde for its value`,
		places[4] + `: Repartition "by-id": -1 partitions`,
		places[5] + `: sink "out3": topology.Partitions is for Repartition; the topic of a sink is yours, create it as you want it`,
		places[6] + `: sink "out4": topology.DeduplicateAfter is for Repartition; the records of a sink are somebody else's input`,
	}
	if got := mistakes(t, top); !slices.Equal(got, want) {
		t.Errorf("got:\n  %s\nwant:\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

func TestBuildListsEveryMistakeAtOnceAndAgain(t *testing.T) {
	top := topology.New("shop")
	s := source(top, "orders", "in")
	through(top, "orders", s)
	sink(top, "out", s, "in")
	first := mistakes(t, top)
	if len(first) != 2 {
		t.Errorf("%v", first)
	}
	if again := mistakes(t, top); !slices.Equal(first, again) {
		t.Errorf("the second build reports %v", again)
	}
}

func TestBuildMayBeCalledAgain(t *testing.T) {
	top := topology.New("shop")
	sink(top, "out", through(top, "count", source(top, "orders", "in"), topology.Uses(text("totals"))), "out")
	first, err := top.Describe()
	if err != nil {
		t.Fatal(err)
	}
	second, err := top.Describe()
	if err != nil || first.Text() != second.Text() {
		t.Errorf("%v\n%s\n%s", err, first, second)
	}
}
