package topology_test

import (
	"slices"
	"testing"
	"time"

	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/internal/graph"
	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/topology"
)

func build(t *testing.T, fill func(*topology.Topology)) *graph.Plan {
	t.Helper()
	top := topology.New("shop")
	fill(top)
	p, err := top.Build()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// subs lists the sub-topologies as name and nodes.
func subs(p *graph.Plan) [][]string {
	var all [][]string
	for _, s := range p.Subs {
		names := []string{s.Name + ":"}
		for _, i := range s.Nodes {
			names = append(names, p.Nodes[i].Name)
			if p.Nodes[i].Sub != s.Index {
				names = append(names, "(in another one)")
			}
		}
		all = append(all, names)
	}
	return all
}

func equalSubs(t *testing.T, p *graph.Plan, want ...[]string) {
	t.Helper()
	if got := subs(p); !slices.EqualFunc(got, want, slices.Equal) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestEdgesDecideTheSubTopologies(t *testing.T) {
	p := build(t, func(t *topology.Topology) {
		a, b := source(t, "a", "a-topic"), source(t, "b", "b-topic")
		sink(t, "a-out", through(t, "count", a), "x")
		sink(t, "b-out", b, "y")
	})
	equalSubs(t, p, []string{"a:", "a", "count", "a-out"}, []string{"b:", "b", "b-out"})
}

func TestMergeJoinsSubTopologies(t *testing.T) {
	p := build(t, func(t *topology.Topology) {
		a, b, c := source(t, "a", "a-topic"), source(t, "b", "b-topic"), source(t, "c", "c-topic")
		sink(t, "b-out", b, "y")
		topology.Merge(t, "all", c, a)
	})
	equalSubs(t, p, []string{"a:", "a", "c", "all"}, []string{"b:", "b", "b-out"})
	if in := p.Subs[0].Inputs; len(in) != 2 || in[0].Topic != "a-topic" || in[1].Topic != "c-topic" {
		t.Errorf("%v", in)
	}
}

func TestASharedStoreJoinsSubTopologies(t *testing.T) {
	totals, names := text("totals"), text("names")
	p := build(t, func(t *topology.Topology) {
		through(t, "count", source(t, "a", "a-topic"), topology.Uses(totals, totals))
		through(t, "other", source(t, "b", "b-topic"))
		through(t, "correct", source(t, "c", "c-topic"), topology.Uses(totals, names))
	})
	equalSubs(t, p, []string{"a:", "a", "count", "c", "correct"}, []string{"b:", "b", "other"})
	if s := p.Subs[0]; len(s.Stores) != 3 || s.Store("totals") == nil || s.Store("names") == nil || s.Store("a-task") == nil {
		t.Errorf("%v", s.Stores)
	}
	if p.Subs[1].Stateful() {
		t.Error("the other one keeps state")
	}
}

func TestRepartitionStartsASubTopology(t *testing.T) {
	p := build(t, func(t *topology.Topology) {
		sink(t, "out", repartition(t, "by-id", source(t, "a", "a-topic"), topology.Partitions(6)), "x")
	})
	equalSubs(t, p, []string{"a:", "a", "by-id-out"}, []string{"by-id:", "by-id", "out"})
	if in := p.Subs[1].Inputs; len(in) != 1 || in[0].Topic != "shop-by-id-repartition" || !in[0].Internal || in[0].Replay {
		t.Errorf("%v", in)
	}
	want := graph.InternalTopic{Name: "shop-by-id-repartition", Kind: graph.TopicRepartition, Sub: 1, Partitions: 6}
	filler := graph.InternalTopic{Name: "shop-transactions", Kind: graph.TopicFillers, Sub: -1, Partitions: 1}
	if !slices.Equal(p.Internal, []graph.InternalTopic{want, filler}) {
		t.Errorf("%v", p.Internal)
	}
	if got := p.Sources(); !slices.Equal(got, []string{"a-topic"}) {
		t.Errorf("sources %v", got)
	}
	if got := p.Sinks(); !slices.Equal(got, []string{"x"}) {
		t.Errorf("sinks %v", got)
	}
}

// internal lists the internal topics as kind and name.
func internal(p *graph.Plan) []string {
	var all []string
	for _, in := range p.Internal {
		all = append(all, in.Kind.String()+" "+in.Name)
	}
	return all
}

func TestInternalStoresFollowFromWhatNeedsThem(t *testing.T) {
	totals := text("totals")
	onTimer := func(*processor.Context[string, string], string, statestore.Timer) error { return nil }
	for _, c := range []struct {
		name string
		fill func(*topology.Topology)
		want []string
	}{
		{"nothing", func(t *topology.Topology) { through(t, "count", source(t, "a", "in")) }, []string{"fillers shop-transactions"}},
		{"a store", func(t *topology.Topology) { through(t, "count", source(t, "a", "in"), topology.Uses(totals)) },
			[]string{"changelog shop-totals-changelog", "changelog shop-a-task-changelog"}},
		{"timers", func(t *topology.Topology) {
			through(t, "count", source(t, "a", "in"), topology.OnTimer(totals, onTimer))
		},
			[]string{"changelog shop-totals-changelog", "changelog shop-a-timers-changelog", "changelog shop-a-task-changelog"}},
		{"parked records", func(t *topology.Topology) {
			through(t, "count", source(t, "a", "in"), topology.OnFailure(processor.DelayedRetry(processor.Skip(), time.Minute)))
		}, []string{"changelog shop-a-timers-changelog", "changelog shop-a-parked-changelog", "changelog shop-a-task-changelog"}},
		{"deduplication", func(t *topology.Topology) {
			source(t, "a", "in", topology.Deduplicate(dedup.Config{ID: dedup.Key(), Window: time.Hour}))
		}, []string{"marker changelog shop-a-markers-changelog", "changelog shop-a-task-changelog", "replay shop-a-replay", "dead letters shop-dead-letters"}},
		{"dead letters", func(t *topology.Topology) {
			source(t, "a", "in", topology.OnDecodeFailure(processor.RetryInPlace(processor.DeadLetter(), 0)))
		}, []string{"fillers shop-transactions", "dead letters shop-dead-letters"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := build(t, c.fill)
			if got := internal(p); !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if (p.DeadLetters != "") != slices.Contains(c.want, "dead letters shop-dead-letters") {
				t.Errorf("dead letters %q", p.DeadLetters)
			}
		})
	}
}

func TestIdentityHeadersAreOwn(t *testing.T) {
	byHeader := func(name string) topology.SourceOption {
		return topology.Deduplicate(dedup.Config{ID: dedup.Header(name), Window: time.Hour})
	}
	p := build(t, func(t *topology.Topology) {
		source(t, "a", "a-topic", byHeader("message-id"))
		source(t, "b", "b-topic", byHeader("message-id"))
		source(t, "c", "c-topic", byHeader("event-id"))
		source(t, "d", "d-topic", topology.Deduplicate(dedup.Config{ID: dedup.Key(), Window: time.Hour}))
	})
	if want := []string{"message-id", "event-id"}; !slices.Equal(p.OwnHeaders, want) {
		t.Errorf("%v", p.OwnHeaders)
	}
	if scope := p.Node("b").Dedup.Scope; scope != "b" {
		t.Errorf("the scope defaults to %q", scope)
	}
}
