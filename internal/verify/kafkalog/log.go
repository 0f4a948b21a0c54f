// Package kafkalog reads a Kafka cluster for package verify: topics with read_committed, and committed offsets.
package kafkalog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/oncemill/oncemill/internal/logtail"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/internal/verify"
	"github.com/oncemill/oncemill/record"
)

// Log implements verify.Log. It is used by one goroutine.
type Log struct {
	brokers string
	client  *kgo.Client
	admin   *kadm.Client
	ids     map[[16]byte]string
	// patience bounds how long brokers may stay silent.
	patience time.Duration
	headers  []record.Header
}

const (
	fetchBytes = 8 << 20
	// pollRecords bounds what one poll returns.
	pollRecords = 4096
	// pollTime is how long nothing may come before we ask whether there is anything.
	pollTime = time.Second
)

// Open connects. opts are those of the connection; patience bounds how long brokers may be silent, default 30 s.
func Open(brokers []string, patience time.Duration, opts ...kgo.Opt) (*Log, error) {
	client, err := kgo.NewClient(slices.Concat([]kgo.Opt{kgo.SeedBrokers(brokers...)}, opts, Options())...)
	if err != nil {
		return nil, problem.Wrap(problem.ConfigInvalid, "connection", err)
	}
	return New(client, patience), nil
}

// Options are those that a client needs to be read with.
func Options() []kgo.Opt {
	return []kgo.Opt{kgo.ClientID("oncemill-verify"), kgo.DisableClientMetrics(),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(), kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.FetchMaxBytes(fetchBytes), kgo.FetchMaxPartitionBytes(fetchBytes), kgo.FetchMaxWait(250 * time.Millisecond)}
}

// New reads with a client that has the Options.
func New(client *kgo.Client, patience time.Duration) *Log {
	if patience <= 0 {
		patience = 30 * time.Second
	}
	brokers, _ := client.OptValue(kgo.SeedBrokers).([]string)
	return &Log{brokers: strings.Join(brokers, ","), client: client, admin: kadm.NewClient(client), ids: map[[16]byte]string{}, patience: patience}
}

// Close disconnects.
func (l *Log) Close() { l.client.Close() }

func (l *Log) failed(what string, err error) error {
	code := problem.BrokersUnreachable
	if ke := (*kerr.Error)(nil); errors.As(err, &ke) {
		code = problem.BrokersRefused
	}
	return problem.Wrap(code, what+" at "+l.brokers, err)
}

// Topics implements verify.Log.
func (l *Log) Topics(ctx context.Context, names []string) (map[string]verify.Topic, error) {
	ctx, cancel := context.WithTimeout(ctx, l.patience)
	defer cancel()
	details, err := l.admin.ListTopics(ctx, names...)
	if err != nil {
		return nil, l.failed("Metadata", err)
	}
	out := map[string]verify.Topic{}
	var there []string
	for _, name := range names {
		d, ok := details[name]
		if !ok || errors.Is(d.Err, kerr.UnknownTopicOrPartition) {
			continue
		}
		if d.Err != nil {
			return nil, l.failed("Metadata of "+name, d.Err)
		}
		n := len(d.Partitions)
		out[name] = verify.Topic{ID: d.ID, Partitions: int32(n), Starts: make([]int64, n), Ends: make([]int64, n), Highs: make([]int64, n)}
		l.ids[d.ID] = name
		there = append(there, name)
	}
	if len(there) == 0 { // none asks for all
		return out, nil
	}
	if err := l.bounds(ctx, there, out); err != nil {
		return nil, err
	}
	return out, l.policies(ctx, there, out)
}

