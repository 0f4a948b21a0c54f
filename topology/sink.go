package topology

import (
	"fmt"

	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/internal/graph"
	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/serde"
)

// SinkOption is an option of Sink, SinkTo and Repartition.
type SinkOption func(*sinkOptions)

type sinkOptions struct {
	node       *graph.Node
	partition  any // Partitioner[K, V]
	partitions int32
	dedup      *dedup.Config
}

// Partitioner chooses the partition of an output, from 0 up to and excluding partitions. key is the encoded key, nil for
// Kafka's null.
type Partitioner[K, V any] func(topic string, key []byte, r record.Record[K, V], partitions int32) int32

// PartitionBy replaces the default partitioner, which is murmur2 of the encoded key as in Java; a record without a key
// goes to the partition with the number of its input's partition.
func PartitionBy[K, V any](p Partitioner[K, V]) SinkOption {
	return func(o *sinkOptions) { o.partition = p }
}

// Partitions sets the number of partitions of a repartition topic; without it, it has as many as the input of the stream.
func Partitions(n int32) SinkOption { return func(o *sinkOptions) { o.partitions = n } }

// DeduplicateAfter admits each message of a repartition topic once, as Deduplicate does for a source: the copies of a message
// meet where its new key puts them, however they were spread before. Conflicts are looked for between key and value as they
// lie in the repartition topic.
func DeduplicateAfter(cfg dedup.Config) SinkOption { return func(o *sinkOptions) { o.dedup = &cfg } }

// OnEncodeFailure sets the policy for outputs that cannot be encoded, are too large, or have no topic or partition.
func OnEncodeFailure(p processor.Policy) SinkOption {
	return func(o *sinkOptions) { o.node.Policies.Encode = p }
}

// OnProduceFailure sets the policy for outputs that the broker refuses.
func OnProduceFailure(p processor.Policy) SinkOption {
	return func(o *sinkOptions) { o.node.Policies.Produce = p }
}

// Sink writes a stream to a topic, which must exist when the application starts.
func Sink[K, V any](t *Topology, name string, in Stream[K, V], topic string, keys serde.Serde[K], values serde.Serde[V], opts ...SinkOption) {
	sink(t, "Sink", name, in, topic, nil, keys, values, opts)
}

// SinkTo writes each record to the topic that a function names. A topic that does not exist fails the record.
func SinkTo[K, V any](t *Topology, name string, in Stream[K, V], topic func(record.Record[K, V]) string, keys serde.Serde[K], values serde.Serde[V], opts ...SinkOption) {
	sink(t, "SinkTo", name, in, "", topic, keys, values, opts)
}

func sink[K, V any](t *Topology, what, name string, in Stream[K, V], topic string, dynamic func(record.Record[K, V]) string, keys serde.Serde[K], values serde.Serde[V], opts []SinkOption) (*graph.Node, *sinkOptions) {
	n := t.add(graph.KindSink, what, name, parent(t, name, in)...)
	n.Policies = t.defaults
	n.Topic = topic
	o := &sinkOptions{node: n}
	for _, opt := range opts {
		opt(o)
	}
	partition, ok := o.partition.(Partitioner[K, V])
	if o.partition != nil && !ok {
		t.errorf("%s: sink %q: topology.PartitionBy has other types than the stream", caller(), name)
	}
	if o.partitions != 0 && what != "Repartition" {
		t.errorf("%s: sink %q: topology.Partitions is for Repartition; the topic of a sink is yours, create it as you want it", caller(), name)
	}
	if o.dedup != nil && what != "Repartition" {
		t.errorf("%s: sink %q: topology.DeduplicateAfter is for Repartition; the records of a sink are somebody else's input", caller(), name)
	}
	if topic == "" && dynamic == nil {
		t.errorf("%s: sink %q has no topic", caller(), name)
	}
	keys = bind(t, n, keys, serde.Use{Topic: topic, Key: true})
	values = bind(t, n, values, serde.Use{Topic: topic})
	n.Instantiate = instantiateSink(n, dynamic, partition, keys, values)
	return n, o
}

// Repartition sends a stream through the internal topic <app>-<name>-repartition, so that records meet by their new key. It
// starts a new sub-topology. The topic's records are deleted once they are processed.
func Repartition[K, V any](t *Topology, name string, in Stream[K, V], keys serde.Serde[K], values serde.Serde[V], opts ...SinkOption) Stream[K, V] {
	if name == "" {
		t.errorf("%s: a repartition topic has no name; names are part of what is stored: write topology.Repartition(t, \"some-name\", ...)", caller())
		name = fmt.Sprintf("unnamed-%d", len(t.nodes)) // so that nothing else is reported for the same mistake
	}
	topic := graph.RepartitionTopic(t.app, name)
	n, o := sink(t, "Repartition", name+"-out", in, topic, nil, keys, values, opts)
	n.Repartition = name
	if o.partitions < 0 {
		t.errorf("%s: Repartition %q: %d partitions", caller(), name, o.partitions)
	}
	t.parts[name] = o.partitions
	var sourceOptions []SourceOption
	if o.dedup != nil {
		sourceOptions = append(sourceOptions, Deduplicate(*o.dedup))
	}
	out := Source(t, name, topic, keys, values, sourceOptions...)
	t.nodes[out.node].Repartition = name
	return out
}
