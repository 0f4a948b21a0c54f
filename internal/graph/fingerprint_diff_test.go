package graph_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/internal/graph"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/topology"
)

type build = func(*topology.Topology)

// counting reads a topic into a processor, and writes what it forwards.
func counting(name, topic string, srcOpts []topology.SourceOption, opts ...topology.ProcessOption) build {
	return func(t *topology.Topology) {
		sink(t, "out", through(t, "count", source(t, name, topic, srcOpts...), opts...), "sums")
	}
}

// orders is counting with options of the processor.
func orders(opts ...topology.ProcessOption) build {
	return counting("orders", "orders-topic", nil, opts...)
}

// plain copies a topic.
func plain(name, topic string, opts ...topology.SourceOption) build {
	return func(t *topology.Topology) { sink(t, "out", source(t, name, topic, opts...), "sums") }
}

func deduplicated(header string, window time.Duration, scope string) build {
	return plain("orders", "orders-topic", topology.Deduplicate(dedup.Config{ID: dedup.Header(header), Window: window, Scope: scope}))
}

func repartitioned(name string, values serde.Serde[string]) build {
	return func(t *topology.Topology) {
		s := topology.Repartition(t, name, source(t, "orders", "orders-topic"), serde.String(), values)
		sink(t, "out", s, "sums")
	}
}

func uses(stores ...*store) topology.ProcessOption {
	all := make([]interface {
		Declaration() *statestore.Declaration
	}, len(stores))
	for i, s := range stores {
		all[i] = s
	}
	return topology.Uses(all...)
}

func parks() topology.ProcessOption {
	return topology.OnFailure(processor.DelayedRetry(processor.Skip(), time.Minute))
}

const (
	safe    = graph.LevelSafe
	migrate = graph.LevelMigrate
	refused = graph.LevelRefused
)

// diffCase is one rule of Diff.
type diffCase struct {
	name     string
	old, now build // old nil: now over four partitions, then over eight
	level    graph.Level
	what     string
	accept   string
}

func runDiff(t *testing.T, cases []diffCase) {
	t.Helper()
	counts := func(n int32) map[string]int32 {
		return map[string]int32{"orders-topic": n, "orders-v2": n, "clicks-topic": n, "more": n}
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if c.old == nil {
				check(t, graph.Diff(fingerprint(t, c.now, counts(4)), fingerprint(t, c.now, counts(8))), c.level, c.what, c.accept)
				return
			}
			check(t, graph.Diff(fingerprint(t, c.old, counts(4)), fingerprint(t, c.now, counts(4))), c.level, c.what, c.accept)
		})
	}
}

func TestDiffOfNodes(t *testing.T) {
	runDiff(t, []diffCase{
		{"node added", stateful, func(t *topology.Topology) {
			sink(t, "out", through(t, "count", through(t, "flag", source(t, "orders", "orders-topic")), topology.Uses(text("totals"))), "sums")
			sink(t, "copy", source(t, "clicks", "clicks-topic"), "copies")
		}, safe, `processor "flag" is new`, ""},
		{"node removed", func(t *topology.Topology) {
			sink(t, "out", through(t, "flag", source(t, "orders", "orders-topic")), "sums")
		}, plain("orders", "orders-topic"), safe, `processor "flag" is gone`, ""},
		{"node rewired", func(t *topology.Topology) {
			s := source(t, "orders", "orders-topic")
			through(t, "flag", s)
			sink(t, "out", s, "sums")
		}, func(t *topology.Topology) {
			sink(t, "out", through(t, "flag", source(t, "orders", "orders-topic")), "sums")
		}, safe, `sink "out" is wired in another way`, ""},
		{"node of another kind", plain("orders", "orders-topic"), func(t *topology.Topology) {
			s := source(t, "orders", "orders-topic")
			topology.Merge(t, "out", s, through(t, "flag", s))
		}, safe, `node "out": sink -> merge`, ""},
		{"sink writes elsewhere", plain("orders", "orders-topic"), func(t *topology.Topology) {
			sink(t, "out", source(t, "orders", "orders-topic"), "alerts")
		}, safe, `sink "out": sums string/string -> alerts string/string`, ""},
	})
}