func (l *Log) bounds(ctx context.Context, names []string, out map[string]verify.Topic) error {
	starts, err := l.admin.ListStartOffsets(ctx, names...)
	if err = errors.Join(err, starts.Error()); err != nil {
		return l.failed("ListOffsets", err)
	}
	ends, err := l.admin.ListCommittedOffsets(ctx, names...)
	if err = errors.Join(err, ends.Error()); err != nil {
		return l.failed("ListOffsets", err)
	}
	highs, err := l.admin.ListEndOffsets(ctx, names...)
	if err = errors.Join(err, highs.Error()); err != nil {
		return l.failed("ListOffsets", err)
	}
	starts.Each(func(o kadm.ListedOffset) { out[o.Topic].Starts[o.Partition] = o.Offset })
	ends.Each(func(o kadm.ListedOffset) { out[o.Topic].Ends[o.Partition] = o.Offset })
	highs.Each(func(o kadm.ListedOffset) { out[o.Topic].Highs[o.Partition] = o.Offset })
	return nil
}

func (l *Log) policies(ctx context.Context, names []string, out map[string]verify.Topic) error {
	configs, err := l.admin.DescribeTopicConfigs(ctx, names...)
	if err != nil {
		return l.failed("DescribeConfigs", err)
	}
	for _, c := range configs {
		for _, v := range c.Configs {
			if t, ok := out[c.Name]; ok && v.Key == "cleanup.policy" && strings.Contains(v.MaybeValue(), "compact") {
				t.Compacted = true
				out[c.Name] = t
			}
		}
	}
	return nil
}

