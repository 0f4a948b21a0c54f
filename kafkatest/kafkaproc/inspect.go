package kafkaproc

import (
	"cmp"
	"context"
	"slices"
)

// Offsets are the bounds of one partition, as the Java client reports them.
type Offsets struct {
	Partition int32 `json:"partition"`
	Earliest  int64 `json:"earliest"`
	// Stable is the last stable offset: the first offset of the oldest open transaction, or Latest.
	Stable int64 `json:"stable"`
	// Latest is the high watermark.
	Latest int64 `json:"latest"`
}

// GetOffsets returns the bounds of every partition of a topic, in order.
func (c *Cluster) GetOffsets(ctx context.Context, topic string) ([]Offsets, error) {
	all, err := inspect[Offsets](ctx, c, "offsets", topic)
	slices.SortFunc(all, func(a, b Offsets) int { return cmp.Compare(a.Partition, b.Partition) })
	return all, err
}

// TopicPartition names one partition.
type TopicPartition struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
}

// Transaction is what the coordinators know of a transactional id.
type Transaction struct {
	ID string `json:"id"`
	// State is Kafka's name, such as "Ongoing", "CompleteCommit" or "CompleteAbort".
	State               string           `json:"state"`
	ProducerID          int64            `json:"producerID"`
	ProducerEpoch       int32            `json:"producerEpoch"`
	TimeoutMilliseconds int64            `json:"timeoutMilliseconds"`
	StartMilliseconds   int64            `json:"startMilliseconds"` // -1 when none is open
	Partitions          []TopicPartition `json:"partitions"`
}

// ListTransactions returns all transactional ids, by id.
func (c *Cluster) ListTransactions(ctx context.Context) ([]Transaction, error) {
	all, err := inspect[Transaction](ctx, c, "transactions")
	slices.SortFunc(all, func(a, b Transaction) int { return cmp.Compare(a.ID, b.ID) })
	return all, err
}

// Group is a consumer group.
type Group struct {
	ID string `json:"id"`
	// Type and State are Kafka's names, such as "Classic" and "Stable".
	Type     string            `json:"type"`
	State    string            `json:"state"`
	Assignor string            `json:"assignor"`
	Members  []Member          `json:"members"`
	Offsets  []CommittedOffset `json:"offsets"`
}

// Member is a member of a Group.
type Member struct {
	ID         string           `json:"id"`
	InstanceID string           `json:"instanceID"` // empty for a dynamic member
	ClientID   string           `json:"clientID"`
	Partitions []TopicPartition `json:"partitions"`
}

// CommittedOffset is the committed position of a Group in one partition.
type CommittedOffset struct {
	TopicPartition
	Offset      int64  `json:"offset"`
	LeaderEpoch int32  `json:"leaderEpoch"` // -1 when it was not committed with one
	Metadata    string `json:"metadata"`
}

// DescribeGroup returns members and offsets of a group, in order. A group that does not exist is an error.
func (c *Cluster) DescribeGroup(ctx context.Context, group string) (Group, error) {
	all, err := inspect[Group](ctx, c, "group", group)
	if err != nil {
		return Group{}, err
	}
	g := all[0]
	slices.SortFunc(g.Members, func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
	slices.SortFunc(g.Offsets, func(a, b CommittedOffset) int { return compare(a.TopicPartition, b.TopicPartition) })
	for _, m := range g.Members {
		slices.SortFunc(m.Partitions, compare)
	}
	return g, nil
}

func compare(a, b TopicPartition) int {
	return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
}

// inspect runs Inspect.java and collects its lines.
func inspect[T any](ctx context.Context, c *Cluster, args ...string) ([]T, error) {
	var all []T
	err := RunJava(ctx, "oncemill.Inspect", append([]string{c.Bootstrap()}, args...), func(line T) error {
		all = append(all, line)
		return nil
	})
	return all, err
}
