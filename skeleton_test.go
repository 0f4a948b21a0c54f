package oncemill_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/topology"
)

// counting is the smallest stateful application: it counts records by key.
func counting(app string) *topology.Topology {
	counts := statestore.KeyValue("counts", serde.String(), serde.Int64())
	t := topology.New(app)
	in := topology.Source(t, "words", "words", serde.String(), serde.String())
	out := topology.Process(t, "count", in, func(ctx *processor.Context[string, int64], r record.Record[string, string]) error {
		n, _, err := counts.Get(ctx, r.Key)
		if err != nil {
			return err
		}
		if err := counts.Put(ctx, r.Key, n+1); err != nil {
			return err
		}
		return ctx.Forward(record.New(r.Key, n+1))
	}, topology.Uses(counts))
	topology.Sink(t, "counted", out, "counted", serde.String(), serde.Int64())
	return t
}

func TestSkeletonOneRecordThroughStateCommittedAndRestarted(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(4, "words", "counted"))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	dir := t.TempDir()
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.ConsumeTopics("counted"), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	run := func(produce, want int) {
		ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
		defer cancel()
		app, err := oncemill.New(oncemill.Config{Brokers: cluster.ListenAddrs(), StateDir: dir, Topology: counting("skeleton"),
			Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		runCtx, stop := context.WithCancel(ctx)
		done := make(chan error, 1)
		go func() { done <- app.Run(runCtx) }()
		for i := range produce {
			if err := client.ProduceSync(ctx, &kgo.Record{Topic: "words", Key: fmt.Appendf(nil, "key-%d", i%3), Value: []byte("x")}).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		for got := 0; got < produce; {
			fetches := client.PollFetches(ctx)
			if err := ctx.Err(); err != nil {
				t.Fatalf("%d of %d outputs: %v", got, produce, err)
			}
			fetches.EachRecord(func(r *kgo.Record) { got++; t.Logf("%s = %x", r.Key, r.Value) })
		}
		stop()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	run(9, 3)
	run(3, 4)
}
