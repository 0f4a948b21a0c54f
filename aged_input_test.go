package oncemill_test

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/metrics"
)

// An output has the timestamp of its input. A client that took its age for the time that the output waits would give up at
// the first answer that says "try again", and a backlog would never be worked off.
func TestOutputsOfAgedInputAreProducedAgainAfterARetriableError(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "words", "counted"))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.ConsumeTopics("counted"), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	aged := &kgo.Record{Topic: "words", Key: []byte("k"), Value: []byte("x"), Timestamp: time.Now().Add(-time.Hour)}
	if err := client.ProduceSync(ctx, aged).FirstErr(); err != nil {
		t.Fatal(err)
	}
	refused, aborted := atomic.Int32{}, atomic.Int32{}
	cluster.ControlKey(int16(kmsg.Produce), func(r kmsg.Request) (kmsg.Response, error, bool) {
		refused.Add(1)
		return tryAgain(r.(*kmsg.ProduceRequest)), nil, true
	})
	app, err := oncemill.New(oncemill.Config{Brokers: cluster.ListenAddrs(), StateDir: t.TempDir(), Topology: counting("aged"),
		Logger: slog.New(slog.DiscardHandler), Listener: metrics.Listener{TransactionEnded: func(e metrics.TransactionEnd) {
			if e.Outcome != metrics.Committed {
				aborted.Add(1)
			}
		}}})
	if err != nil {
		t.Fatal(err)
	}
	runCtx, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- app.Run(runCtx) }()
	if fetches := client.PollFetches(ctx); fetches.NumRecords() != 1 {
		t.Fatalf("%d outputs, %v", fetches.NumRecords(), fetches.Err())
	}
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if refused.Load() != 1 || aborted.Load() != 0 {
		t.Errorf("%d produce requests were refused once, %d transactions aborted", refused.Load(), aborted.Load())
	}
}

// tryAgain is what a real broker answers while the markers of the transaction before are still being written.
func tryAgain(req *kmsg.ProduceRequest) *kmsg.ProduceResponse {
	resp := req.ResponseKind().(*kmsg.ProduceResponse)
	for _, t := range req.Topics {
		rt := kmsg.NewProduceResponseTopic()
		rt.Topic, rt.TopicID = t.Topic, t.TopicID
		for _, p := range t.Partitions {
			rp := kmsg.NewProduceResponseTopicPartition()
			rp.Partition, rp.ErrorCode = p.Partition, kerr.ConcurrentTransactions.Code
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}
