package graph_test

import (
	"time"

	"github.com/oncemill/oncemill/dedup"
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
