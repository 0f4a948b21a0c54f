package oncemill_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/topology"
)

// An application that ends with an error aborts its open transaction before it ends: else readers of its outputs would wait for the
// transaction's timeout. (In streamtest's Cluster a worker dies where it stands, so this needs an application that nobody observes.)
func TestAnApplicationThatEndsWithAnErrorLeavesNoTransactionOpen(t *testing.T) {
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "words", "passed"))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	produce := func(value string) {
		if err := client.ProduceSync(ctx, &kgo.Record{Topic: "words", Key: []byte("k"), Value: []byte(value)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	refused := errors.New("not this one")
	topo := topology.New("gives-up")
	in := topology.Source(topo, "in", "words", serde.String(), serde.String())
	out := topology.Process(topo, "pass", in, func(ctx *processor.Context[string, string], r record.Record[string, string]) error {
		if r.Value == "bad" {
			return refused
		}
		return ctx.Forward(r)
	})
	topology.Sink(topo, "out", out, "passed", serde.String(), serde.String())
	app, err := oncemill.New(oncemill.Config{Brokers: cluster.ListenAddrs(), StateDir: t.TempDir(), Topology: topo,
		CommitInterval: 20 * time.Second, TransactionTimeout: time.Minute, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- app.Run(ctx) }()
	produce("good")
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for cluster.PartitionInfo("passed", 0).HighWatermark == 0 {
		select {
		case err := <-done:
			t.Fatalf("it ended before anything was written: %v", err)
		case <-tick.C:
		}
	}
	if info := cluster.PartitionInfo("passed", 0); info.LastStableOffset != 0 {
		t.Fatalf("the transaction has ended: %+v", info)
	}
	produce("bad")
	if err := <-done; !errors.Is(err, refused) {
		t.Fatalf("Run returned %v", err)
	}
	if info := cluster.PartitionInfo("passed", 0); info.LastStableOffset != info.HighWatermark {
		t.Errorf("readers wait at %d, the topic ends at %d", info.LastStableOffset, info.HighWatermark)
	}
}
