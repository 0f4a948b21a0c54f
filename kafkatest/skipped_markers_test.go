//go:build kafka

package kafkatest

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/kafkatest/kafkaproc"
)

// What the transaction coordinator says when it leaves a marker out.
var skippedMarkers = regexp.MustCompile("Couldn't find leader endpoint for partitions .* these partitions are likely deleted already and hence can be skipped")

// TestABrokerWithoutReplicasSkipsTheMarkersOfCommits shows a limit of Apache Kafka 4.3.1, and why no soak runs on one broker
// (docs/adr/0009). A broker that stops first gives its leaderships up. Where no other replica is in sync the partition then has no leader,
// which the transaction coordinator takes for a partition that was deleted: it writes no marker there, and calls the transaction complete
// (KRaftMetadataCache.getPartitionLeaderEndpoint finds no broker -1, TransactionMarkerChannelManager skips the partition). The records of
// a transaction that was acknowledged stay open, and the next marker of that producer, also one of an abort, decides about them. If Kafka
// has mended it this test fails: take the limit out of docs/guarantees.md then.
func TestABrokerWithoutReplicasSkipsTheMarkersOfCommits(t *testing.T) {
	const producers, restarts = 24, 12
	cluster := ownCluster(t, kafkaproc.Config{})
	topic := newTopic(t, newClient(t, cluster), producers, "")
	broker := cluster.Broker(0)
	for restart := range restarts {
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for p := range int32(producers) {
			client := newClient(t, cluster, kgo.TransactionalID(fmt.Sprintf("%s-%d-%d", t.Name(), restart, p)))
			committed := make(chan struct{})
			wg.Go(func() { commitOften(ctx, client, topic, p, committed) })
			<-committed
		}
		err := broker.Stop(testContext(t))
		cancel()
		wg.Wait()
		if err != nil {
			t.Fatal(err)
		}
		log, err := os.ReadFile(broker.LogPath())
		if err != nil {
			t.Fatal(err)
		}
		if line := skippedMarkers.Find(log); line != nil {
			t.Logf("when it stopped for the %d. time: %.200s ...", restart+1, line)
			return
		}
		if err := broker.Start(testContext(t)); err != nil {
			t.Fatal(err)
		}
	}
	t.Fatalf("%d stops in good order, and no marker was left out", restarts)
}

// commitOften commits one transaction after the other until ctx ends, and tells when it is under way. It ends with the first error.
func commitOften(ctx context.Context, client *kgo.Client, topic string, partition int32, committed chan<- struct{}) {
	tell := sync.OnceFunc(func() { close(committed) })
	defer tell()
	for n := 0; ctx.Err() == nil; n++ {
		if n == 30 {
			tell()
		}
		if client.BeginTransaction() != nil {
			return
		}
		err := client.ProduceSync(ctx, &kgo.Record{Topic: topic, Partition: partition, Value: []byte("v")}).FirstErr()
		if err != nil || client.EndTransaction(ctx, kgo.TryCommit) != nil {
			return
		}
	}
}
