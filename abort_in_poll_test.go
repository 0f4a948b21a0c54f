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

// A transaction that is committed in the middle of a poll and aborted leaves records of that poll unprocessed, also those of
// tasks that were no part of it. They must be fetched again: the client has gone past them.
func TestAnAbortInThePollLosesNoRecordOfOtherTasks(t *testing.T) {
	const partitions, each, aborts = 8, 100, 3
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(partitions, "words", "counted"))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.ConsumeTopics("counted"),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var batch []*kgo.Record // a backlog, so that a poll has records of several partitions
	for i := range int32(partitions * each) {
		batch = append(batch, &kgo.Record{Topic: "words", Partition: i % partitions, Key: []byte("k"), Value: []byte("x")})
	}
	if err := client.ProduceSync(ctx, batch...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	commits, aborted := 0, atomic.Int32{}
	cluster.ControlKey(int16(kmsg.TxnOffsetCommit), func(r kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		if commits++; commits%2 == 0 && commits <= 2*aborts {
			return refuseOffsets(r.(*kmsg.TxnOffsetCommitRequest)), nil, true
		}
		return nil, nil, false
	})
	app, err := oncemill.New(oncemill.Config{Brokers: cluster.ListenAddrs(), StateDir: t.TempDir(), Topology: counting("poll"),
		CommitRecords: 10, Logger: slog.New(slog.DiscardHandler), Listener: metrics.Listener{
			TransactionEnded: func(e metrics.TransactionEnd) {
				if e.Outcome == metrics.Aborted {
					aborted.Add(1)
				}
			}}})
	if err != nil {
		t.Fatal(err)
	}
	runCtx, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan error, 1)
	go func() { done <- app.Run(runCtx) }()
	for got := 0; got < len(batch); {
		fetches := client.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			t.Fatalf("%d of %d outputs: %v", got, len(batch), err)
		}
		got += fetches.NumRecords()
	}
	stop()
	if err := <-done; err != nil || aborted.Load() != aborts {
		t.Errorf("%v; %d transactions were aborted, want %d", err, aborted.Load(), aborts)
	}
}

func refuseOffsets(req *kmsg.TxnOffsetCommitRequest) *kmsg.TxnOffsetCommitResponse {
	resp := req.ResponseKind().(*kmsg.TxnOffsetCommitResponse)
	for _, t := range req.Topics {
		rt := kmsg.NewTxnOffsetCommitResponseTopic()
		rt.Topic, rt.TopicID = t.Topic, t.TopicID
		for _, p := range t.Partitions {
			rp := kmsg.NewTxnOffsetCommitResponseTopicPartition()
			rp.Partition, rp.ErrorCode = p.Partition, kerr.InvalidCommitOffsetSize.Code
			rt.Partitions = append(rt.Partitions, rp)
		}
		resp.Topics = append(resp.Topics, rt)
	}
	return resp
}
