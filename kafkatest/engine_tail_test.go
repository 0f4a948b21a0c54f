//go:build kafka

package kafkatest

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/kafkatest/kafkaproc"
	"github.com/oncemill/oncemill/record"
)

type rawRecord = record.Raw

// tailer follows topics, read committed, and counts: it says when something may be done to a run, never whether the run was
// right.
type tailer struct {
	mu      sync.Mutex
	counts  map[string]int
	changed chan struct{}
}

func tail(t *testing.T, cluster *kafkaproc.Cluster, topics ...string) *tailer {
	t.Helper()
	client := newClient(t, cluster, kgo.ConsumeTopics(topics...), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	l := &tailer{counts: map[string]int{}, changed: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			l.count(client.PollFetches(ctx))
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return l
}

func (l *tailer) count(fetches kgo.Fetches) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fetches.EachRecord(func(r *kgo.Record) { l.counts[r.Topic]++ })
	close(l.changed)
	l.changed = make(chan struct{})
}

// wait waits until the topic holds that many records.
func (l *tailer) wait(ctx context.Context, topic string, records int) error {
	for {
		l.mu.Lock()
		n, changed := l.counts[topic], l.changed
		l.mu.Unlock()
		if n >= records {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%s has %d records, waited for %d: %w", topic, n, records, context.Cause(ctx))
		}
	}
}