// Committed implements verify.Log.
func (l *Log) Committed(ctx context.Context, group string, topics map[string]int32) (map[string][]verify.Committed, error) {
	ctx, cancel := context.WithTimeout(ctx, l.patience)
	defer cancel()
	out := map[string][]verify.Committed{}
	for topic, n := range topics {
		for range n {
			out[topic] = append(out[topic], verify.Committed{Offset: -1})
		}
	}
	req := kmsg.NewPtrOffsetFetchRequest()
	req.RequireStable, req.Group = true, group
	g := kmsg.NewOffsetFetchRequestGroup()
	g.Group = group
	for id, topic := range l.ids {
		n, asked := topics[topic]
		if !asked {
			continue
		}
		t, old := kmsg.NewOffsetFetchRequestGroupTopic(), kmsg.NewOffsetFetchRequestTopic()
		t.Topic, t.TopicID, old.Topic = topic, id, topic
		for p := range n {
			t.Partitions, old.Partitions = append(t.Partitions, p), append(old.Partitions, p)
		}
		g.Topics, req.Topics = append(g.Topics, t), append(req.Topics, old)
	}
	req.Groups = append(req.Groups, g)
	for {
		resp, err := req.RequestWith(ctx, l.client)
		if err == nil {
			err = l.readCommitted(resp, out)
		}
		if err == nil || errors.Is(err, kerr.GroupIDNotFound) { // nothing was ever committed
			return out, nil
		}
		// An open transaction holds offsets: wait for its end.
		if !errors.Is(err, kerr.UnstableOffsetCommit) && !kerr.IsRetriable(err) {
			return nil, l.failed("OffsetFetch of group "+group, err)
		}
		select {
		case <-ctx.Done():
			return nil, l.failed("OffsetFetch of group "+group, errors.Join(err, ctx.Err()))
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (l *Log) readCommitted(resp *kmsg.OffsetFetchResponse, out map[string][]verify.Committed) error {
	add := func(topic string, p int32, code int16, offset int64, metadata *string) error {
		if err := kerr.ErrorForCode(code); err != nil {
			return fmt.Errorf("%s/%d: %w", topic, p, err)
		}
		c := verify.Committed{Offset: offset}
		if metadata != nil {
			c.Metadata = *metadata
		}
		out[topic][p] = c
		return nil
	}
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return err
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if err := add(t.Topic, p.Partition, p.ErrorCode, p.Offset, p.Metadata); err != nil {
				return err
			}
		}
	}
	for _, g := range resp.Groups {
		if err := kerr.ErrorForCode(g.ErrorCode); err != nil {
			return err
		}
		for _, t := range g.Topics {
			if t.Topic == "" { // answers from version 10 on have ids only
				t.Topic = l.ids[t.TopicID]
			}
			for _, p := range t.Partitions {
				if err := add(t.Topic, p.Partition, p.ErrorCode, p.Offset, p.Metadata); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// Read implements verify.Log.
func (l *Log) Read(ctx context.Context, topic string, partition int32, from, to int64, fn func(*record.Raw) error) error {
	if from >= to {
		return nil
	}
	l.client.AddConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: kgo.NewOffset().At(from)}})
	defer l.client.RemoveConsumePartitions(map[string][]int32{topic: {partition}})
	last := time.Now()
	for next := from; next < to; {
		pollCtx, cancel := context.WithTimeout(ctx, pollTime)
		fetches := l.client.PollRecords(pollCtx, pollRecords)
		cancel()
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := l.fetchError(topic, partition, fetches); err != nil {
			return err
		}
		if fetches.NumRecords() == 0 {
			done, err := l.silence(ctx, topic, partition, next, to, last)
			if err != nil || done {
				return err
			}
			continue
		}
		last = time.Now()
		for it := fetches.RecordIter(); !it.Done(); {
			r := it.Next()
			if r.Topic != topic || r.Partition != partition || r.Offset < next {
				continue
			}
			if next = r.Offset + 1; r.Offset >= to {
				return nil
			}
			if !r.Attrs.IsControl() {
				if err := fn(l.raw(r)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (l *Log) fetchError(topic string, partition int32, fetches kgo.Fetches) error {
	for _, e := range fetches.Errors() {
		if e.Topic != topic || e.Partition != partition || errors.Is(e.Err, context.DeadlineExceeded) || kerr.IsRetriable(e.Err) {
			continue
		}
		if errors.Is(e.Err, kerr.OffsetOutOfRange) {
			return problem.Wrap(problem.OffsetOutOfRange, fmt.Sprintf("%s/%d", topic, partition), e.Err).
				WithCure("records were removed while verify ran: run it again")
		}
		return l.failed(fmt.Sprintf("Fetch of %s/%d", topic, partition), e.Err)
	}
	return nil
}

// silence decides what it means that nothing comes: the end, if the leader answers so; otherwise nothing, for as long as we have
// patience. What was not read must not count as read.
func (l *Log) silence(ctx context.Context, topic string, partition int32, next, to int64, last time.Time) (done bool, err error) {
	asking, cancel := context.WithTimeout(ctx, l.patience)
	defer cancel()
	err = logtail.Empty(asking, l.client, logtail.Log{Topic: topic, TopicID: l.idOf(topic), Partition: partition}, next, to)
	if err == nil {
		return true, nil
	}
	silent := time.Since(last)
	switch {
	case silent <= l.patience:
		return false, nil
	case errors.Is(err, logtail.ErrOpen):
		return false, problem.Wrap(problem.Unfinished, fmt.Sprintf("%s/%d at offset %d of %d", topic, partition, next, to), err).
			WithCure("a transaction stays open for longer than %v: wait until its producer has ended it, or until its timeout has passed", l.patience)
	}
	return false, l.failed(fmt.Sprintf("Fetch of %s/%d", topic, partition), fmt.Errorf("nothing came for %v, at offset %d of %d: %w", silent.Round(time.Second), next, to, err))
}

func (l *Log) idOf(topic string) [16]byte {
	for id, name := range l.ids {
		if name == topic {
			return id
		}
	}
	return [16]byte{}
}

// raw turns the client's record into a plain value, whose headers are valid until the next call.
func (l *Log) raw(r *kgo.Record) *record.Raw {
	l.headers = l.headers[:0]
	for _, h := range r.Headers {
		l.headers = append(l.headers, record.Header{Key: h.Key, Value: h.Value})
	}
	return &record.Raw{Key: r.Key, Value: r.Value, Timestamp: r.Timestamp, Headers: l.headers, LeaderEpoch: r.LeaderEpoch,
		Position: record.Position{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset}}
}