func TestDiffOfSubTopologies(t *testing.T) {
	runDiff(t, []diffCase{
		{"sub-topology added", plain("orders", "orders-topic"), func(t *topology.Topology) {
			sink(t, "out", source(t, "orders", "orders-topic"), "sums")
			through(t, "count", source(t, "clicks", "clicks-topic"), uses(text("clicked")))
		}, safe, `sub-topology "clicks" is new`, ""},
		{"sub-topology renamed with state", orders(uses(text("totals"))), counting("purchases", "orders-topic", nil, uses(text("totals"))),
			refused, `sub-topology "orders" is named "purchases"`, ""},
		{"sub-topology renamed without state", plain("orders", "orders-topic"), plain("purchases", "orders-topic"),
			safe, `sub-topology "orders" is named "purchases", without state`, ""},
		{"sub-topology removed without state", stateful, orders(uses(text("totals"))), safe, `sub-topology "clicks" is gone`, ""},
		{"sub-topology removed with state", stateful, func(t *topology.Topology) {
			sink(t, "copy", source(t, "clicks", "clicks-topic"), "copies")
		}, refused, `no longer reads topic "orders-topic"`, "drop-input:orders-topic"},
	})
}

func TestDiffOfStores(t *testing.T) {
	runDiff(t, []diffCase{
		{"store added", orders(uses(text("totals"))), orders(uses(text("totals"), text("names"))),
			safe, `store "names" is new in sub-topology "orders"`, ""},
		{"first store added", orders(), orders(uses(text("totals"))), migrate, `sub-topology "orders" begins to keep state`, ""},
		{"store removed", orders(uses(text("totals"), text("names"))), orders(uses(text("totals"))),
			refused, `store "names" (key-value) of sub-topology "orders" is gone`, "drop-store:names"},
		{"store renamed", orders(uses(text("totals"))), orders(uses(text("sums"))),
			refused, `store "totals" (key-value) of sub-topology "orders" is gone`, "drop-store:totals"},
		{"store with another value format", orders(uses(text("totals"))),
			orders(topology.Uses(statestore.KeyValue("totals", serde.String(), serde.Int64()))),
			refused, `store "totals": value format string -> int64`, ""},
		{"store with another key format", orders(uses(text("totals"))),
			orders(topology.Uses(statestore.KeyValue("totals", serde.Int64(), serde.String()))),
			refused, `store "totals": key format string -> int64`, ""},
		{"store of another kind", deduplicated("id", time.Hour, ""), orders(uses(text("orders-markers"))),
			refused, `store "orders-markers": kind markers -> key-value`, ""},
		{"store moved to another sub-topology", func(t *topology.Topology) {
			through(t, "count", source(t, "orders", "orders-topic"), uses(text("totals")))
			sink(t, "copy", source(t, "clicks", "clicks-topic"), "copies")
		}, func(t *topology.Topology) {
			sink(t, "copy", source(t, "orders", "orders-topic"), "copies")
			through(t, "count", source(t, "clicks", "clicks-topic"), uses(text("totals")))
		}, refused, `store "totals" moved from sub-topology "orders" to "clicks"`, ""},
	})
}

func TestDiffOfInputs(t *testing.T) {
	runDiff(t, []diffCase{
		{"topic added with state", orders(uses(text("totals"))),
			counting("orders", "orders-topic", []topology.SourceOption{topology.AlsoTopics("more")}, uses(text("totals"))),
			migrate, `sub-topology "orders" reads topic "more" too`, ""},
		{"topic added without state", plain("orders", "orders-topic"), plain("orders", "orders-topic", topology.AlsoTopics("more")),
			safe, `sub-topology "orders" reads topic "more" too`, ""},
		{"source topic changed with state", orders(uses(text("totals"))), counting("orders", "orders-v2", nil, uses(text("totals"))),
			refused, `sub-topology "orders" no longer reads topic "orders-topic"`, "drop-input:orders-topic"},
		{"source topic changed without state", plain("orders", "orders-topic"), plain("orders", "orders-v2"),
			safe, `sub-topology "orders" no longer reads topic "orders-topic"`, ""},
		{"topic moved with state", func(t *topology.Topology) {
			through(t, "count", source(t, "orders", "orders-topic", topology.AlsoTopics("more")), uses(text("totals")))
		}, func(t *topology.Topology) {
			through(t, "count", source(t, "orders", "orders-topic"), uses(text("totals")))
			sink(t, "out", source(t, "others", "more"), "sums")
		}, refused, `topic "more" moved from sub-topology "orders" to "others"`, ""},
		{"topic moved without state", plain("orders", "orders-topic", topology.AlsoTopics("more")), func(t *topology.Topology) {
			sink(t, "out", source(t, "orders", "orders-topic"), "sums")
			sink(t, "out2", source(t, "others", "more"), "sums")
		}, safe, `topic "more" moved from sub-topology "orders" to "others", without state`, ""},
		{"second source renamed", func(t *topology.Topology) {
			topology.Merge(t, "all", source(t, "orders", "orders-topic"), source(t, "clicks", "clicks-topic"))
		}, func(t *topology.Topology) {
			topology.Merge(t, "all", source(t, "orders", "orders-topic"), source(t, "hits", "clicks-topic"))
		}, safe, `source "clicks" is named "hits"`, ""},
		{"second source renamed with parked records", func(t *topology.Topology) {
			through(t, "count", topology.Merge(t, "all", source(t, "orders", "orders-topic"), source(t, "clicks", "clicks-topic")), parks())
		}, func(t *topology.Topology) {
			through(t, "count", topology.Merge(t, "all", source(t, "orders", "orders-topic"), source(t, "hits", "clicks-topic")), parks())
		}, refused, `source "clicks" is named "hits": parked records name their source`, "drained:clicks"},
		{"topic goes to a second source of the sub-topology", plain("orders", "orders-topic", topology.AlsoTopics("more")), func(t *topology.Topology) {
			topology.Merge(t, "all", source(t, "orders", "orders-topic"), source(t, "others", "more"))
		}, safe, `topic "more" is read by source "others" instead of "orders"`, ""},
	})
}

