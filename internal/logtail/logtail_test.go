package logtail_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/oncemill/oncemill/internal/logtail"
)

// rig is a log with records, and a client that consumes it.
type rig struct {
	t       *testing.T
	cluster *kfake.Cluster
	client  *kgo.Client
	log     logtail.Log
}

func newRig(t *testing.T) *rig {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	r := &rig{t: t, cluster: cluster}
	r.client = r.newClient(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"log": {0: kgo.NewOffset().AtEnd()}}))
	details, err := kadm.NewClient(r.client).ListTopics(t.Context(), "log")
	if err != nil {
		t.Fatal(err)
	}
	r.log = logtail.Log{Topic: "log", TopicID: details["log"].ID}
	r.client.ForceMetadataRefresh()
	for r.leader() < 0 { // the client loads the partition by itself
		r.client.PollFetches(expired(t))
	}
	return r
}

func expired(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

func (r *rig) leader() int32 {
	leader, _, err := r.client.PartitionLeader("log", 0)
	if err != nil {
		r.t.Fatal(err)
	}
	return leader
}

func (r *rig) newClient(opts ...kgo.Opt) *kgo.Client {
	client, err := kgo.NewClient(append(opts, kgo.SeedBrokers(r.cluster.ListenAddrs()...), kgo.MetadataMinAge(10*time.Millisecond))...)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(client.Close)
	return client
}

func (r *rig) empty(from, end int64) error {
	return logtail.Empty(r.t.Context(), r.client, r.log, from, end)
}

func (r *rig) want(from, end int64, want error) {
	r.t.Helper()
	if err := r.empty(from, end); !errors.Is(err, want) || want == nil && err != nil {
		r.t.Errorf("[%d,%d): %v, want %v", from, end, err, want)
	}
}

func TestRecordsAndOpenTransactionsAreNoEnd(t *testing.T) {
	r := newRig(t)
	producer := r.newClient(kgo.TransactionalID("p"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	transaction := func(commit kgo.TransactionEndTry) {
		if err := producer.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if err := producer.ProduceSync(t.Context(), &kgo.Record{Topic: "log", Value: []byte("v")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		r.want(0, 1, logtail.ErrOpen)
		if err := producer.EndTransaction(t.Context(), commit); err != nil {
			t.Fatal(err)
		}
	}
	r.want(0, 0, nil)
	transaction(kgo.TryAbort)
	r.want(0, 1, nil) // an aborted record is none; its marker lies behind the end
	r.want(0, 2, logtail.ErrRecords)
	r.want(2, 2, nil)
}

func TestACommittedRecordIsNoEnd(t *testing.T) {
	r := newRig(t)
	plain := r.newClient()
	for range 3 {
		if err := plain.ProduceSync(t.Context(), &kgo.Record{Topic: "log", Key: []byte("k"), Value: []byte("v")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	r.want(0, 3, logtail.ErrRecords)
	r.want(2, 3, logtail.ErrRecords)
	r.want(3, 3, nil)
	r.want(3, 5, logtail.ErrOpen) // the log does not reach so far
	r.want(7, 9, kerr.OffsetOutOfRange)
}

// A tail that compaction has emptied: the log goes on behind it.
func TestWhatCompactionEmptiedIsAnEnd(t *testing.T) {
	r := newRig(t)
	r.cluster.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		r.cluster.KeepControl()
		return r.answer(req, func(p *kmsg.FetchResponseTopicPartition) { p.HighWatermark, p.LastStableOffset = 10, 10 }), nil, true
	})
	r.want(4, 10, nil)
	r.want(4, 11, logtail.ErrOpen)
}

// answer is an answer without records.
func (r *rig) answer(req kmsg.Request, change func(*kmsg.FetchResponseTopicPartition)) *kmsg.FetchResponse {
	resp := req.ResponseKind().(*kmsg.FetchResponse)
	topic := kmsg.NewFetchResponseTopic()
	topic.Topic, topic.TopicID = "log", r.log.TopicID
	p := kmsg.NewFetchResponseTopicPartition()
	change(&p)
	topic.Partitions = append(topic.Partitions, p)
	resp.Topics = append(resp.Topics, topic)
	return resp
}

// Errors, and the empty answer of a broker that throttles us, prove nothing.
func TestNoAnswerIsNoEnd(t *testing.T) {
	for name, answer := range map[string]func(*rig, kmsg.Request) kmsg.Response{
		"the partition's error": func(r *rig, req kmsg.Request) kmsg.Response {
			return r.answer(req, func(p *kmsg.FetchResponseTopicPartition) {
				p.ErrorCode, p.LastStableOffset = kerr.NotLeaderForPartition.Code, 10
			})
		},
		"the answer's error": func(r *rig, req kmsg.Request) kmsg.Response {
			resp := req.ResponseKind().(*kmsg.FetchResponse)
			resp.ErrorCode = kerr.UnknownServerError.Code
			return resp
		},
		"throttled": func(r *rig, req kmsg.Request) kmsg.Response {
			resp := req.ResponseKind().(*kmsg.FetchResponse)
			resp.ThrottleMillis = 1
			return resp
		},
		"another partition": func(r *rig, req kmsg.Request) kmsg.Response {
			return r.answer(req, func(p *kmsg.FetchResponseTopicPartition) { p.Partition, p.LastStableOffset = 1, 10 })
		},
		"a part of a batch": func(r *rig, req kmsg.Request) kmsg.Response {
			return r.answer(req, func(p *kmsg.FetchResponseTopicPartition) {
				p.LastStableOffset, p.RecordBatches = 10, make([]byte, 40)
				p.RecordBatches[10], p.RecordBatches[16] = 1, 2
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.cluster.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
				r.cluster.KeepControl()
				return answer(r, req), nil, true
			})
			err := r.empty(0, 5)
			if err == nil || errors.Is(err, logtail.ErrRecords) || errors.Is(err, logtail.ErrOpen) {
				t.Fatalf("%v", err)
			}
		})
	}
}
