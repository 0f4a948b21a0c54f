//go:build kafka

package kafkatest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/kafkatest/kafkaproc"
)

func produce(t *testing.T, client *kgo.Client, topic, value string) {
	t.Helper()
	if err := client.ProduceSync(testContext(t), &kgo.Record{Topic: topic, Value: []byte(value)}).FirstErr(); err != nil {
		t.Fatalf("produce %s: %v", value, err)
	}
}

// TestThreeBrokersSurviveTheLossOfOne kills one, then stops another: what was acknowledged stays.
func TestThreeBrokersSurviveTheLossOfOne(t *testing.T) {
	cluster := ownCluster(t, kafkaproc.Config{Brokers: 3, HeapMB: 384})
	client := newClient(t, cluster)
	topic := newTopic(t, client, 1, "")
	if addrs := cluster.Addrs(); len(addrs) != 3 || cluster.Brokers() != 3 {
		t.Fatalf("addresses %q", addrs)
	}
	for i, end := range []func(*kafkaproc.Broker) error{
		(*kafkaproc.Broker).Kill,
		func(b *kafkaproc.Broker) error { return b.Stop(testContext(t)) },
	} {
		b := cluster.Broker(i)
		if err := end(b); err != nil {
			t.Fatal(err)
		}
		if err := end(b); !errors.Is(err, kafkaproc.ErrNotRunning) {
			t.Errorf("ended twice: %v, want ErrNotRunning", err)
		}
		produce(t, client, topic, b.Addr())
		if err := b.Start(testContext(t)); err != nil {
			t.Fatal(err)
		}
		if err := b.Start(testContext(t)); err == nil {
			t.Error("started twice")
		}
	}
	produce(t, client, topic, "end")
	want := []string{cluster.Addrs()[0], cluster.Addrs()[1], "end"}
	if got := consume(t, cluster, topic, kafkaproc.ReadCommitted); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAPausedBrokerAnswersLater(t *testing.T) {
	cluster := ownCluster(t, kafkaproc.Config{})
	client := newClient(t, cluster)
	topic := newTopic(t, client, 1, "")
	produce(t, client, topic, "before")
	if err := cluster.Broker(0).Pause(); err != nil {
		t.Fatal(err)
	}
	answered := make(chan error, 1)
	go func() {
		answered <- client.ProduceSync(testContext(t), &kgo.Record{Topic: topic, Value: []byte("during")}).FirstErr()
	}()
	// A broker that runs answers within milliseconds; that nothing comes can only be seen by waiting.
	select {
	case err := <-answered:
		t.Fatalf("a paused broker answered: %v", err)
	case <-time.After(time.Second):
	}
	if err := cluster.Broker(0).Resume(); err != nil {
		t.Fatal(err)
	}
	if err := <-answered; err != nil {
		t.Fatal(err)
	}
	if got := consume(t, cluster, topic, kafkaproc.ReadCommitted); !slices.Equal(got, []string{"before", "during"}) {
		t.Errorf("got %q", got)
	}
}

func TestABrokerThatCannotStartShowsItsLog(t *testing.T) {
	parent := t.TempDir()
	_, err := kafkaproc.Start(testContext(t), kafkaproc.Config{Dir: parent, Extra: map[string]string{"num.io.threads": "0"}})
	if err == nil || !strings.Contains(err.Error(), "num.io.threads") {
		t.Errorf("got %v", err)
	}
	if left, err := os.ReadDir(parent); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestStartEndsWithItsContext(t *testing.T) {
	parent := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := kafkaproc.Start(ctx, kafkaproc.Config{Dir: parent})
		ended <- err
	}()
	until(testContext(t), t, "the broker's process to begin", func() (bool, string) {
		logs, err := filepath.Glob(filepath.Join(parent, "*", "*", "broker.log"))
		return len(logs) > 0, fmt.Sprint(logs, err)
	})
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want Canceled", err)
	}
	if left, err := os.ReadDir(parent); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