func TestDiffOfRepartitions(t *testing.T) {
	runDiff(t, []diffCase{
		{"repartition renamed", repartitioned("by-id", serde.String()), repartitioned("by-name", serde.String()),
			refused, `repartition topic "shop-by-id-repartition" is no longer read`, "drop-input:shop-by-id-repartition"},
		{"repartition of another format", repartitioned("by-id", serde.String()), repartitioned("by-id", serde.JSON[string]()),
			refused, `repartition topic "shop-by-id-repartition": format string/string -> string/json`, "drained:shop-by-id-repartition"},
	})
}

func TestDiffOfDedupAndTimers(t *testing.T) {
	runDiff(t, []diffCase{
		{"deduplication added", plain("orders", "orders-topic"), deduplicated("id", time.Hour, ""), migrate, `source "orders" begins to deduplicate`, ""},
		{"deduplication removed", deduplicated("id", time.Hour, ""), plain("orders", "orders-topic"),
			refused, `store "orders-markers" (markers) of sub-topology "orders" is gone`, "drop-store:orders-markers"},
		{"deduplication by another id", deduplicated("id", time.Hour, ""), deduplicated("message-id", time.Hour, ""),
			refused, `source "orders": its id header:id -> header:message-id: the markers`, ""},
		{"deduplication with another window", deduplicated("id", time.Hour, ""), deduplicated("id", 2*time.Hour, ""),
			refused, `source "orders": its window 1h -> 2h: the markers that are there would not be found`, ""},
		{"deduplication with a window of days", deduplicated("id", 7*24*time.Hour, ""), deduplicated("id", 36*time.Hour, ""),
			refused, `its window 7 days -> 36h:`, ""},
		{"deduplication with another scope", deduplicated("id", time.Hour, ""), deduplicated("id", time.Hour, "game"),
			refused, `its scope "orders" -> "game":`, ""},
		{"parking removed", orders(parks()), orders(), refused, `sub-topology "orders" parks no records any more`, "drop-store:orders-parked"},
		{"timer handler removed", orders(topology.OnTimer(text("totals"), onTimer)), orders(uses(text("totals"))),
			refused, `node "count" no longer handles the timers of store "totals"`, "drop-timers:count/totals"},
	})
}

func TestDiffOfPartitions(t *testing.T) {
	runDiff(t, []diffCase{
		{"partitions with state", nil, orders(uses(text("totals"))), refused, `sub-topology "orders": 4 -> 8 partitions`, ""},
		{"partitions without state", nil, plain("orders", "orders-topic"), safe, `sub-topology "orders": 4 -> 8 partitions, without state`, ""},
		{"partitions of a repartition topic", nil, repartitioned("by-id", serde.String()), refused, `sub-topology "by-id": 4 -> 8 partitions`, ""},
	})
}

// check finds the change that a case is about, and demands that no other one is worse.
func check(t *testing.T, changes []graph.Change, level graph.Level, what, accept string) {
	t.Helper()
	found := false
	for i, c := range changes {
		if strings.Contains(c.What, what) {
			found = true
			if c.Level != level || c.Accept != accept {
				t.Errorf("%q: level %v, accept %q", c.What, c.Level, c.Accept)
			}
		}
		if c.Level > level {
			t.Errorf("a change is worse than %v: %v %q", level, c.Level, c.What)
		}
		if (c.Cure == "") != (c.Level == graph.LevelSafe) {
			t.Errorf("%v %q: cure %q", c.Level, c.What, c.Cure)
		}
		if i > 0 && changes[i-1].Level > c.Level {
			t.Errorf("%q comes after a worse change", c.What)
		}
	}
	if !found {
		t.Errorf("no change says %q: %v", what, changes)
	}
}

