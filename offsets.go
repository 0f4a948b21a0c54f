package oncemill

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/internal/task"
)

// committedOffset is what the group coordinator has for one partition; Offset is -1 when there is nothing.
type committedOffset struct {
	Offset   int64
	Metadata string
}

// fetchStable reads committed offsets, and waits for transactions that hold some of them open (KIP-447): what it returns is
// final for every transaction that was begun before.
func fetchStable(ctx context.Context, cl *kgo.Client, known *topics, group string, partition int32, topics []string) (map[string]committedOffset, error) {
	req := kmsg.NewPtrOffsetFetchRequest()
	req.RequireStable = true
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group = group
	req.Group = group
	names := map[[16]byte]string{} // answers from version 10 on have ids only
	for _, topic := range topics {
		t := kmsg.NewOffsetFetchRequestGroupTopic()
		t.Topic, t.TopicID, t.Partitions = topic, known.info(topic).id, []int32{partition}
		names[t.TopicID] = topic
		g.Topics = append(g.Topics, t)
		old := kmsg.NewOffsetFetchRequestTopic()
		old.Topic, old.Partitions = topic, []int32{partition}
		req.Topics = append(req.Topics, old)
	}
	req.Groups = append(req.Groups, g)
	out := map[string]committedOffset{}
	err := retry(ctx, fmt.Sprintf("the committed offsets of partition %d of %s", partition, strings.Join(topics, ", ")), func() error {
		resp, err := req.RequestWith(ctx, cl)
		if err != nil {
			return err
		}
		if err := readOffsets(resp, names, out); err != nil {
			return err
		}
		for _, topic := range topics {
			if _, ok := out[topic]; !ok {
				return fmt.Errorf("no answer for %s/%d", topic, partition) // which is not the answer that there is no offset
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("OffsetFetch of group %q: %w", group, err)
	}
	return out, nil
}

func readOffsets(resp *kmsg.OffsetFetchResponse, names map[[16]byte]string, out map[string]committedOffset) error {
	add := func(topic string, code int16, offset int64, metadata *string) error {
		if err := kerr.ErrorForCode(code); err != nil {
			return fmt.Errorf("%s: %w", topic, err)
		}
		c := committedOffset{Offset: offset}
		if metadata != nil {
			c.Metadata = *metadata
		}
		out[topic] = c
		return nil
	}
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return err
	}
	for _, g := range resp.Groups {
		if err := kerr.ErrorForCode(g.ErrorCode); err != nil {
			return err
		}
		for _, t := range g.Topics {
			if t.Topic == "" {
				t.Topic = names[t.TopicID]
			}
			for _, p := range t.Partitions {
				if err := add(t.Topic, p.ErrorCode, p.Offset, p.Metadata); err != nil {
					return err
				}
			}
		}
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if err := add(t.Topic, p.ErrorCode, p.Offset, p.Metadata); err != nil {
				return err
			}
		}
	}
	return nil
}

// committedCounter returns the metadata that was committed for a task; ours is false when there is none.
func committedCounter(ctx context.Context, cl *kgo.Client, known *topics, group string, t *task.Task) (latest task.Metadata, ours bool, err error) {
	var topics []string
	for _, in := range t.Inputs() {
		topics = append(topics, in.Topic)
	}
	offsets, err := fetchStable(ctx, cl, known, group, t.ID().Partition, topics)
	if err != nil {
		return latest, false, err
	}
	for _, topic := range topics {
		m, written, err := task.DecodeMetadata(offsets[topic].Metadata)
		if err != nil {
			return latest, false, err
		}
		if written && (!ours || m.N > latest.N) {
			latest, ours = m, true
		}
	}
	return latest, ours, nil
}

// isolation of ListOffsets.
const (
	readUncommitted int8 = 0
	readCommitted   int8 = 1
)

// Timestamps of ListOffsets.
const (
	atEnd   int64 = -1
	atStart int64 = -2
)

// listOffsets asks for one offset of the same partition of several topics.
func listOffsets(ctx context.Context, cl *kgo.Client, topics []string, partition int32, at int64, isolation int8) (map[string]int64, error) {
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID, req.IsolationLevel = -1, isolation
	for _, topic := range topics {
		t := kmsg.NewListOffsetsRequestTopic()
		t.Topic = topic
		p := kmsg.NewListOffsetsRequestTopicPartition()
		p.Partition, p.Timestamp, p.CurrentLeaderEpoch = partition, at, -1
		t.Partitions = append(t.Partitions, p)
		req.Topics = append(req.Topics, t)
	}
	out := map[string]int64{}
	err := retry(ctx, fmt.Sprintf("the ends of partition %d of %s", partition, strings.Join(topics, ", ")), func() error {
		for _, shard := range cl.RequestSharded(ctx, req) { // partitions have different leaders
			if shard.Err != nil {
				return shard.Err
			}
			for _, t := range shard.Resp.(*kmsg.ListOffsetsResponse).Topics {
				for _, p := range t.Partitions {
					if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
						return fmt.Errorf("%s/%d: %w", t.Topic, p.Partition, err)
					}
					out[t.Topic] = p.Offset
				}
			}
		}
		for _, topic := range topics {
			if _, ok := out[topic]; !ok {
				return fmt.Errorf("no answer for %s/%d", topic, partition)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("ListOffsets: %w", err)
	}
	return out, nil
}

// epochEnd asks where a leader epoch ended (KIP-320); an end below a position means that the log diverged from it. It is -1 for a log
// without a history of epochs.
func epochEnd(ctx context.Context, cl *kgo.Client, topic string, partition int32, epoch int32) (int64, error) {
	ends, err := epochEnds(ctx, cl, map[string]int32{topic: epoch}, partition)
	return ends[topic], err
}

// epochEnds is epochEnd for the same partition of several topics.
func epochEnds(ctx context.Context, cl *kgo.Client, epochs map[string]int32, partition int32) (map[string]int64, error) {
	req := kmsg.NewPtrOffsetForLeaderEpochRequest()
	req.ReplicaID = -2 // a client that looks for truncation
	topics := slices.Sorted(maps.Keys(epochs))
	for _, topic := range topics {
		t := kmsg.NewOffsetForLeaderEpochRequestTopic()
		t.Topic = topic
		p := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
		p.Partition, p.LeaderEpoch, p.CurrentLeaderEpoch = partition, epochs[topic], -1
		t.Partitions = append(t.Partitions, p)
		req.Topics = append(req.Topics, t)
	}
	ends := map[string]int64{}
	what := fmt.Sprintf("the leader epochs of partition %d of %s", partition, strings.Join(topics, ", "))
	err := retry(ctx, what, func() error {
		for _, shard := range cl.RequestSharded(ctx, req) { // partitions have different leaders
			if shard.Err != nil {
				return shard.Err
			}
			for _, t := range shard.Resp.(*kmsg.OffsetForLeaderEpochResponse).Topics {
				for _, p := range t.Partitions {
					if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
						return fmt.Errorf("%s/%d: %w", t.Topic, p.Partition, err)
					}
					ends[t.Topic] = p.EndOffset
				}
			}
		}
		for _, topic := range topics {
			if _, ok := ends[topic]; !ok {
				return fmt.Errorf("no answer for %s/%d", topic, partition)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("OffsetForLeaderEpoch: %w", err)
	}
	return ends, nil
}

// retryPause is the pause between two tries; the client's own retries come on top.
const retryPause = 100 * time.Millisecond

// retry repeats what may succeed later until ctx ends: once it runs, an application waits an outage out, and says what it waits for.
func retry(ctx context.Context, what string, fn func() error) error {
	var cause error
	st := stall{since: time.Now()} // the client has tried for long when its first error comes
	who := waiterOf(ctx)
	for {
		err := fn()
		if err == nil {
			return who.goesOn(ctx)
		}
		if permanent(err) {
			return refused(what, err)
		}
		if cause == nil || ctx.Err() == nil {
			cause = err // the last one that is more than the end of ctx
		}
		if err := who.stands(ctx, &st, what, cause); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(cause, ctx.Err())
		case <-time.After(retryPause):
		}
	}
}

// refused gives a code to an answer of the brokers that no waiting mends.
func refused(what string, err error) error {
	var ke *kerr.Error
	switch {
	case !errors.As(err, &ke), problem.CodeOf(err) != "", errors.Is(err, kerr.InvalidTransactionTimeout): // refusedSetting knows the cure
		return err
	case isOneOf(err, kerr.ProducerFenced, kerr.InvalidProducerEpoch):
		return problem.Wrap(problem.Fenced, what, err)
	}
	return problem.Wrap(problem.BrokersRefused, what, err)
}

// permanent tells errors that no waiting mends.
func permanent(err error) bool {
	if errors.Is(err, kgo.ErrClientClosed) || errors.Is(err, context.Canceled) {
		return true
	}
	var ke *kerr.Error
	if !errors.As(err, &ke) {
		return false
	}
	switch {
	case ke.Retriable, errors.Is(err, kerr.UnstableOffsetCommit), errors.Is(err, kerr.UnknownServerError), errors.Is(err, kerr.ConcurrentTransactions):
		return false
	}
	return true
}
