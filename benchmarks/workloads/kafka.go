package workloads

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Partitions of every topic of the benchmarks.
const Partitions = 4

// listInterval is the pause between two looks for a new topic.
const listInterval = 50 * time.Millisecond

// CreateTopic creates a topic that keeps its records, and returns when the brokers list it; one that exists stays as it is.
func CreateTopic(ctx context.Context, admin *kadm.Client, name string) error {
	forever := "-1"
	_, err := admin.CreateTopic(ctx, Partitions, -1, map[string]*string{"retention.ms": &forever, "retention.bytes": &forever}, name)
	if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		return fmt.Errorf("create topic %s: %w", name, err)
	}
	tick := time.NewTicker(listInterval)
	defer tick.Stop()
	for {
		topics, err := admin.ListTopics(ctx, name)
		if err != nil {
			return err
		}
		if len(topics[name].Partitions) == Partitions && topics.Error() == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("topic %s was created and is not listed: %w", name, context.Cause(ctx))
		case <-tick.C:
		}
	}
}

// Load fills the input topic, once: a topic that has all its records stays as it is, a half filled one is made anew. added
// is told how many records were acknowledged. The first result says whether the topic was filled here.
func Load(ctx context.Context, brokers []string, in Input, added func(n int64)) (filled bool, err error) {
	client, err := newLoader(brokers)
	if err != nil {
		return false, err
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	if err := CreateTopic(ctx, admin, in.Topic()); err != nil {
		return false, err
	}
	have, err := records(ctx, admin, in.Topic())
	if err != nil {
		return false, err
	}
	if have == in.Records {
		added(have)
		return false, nil
	}
	if have > 0 { // the rest of a load that was killed
		if have, err = empty(ctx, admin, in.Topic()); err != nil {
			return false, err
		}
	}
	if have > 0 {
		return false, fmt.Errorf("topic %s holds %d of %d records, and was not deleted in time: delete it", in.Topic(), have, in.Records)
	}
	return true, fill(ctx, client, in, 0, in.Records, added)
}

// records is the number of records that were ever written to a topic without transactions.
func records(ctx context.Context, admin *kadm.Client, topic string) (int64, error) {
	ends, err := admin.ListEndOffsets(ctx, topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return 0, fmt.Errorf("offsets of %s: %w", topic, err)
	}
	have := int64(0)
	ends.Each(func(o kadm.ListedOffset) { have += o.Offset })
	return have, nil
}

// empty deletes a topic, creates it again, and returns the number of its records.
func empty(ctx context.Context, admin *kadm.Client, topic string) (int64, error) {
	if _, err := admin.DeleteTopic(ctx, topic); err != nil {
		return 0, fmt.Errorf("delete topic %s, which is filled in part: %w", topic, err)
	}
	if err := CreateTopic(ctx, admin, topic); err != nil {
		return 0, err
	}
	return records(ctx, admin, topic)
}

// Append sends records from (inclusive) to to (exclusive) of the input to its topic, which must exist.
func Append(ctx context.Context, brokers []string, in Input, from, to int64, added func(n int64)) error {
	client, err := newLoader(brokers)
	if err != nil {
		return err
	}
	defer client.Close()
	return fill(ctx, client, in, from, to, added)
}

func newLoader(brokers []string) (*kgo.Client, error) {
	return kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.ProducerLinger(20*time.Millisecond), kgo.MaxBufferedRecords(200_000),
		kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.MaxProduceRequestsInflightPerBroker(1))
}

func fill(ctx context.Context, client *kgo.Client, in Input, from, to int64, added func(n int64)) error {
	var failed atomic.Pointer[error]
	for i := from; i < to; i++ {
		client.Produce(ctx, in.Record(i), func(_ *kgo.Record, err error) {
			if err != nil {
				failed.CompareAndSwap(nil, &err)
			}
		})
		if (i-from+1)%10_000 == 0 {
			added(10_000)
		}
		if failed.Load() != nil {
			break
		}
	}
	if err := client.Flush(ctx); err != nil {
		return err
	}
	if err := failed.Load(); err != nil {
		return fmt.Errorf("load %s: %w", in.Topic(), *err)
	}
	added((to - from) % 10_000)
	return nil
}

// Offsets are positions by partition.
type Offsets map[int32]int64

// Ends returns the ends of a topic, whether what is there is committed or not.
func Ends(ctx context.Context, brokers []string, topic string) (Offsets, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	return offsetsOf(kadm.NewClient(client).ListEndOffsets(ctx, topic))
}

// settleTimeout is longer than brokers wait before they abort a transaction that its program has left open.
const settleTimeout = time.Minute

// SettledEnds returns the ends of a topic as soon as no transaction is open in it. A broker answers the end of a transaction
// before its markers are in all partitions: until then the last stable offset lies before records that are committed.
func SettledEnds(ctx context.Context, brokers []string, topic string) (Offsets, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	ctx, cancel := context.WithTimeoutCause(ctx, settleTimeout, fmt.Errorf("a transaction is open in %s after %v", topic, settleTimeout))
	defer cancel()
	tick := time.NewTicker(listInterval)
	defer tick.Stop()
	for {
		ends, err := offsetsOf(admin.ListEndOffsets(ctx, topic))
		if err != nil {
			return nil, err
		}
		stable, err := offsetsOf(admin.ListCommittedOffsets(ctx, topic))
		if err != nil || maps.Equal(ends, stable) {
			return ends, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func offsetsOf(offsets kadm.ListedOffsets, err error) (Offsets, error) {
	if err == nil {
		err = offsets.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("list offsets: %w", err)
	}
	found := Offsets{}
	offsets.Each(func(o kadm.ListedOffset) { found[o.Partition] = o.Offset })
	return found, nil
}

// Read reads the committed records of a topic from the given positions (nil: from the beginning) until each returns false,
// or, if ends is not nil, up to there.
func Read(ctx context.Context, brokers []string, topic string, from, ends Offsets, each func(r *kgo.Record) bool) error {
	left := 0
	starts := map[int32]kgo.Offset{}
	for p := range int32(Partitions) {
		starts[p] = kgo.NewOffset().At(from[p])
		if ends == nil || ends[p] > from[p] {
			left++
		}
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(),
		kgo.FetchMaxWait(100*time.Millisecond), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: starts}))
	if err != nil {
		return err
	}
	defer client.Close()
	for more := true; more && left > 0; {
		fetches := client.PollRecords(ctx, 20_000)
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("read %s: %w", topic, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if ends != nil && r.Offset+1 == ends[r.Partition] {
				left--
			}
			if more && !r.Attrs.IsControl() {
				more = each(r)
			}
		})
	}
	return nil
}
