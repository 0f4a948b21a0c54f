//go:build kafka

package kafkatest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/kafkatest/kafkaproc"
)

// TestABrokerWithoutReplicasForgetsTheMarkersOfACommit shows a limit of Apache Kafka 4.3.1, and why a soak on one broker kills it and does
// not stop it in good order. A broker that stops first gives its leaderships up. Where no other replica is in sync the partition then has
// no leader, which the transaction coordinator takes for a partition that was deleted: it writes no marker, and calls the transaction
// complete (KRaftMetadataCache.getPartitionLeaderEndpoint returns nothing, TransactionMarkerChannelManager skips the partition). The
// records of a transaction that was acknowledged stay open; the next marker of that producer, were it of an abort, decides about them.
// When this test fails Kafka has mended it: stop the broker of TestSoakOnTransactionVersion1 too, and take the limit out of
// docs/guarantees.md.
func TestABrokerWithoutReplicasForgetsTheMarkersOfACommit(t *testing.T) {
	const producers, partitions, restarts = 8, 16, 10
	cluster := ownCluster(t, kafkaproc.Config{})
	topic := newTopic(t, newClient(t, cluster), partitions, "")
	for restart := range restarts {
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for p := range producers {
			client := newClient(t, cluster, kgo.TransactionalID(fmt.Sprintf("%s-%d-%d", t.Name(), restart, p)))
			wg.Go(func() { commitOften(ctx, client, topic, partitions) })
		}
		await(t, "commits", func() bool { return latest(t, cluster, topic) > int64(restart+1)*1000 })
		err := cluster.Broker(0).Stop(testContext(t))
		cancel()
		wg.Wait()
		if err != nil {
			t.Fatal(err)
		}
		if err := cluster.Broker(0).Start(testContext(t)); err != nil {
			t.Fatal(err)
		}
		if open := openWithoutTransaction(t, cluster, topic); len(open) > 0 {
			t.Logf("after %d restarts no transaction is open, but in partitions %v", restart+1, open)
			return
		}
	}
	t.Fatalf("%d restarts in good order, and no transaction lacks a marker", restarts)
}

// commitOften commits one transaction after the other until ctx ends.
func commitOften(ctx context.Context, client *kgo.Client, topic string, partitions int32) {
	for ctx.Err() == nil {
		if err := client.BeginTransaction(); err != nil {
			return
		}
		for p := range partitions {
			client.Produce(ctx, &kgo.Record{Topic: topic, Partition: p, Value: []byte("v")}, nil)
		}
		if client.Flush(ctx) != nil || client.EndTransaction(ctx, kgo.TryCommit) != nil {
			return
		}
	}
}

func latest(t *testing.T, cluster *kafkaproc.Cluster, topic string) (n int64) {
	t.Helper()
	offsets, err := cluster.GetOffsets(testContext(t), topic)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range offsets {
		n += o.Latest
	}
	return n
}

// openWithoutTransaction returns the partitions with records of open transactions, once the coordinators know of none.
func openWithoutTransaction(t *testing.T, cluster *kafkaproc.Cluster, topic string) (open []int) {
	t.Helper()
	await(t, "the end of all transactions", func() bool {
		all, err := cluster.ListTransactions(testContext(t))
		for _, tx := range all {
			if tx.State != "CompleteCommit" && tx.State != "CompleteAbort" && tx.State != "Empty" {
				return false
			}
		}
		return err == nil
	})
	offsets, err := cluster.GetOffsets(testContext(t), topic)
	if err != nil {
		t.Fatal(err)
	}
	for p, o := range offsets {
		if o.Stable < o.Latest {
			open = append(open, p)
		}
	}
	return open
}

// await looks until something holds.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(testTimeout); !holds(); {
		if time.Now().After(deadline) {
			t.Fatalf("not seen within %v: %s", testTimeout, what)
		}
	}
}
