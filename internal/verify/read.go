package verify

import (
	"context"
	"fmt"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/record"
)

// read reads like Log.Read. Records that are removed while it reads, by retention or by the application that runs, are left out:
// from then on Starts says that they are gone, and what was in them is not judged.
func (r *run) read(ctx context.Context, topic string, partition int32, from, to int64, fn func(*record.Raw) error) error {
	for {
		next := from
		err := r.Log.Read(ctx, topic, partition, from, to, func(raw *record.Raw) error {
			next = raw.Offset + 1
			return fn(raw)
		})
		if problem.CodeOf(err) != problem.OffsetOutOfRange {
			return err
		}
		start, again := r.startNow(ctx, topic, partition)
		if again != nil {
			return again
		}
		if start <= next {
			return err // nothing was removed: the log lost its end
		}
		if r.topics[topic].Starts[partition] = start; start >= to {
			return nil
		}
		from = start
	}
}

// startNow asks where a partition begins by now.
func (r *run) startNow(ctx context.Context, topic string, partition int32) (int64, error) {
	now, err := r.topicNow(ctx, topic)
	if err != nil {
		return 0, err
	}
	return now.Starts[partition], nil
}

// topicNow describes a topic again.
func (r *run) topicNow(ctx context.Context, topic string) (Topic, error) {
	topics, err := r.Log.Topics(ctx, []string{topic})
	if err != nil {
		return Topic{}, err
	}
	now, ok := topics[topic]
	if !ok || now.ID != r.topics[topic].ID || now.Partitions < r.topics[topic].Partitions {
		return Topic{}, problem.New(problem.TopicMissing, fmt.Sprintf("topic %q", topic), "it was deleted while it was read")
	}
	return now, nil
}