func TestDiffOfEqualTopologiesIsEmpty(t *testing.T) {
	f := fingerprint(t, stateful, nil)
	read, err := graph.DecodeFingerprint(f.Encode())
	if err != nil {
		t.Fatal(err)
	}
	if changes := graph.Diff(read, f); len(changes) > 0 {
		t.Errorf("%v", changes)
	}
	if read.Hash() != f.Hash() {
		t.Error("the hash changes through encoding")
	}
}

func TestDiffIgnoresTheOrderOfDeclarations(t *testing.T) {
	other := func(t *topology.Topology) {
		sink(t, "copy", source(t, "clicks", "clicks-topic"), "copies")
		sink(t, "out", through(t, "count", source(t, "orders", "orders-topic"), topology.Uses(text("totals"))), "sums")
	}
	a, b := fingerprint(t, stateful, nil), fingerprint(t, other, nil)
	if changes := graph.Diff(a, b); len(changes) > 0 || a.Hash() != b.Hash() {
		t.Errorf("%v", changes)
	}
}

func TestDiffRefusesAnotherApplication(t *testing.T) {
	a := graph.FingerprintOf(plan(t, "shop", stateful), nil)
	b := graph.FingerprintOf(plan(t, "mall", stateful), nil)
	check(t, graph.Diff(a, b), graph.LevelRefused, `application id "shop" -> "mall"`, "")
}

func TestDiffDoesNotCompareUnknownPartitions(t *testing.T) {
	known := fingerprint(t, stateful, map[string]int32{"orders-topic": 4, "clicks-topic": 4})
	if changes := graph.Diff(known, fingerprint(t, stateful, nil)); len(changes) > 0 {
		t.Errorf("%v", changes)
	}
}

func TestStoreRenamedIsNamedInTheCure(t *testing.T) {
	use := func(s *store) func(*topology.Topology) {
		return func(t *topology.Topology) {
			through(t, "count", source(t, "orders", "orders-topic"), topology.Uses(s))
		}
	}
	changes := graph.Diff(fingerprint(t, use(text("by-hour")), nil), fingerprint(t, use(text("hourly")), nil))
	last := changes[len(changes)-1]
	if want := `if "hourly" is the same store, keep the name "by-hour"`; last.Cure != want {
		t.Errorf("cure %q, want %q", last.Cure, want)
	}
}

func TestRefusalNamesEveryChangeThatIsNotAccepted(t *testing.T) {
	changes := []graph.Change{
		{Level: graph.LevelSafe, What: "harmless"},
		{Level: graph.LevelRefused, What: "first", Cure: "undo it", Accept: "drop-store:first"},
		{Level: graph.LevelRefused, What: "second", Cure: "undo it too"},
	}
	err := graph.Refusal(changes, []string{"drop-store:first"})
	if problem.CodeOf(err) != problem.FingerprintChanged {
		t.Fatalf("%v", err)
	}
	if s := err.Error(); strings.Contains(s, "first") || strings.Contains(s, "harmless") || !strings.Contains(s, "second. Cure: undo it too") {
		t.Errorf("%s", s)
	}
	if err := graph.Refusal(changes, nil); !strings.Contains(err.Error(), `or accept it: Config.AcceptChanges drop-store:first`) {
		t.Errorf("%v", err)
	}
	if err := graph.Refusal(changes[:2], []string{"drop-store:first"}); err != nil {
		t.Errorf("%v", err)
	}
	if err := graph.Refusal(changes[2:], []string{""}); err == nil {
		t.Error("an empty word accepts what nothing can")
	}
}

func TestDroppedNamesTheStoresWhoseRemovalWasAccepted(t *testing.T) {
	old, now := orders(uses(text("totals"), text("names"))), orders()
	changes := graph.Diff(fingerprint(t, old, nil), fingerprint(t, now, nil))
	if got := graph.Dropped(changes, []string{"drop-store:names", "drop-store:other"}); !slices.Equal(got, []string{"names"}) {
		t.Errorf("%q", got)
	}
	if got := graph.Dropped(changes, nil); got != nil {
		t.Errorf("%q", got)
	}
}
