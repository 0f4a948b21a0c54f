//go:build kafka

package kafkatest

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/internal/leaktest"
	"github.com/oncemill/oncemill/kafkatest/kafkaproc"
)

// shared is the one broker that the tests of this package share. Nobody may stop it.
var shared *kafkaproc.Cluster

// testTimeout bounds one test against a running cluster.
const testTimeout = 2 * time.Minute

func TestMain(m *testing.M) {
	os.Exit(leaktest.Run(leaktest.Func(func() int { return runWithBroker(m) })))
}

// scratch is a directory for what is built for all tests.
var scratch string

// shortSessions lets the tests of the group wait seconds and not a minute for a member that is gone.
var shortSessions = map[string]string{"group.min.session.timeout.ms": "1000"}

func runWithBroker(m *testing.M) int {
	var err error
	if scratch, err = os.MkdirTemp("", "oncemill-kafkatest-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(scratch)
	cluster, err := kafkaproc.Start(context.Background(), kafkaproc.Config{Secure: true, Extra: shortSessions})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	shared = cluster
	code := m.Run()
	if err := cluster.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// testContext ends with the test, or after testTimeout.
func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testTimeout)
	t.Cleanup(cancel)
	return ctx
}

// ownCluster starts a cluster for this test alone.
func ownCluster(t *testing.T, config kafkaproc.Config) *kafkaproc.Cluster {
	t.Helper()
	cluster, err := kafkaproc.Start(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cluster.Close(); err != nil {
			t.Error(err)
		}
	})
	return cluster
}

// newClient connects to the plain listener of a cluster.
func newClient(t *testing.T, cluster *kafkaproc.Cluster, options ...kgo.Opt) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(cluster.Addrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()),
	}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// newTopic creates a topic that is named after the test and suffix, and returns its name.
func newTopic(t *testing.T, client *kgo.Client, partitions int32, suffix string) string {
	t.Helper()
	name := strings.ReplaceAll(t.Name(), "/", "-") + suffix
	_, err := kadm.NewClient(client).CreateTopic(testContext(t), partitions, -1, nil, name)
	if err != nil {
		t.Fatalf("create topic %s: %v", name, err)
	}
	return name
}

// consume reads a topic through the Java client.
func consume(t *testing.T, cluster *kafkaproc.Cluster, topic string, isolation kafkaproc.Isolation) []string {
	t.Helper()
	records, err := cluster.Consume(testContext(t), topic, isolation)
	if err != nil {
		t.Fatal(err)
	}
	var values []string
	for _, r := range records {
		values = append(values, string(r.Value))
	}
	return values
}
