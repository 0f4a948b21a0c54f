package kafkaproc

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/oncemill/oncemill/record"
)

// Isolation is the isolation level of a consumer.
type Isolation string

// The isolation levels.
const (
	ReadCommitted   Isolation = "read_committed"
	ReadUncommitted Isolation = "read_uncommitted"
)

// Consume reads a topic with Kafka's Java consumer, from the beginning up to the end of the moment, and returns the
// records in the order of partitions and offsets. Under ReadCommitted the end is the last stable offset: it does not
// wait for an open transaction. Without partitions it reads all of them.
func (c *Cluster) Consume(ctx context.Context, topic string, isolation Isolation, partitions ...int32) ([]record.Raw, error) {
	var records []record.Raw
	err := c.ConsumeEach(ctx, topic, isolation, func(r record.Raw) error {
		records = append(records, r)
		return nil
	}, partitions...)
	slices.SortStableFunc(records, func(a, b record.Raw) int {
		return cmp.Or(cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Offset, b.Offset))
	})
	return records, err
}

// ConsumeEach is Consume for topics that do not fit into memory. The records come in order within a partition; an error
// of f ends the reading and is returned.
func (c *Cluster) ConsumeEach(ctx context.Context, topic string, isolation Isolation, f func(record.Raw) error, partitions ...int32) error {
	args := []string{c.Bootstrap(), topic, string(isolation)}
	for _, p := range partitions {
		args = append(args, strconv.Itoa(int(p)))
	}
	return RunJava(ctx, "oncemill.Dump", args, func(l dumpLine) error { return f(l.record()) })
}

// ConsumeTopics is ConsumeEach for all partitions of several topics at once: one Java process instead of many.
func (c *Cluster) ConsumeTopics(ctx context.Context, topics []string, isolation Isolation, f func(record.Raw) error) error {
	args := []string{c.Bootstrap(), strings.Join(topics, ","), string(isolation)}
	return RunJava(ctx, "oncemill.Dump", args, func(l dumpLine) error { return f(l.record()) })
}

// dumpLine is one line of Dump.java.
type dumpLine struct {
	Topic       string          `json:"topic"`
	Partition   int32           `json:"partition"`
	Offset      int64           `json:"offset"`
	Timestamp   int64           `json:"timestamp"`
	LeaderEpoch int32           `json:"leaderEpoch"`
	Key         []byte          `json:"key"`
	Value       []byte          `json:"value"`
	Headers     []record.Header `json:"headers"`
}

func (l dumpLine) record() record.Raw {
	return record.Raw{
		Key: l.Key, Value: l.Value, Timestamp: time.UnixMilli(l.Timestamp), Headers: l.Headers, LeaderEpoch: l.LeaderEpoch,
		Position: record.Position{Topic: l.Topic, Partition: l.Partition, Offset: l.Offset},
	}
}
