package retail

import (
	"slices"
	"testing"

	"github.com/oncemill/oncemill/internal/graph"
)

func build(t *testing.T, o JobOptions) *graph.Plan {
	t.Helper()
	plan, err := Job(o).Build()
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

func TestJobIsTwoSubTopologiesJoinedByARepartitionTopic(t *testing.T) {
	plan := build(t, JobOptions{})
	topics := TopicsOf(DefaultApp)
	if len(plan.Subs) != 2 {
		t.Fatalf("%d sub-topologies", len(plan.Subs))
	}
	if got := plan.Sources(); !slices.Equal(got, []string{topics.Input}) {
		t.Errorf("sources %v", got)
	}
	if plan.DeadLetters != topics.DeadLetters {
		t.Errorf("dead letters go to %q, Topics says %q", plan.DeadLetters, topics.DeadLetters)
	}
	sinks, repartitioned := []string{}, ""
	for _, n := range plan.Nodes {
		switch {
		case n.Kind != graph.KindSink:
		case n.Repartition != "":
			repartitioned = n.Topic
		default:
			sinks = append(sinks, n.Topic)
		}
	}
	if want := topics.Owned()[1:]; !slices.Equal(sinks, want) {
		t.Errorf("sinks %v, want %v", sinks, want)
	}
	second := plan.Subs[1]
	if len(second.Inputs) != 1 || second.Inputs[0].Topic != repartitioned || !second.Inputs[0].Internal {
		t.Errorf("the second sub-topology reads %+v, want %q", second.Inputs, repartitioned)
	}
	for sub, want := range [][]string{{StoreOrders, StoreAccounts}, {StoreProducts}} {
		var got []string
		for _, s := range plan.Subs[sub].Stores {
			if !s.Internal {
				got = append(got, s.Name)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("sub-topology %d has the stores %v, want %v", sub, got, want)
		}
	}
}

func TestJobWithoutDedupDiffersInNothingElse(t *testing.T) {
	with, without := build(t, JobOptions{App: "a"}), build(t, JobOptions{App: "a", NoDedup: true})
	if len(with.Nodes) != len(without.Nodes) {
		t.Fatalf("%d nodes with, %d without", len(with.Nodes), len(without.Nodes))
	}
	for i, n := range with.Nodes {
		other := without.Nodes[i]
		if n.Name != other.Name || n.Kind != other.Kind || n.Topic != other.Topic || len(n.Stores) != len(other.Stores) {
			t.Errorf("node %q with, %q without", n.Name, other.Name)
		}
		if n.Kind == graph.KindSource && n.Repartition == "" {
			if n.Dedup == nil || n.Dedup.Window != DefaultWindow || other.Dedup != nil {
				t.Errorf("source %q: dedup %+v with, %+v without", n.Name, n.Dedup, other.Dedup)
			}
		}
	}
}

func TestJobsOfTwoApplicationsShareNoTopic(t *testing.T) {
	a, b := TopicsOf("a"), TopicsOf("b")
	for _, topic := range append(a.Owned(), a.DeadLetters) {
		if slices.Contains(append(b.Owned(), b.DeadLetters), topic) {
			t.Errorf("both have %q", topic)
		}
	}
	plan := build(t, JobOptions{App: "a"})
	for _, internal := range plan.Internal {
		if slices.Contains(a.Owned(), internal.Name) {
			t.Errorf("the internal topic %q has the name of one of ours", internal.Name)
		}
	}
}
