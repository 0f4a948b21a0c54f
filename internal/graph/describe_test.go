package graph_test

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/internal/graph"
	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/topology"
)

// payments has one of everything: deduplication, stores, timers, branch, merge, repartition, policies, fixed and dynamic
// sinks.
func payments(t *topology.Topology) {
	t.Defaults(processor.Policies{Decode: processor.DeadLetter()})
	orders, products := statestore.KeyValue("orders", serde.String(), serde.JSON[string]()), statestore.KeyValue("units", serde.String(), serde.Int64())
	commands := topology.Source(t, "commands", "order-commands", serde.String(), serde.JSON[string](), topology.AlsoTopics("order-fixes"),
		topology.Deduplicate(dedup.Config{ID: dedup.Header("message-id"), Window: 7 * 24 * time.Hour}))
	decided := topology.Process(t, "decide", commands, pass, topology.OnTimer(orders, onTimer),
		topology.OnFailure(processor.RetryInPlace(processor.DelayedRetryInOrder(processor.DeadLetter(), time.Minute, time.Hour), 0, 100*time.Millisecond)),
		topology.OnTimerFailure(processor.Skip()))
	arms := topology.Branch(t, "size", decided,
		topology.Case[string, string]{Name: "large", When: func(r record.Record[string, string]) bool { return len(r.Value) > 9 }},
		topology.Case[string, string]{Name: "small"})
	topology.Sink(t, "events", topology.Merge(t, "all", arms...), "order-events", serde.String(), serde.JSON[string](), topology.OnProduceFailure(processor.Skip()))
	byProduct := topology.Repartition(t, "by-product", arms[0], serde.String(), serde.String())
	counted := topology.Process(t, "count", byProduct, pass, topology.Uses(products))
	topology.SinkTo(t, "anywhere", counted, func(r record.Record[string, string]) string { return r.Key }, serde.String(), serde.String())
}

func TestDescribeRendersText(t *testing.T) {
	d := graph.Describe(plan(t, "payments", payments), map[string]int32{"order-commands": 4})
	golden(t, "payments.txt", d.Text())
	if d.String() != d.Text() {
		t.Error("String is not Text")
	}
}

func TestDescribeRendersTextWithoutABroker(t *testing.T) {
	golden(t, "payments-offline.txt", graph.Describe(plan(t, "payments", payments), nil).Text())
}

func TestDescribeRendersMermaid(t *testing.T) {
	golden(t, "payments.mermaid", graph.Describe(plan(t, "payments", payments), map[string]int32{"order-commands": 4}).Mermaid())
}

func TestDescribeRendersDOT(t *testing.T) {
	golden(t, "payments.dot", graph.Describe(plan(t, "payments", payments), map[string]int32{"order-commands": 4}).DOT())
}

func TestDescribeRendersJSON(t *testing.T) {
	d := graph.Describe(plan(t, "payments", payments), map[string]int32{"order-commands": 4})
	golden(t, "payments.json", string(d.JSON()))
	var back graph.Description
	if err := json.Unmarshal(d.JSON(), &back); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(back, d) {
		t.Error("the description does not survive JSON")
	}
}

func TestDescribeIsDeterministic(t *testing.T) {
	first := graph.Describe(plan(t, "payments", payments), nil)
	for range 20 {
		again := graph.Describe(plan(t, "payments", payments), nil)
		if again.Text() != first.Text() || again.Mermaid() != first.Mermaid() || again.DOT() != first.DOT() || string(again.JSON()) != string(first.JSON()) {
			t.Fatal("two descriptions of one topology differ")
		}
	}
}

func TestPartitionsOfARepartitionTopic(t *testing.T) {
	chain := func(asked int32) func(*topology.Topology) {
		return func(t *topology.Topology) {
			first := topology.Repartition(t, "first", source(t, "orders", "orders-topic"), serde.String(), serde.String(), topology.Partitions(asked))
			sink(t, "out", topology.Repartition(t, "second", first, serde.String(), serde.String()), "sums")
		}
	}
	for _, c := range []struct {
		name   string
		asked  int32
		counts map[string]int32
		want   []int32
	}{
		{"not known", 0, nil, []int32{0, 0, 0}},
		{"that of its writer", 0, map[string]int32{"orders-topic": 4}, []int32{4, 4, 4}},
		{"as asked for", 6, map[string]int32{"orders-topic": 4}, []int32{4, 6, 6}},
		{"as it is", 6, map[string]int32{"orders-topic": 4, "shop-first-repartition": 5, "shop-second-repartition": 7}, []int32{4, 5, 7}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := plan(t, "shop", chain(c.asked)).Partitions(c.counts); !reflect.DeepEqual(got, c.want) {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
}

func TestPolicyText(t *testing.T) {
	for want, p := range map[string]processor.Policy{
		"stop":                                   processor.Stop(),
		"skip":                                   processor.Skip(),
		"dead letter":                            processor.DeadLetter(),
		"retry in place after 0s, 1s, then stop": processor.RetryInPlace(processor.Stop(), 0, time.Second),
		"park for 1m0s, then retry in place after 0s, then skip": processor.DelayedRetry(processor.RetryInPlace(processor.Skip(), 0), time.Minute),
		"park for 1m0s, its key waits, then dead letter":         processor.DelayedRetryInOrder(processor.DeadLetter(), time.Minute),
		"retry in place after 0s, then stop":                     {Action: processor.ActionRetry, Delays: []time.Duration{0}},
	} {
		if got := graph.PolicyText(p); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
