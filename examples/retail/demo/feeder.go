package demo

import (
	"context"
	"iter"
	"sync"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/examples/retail"
	"github.com/oncemill/oncemill/internal/problem"
)

// feeder sends the feed, part by part.
type feeder struct {
	client *kgo.Client
	topic  string
	next   func() (retail.Message, error, bool)
	stop   func()
	told   func(n int)
	handed int          // messages given to the client
	sent   atomic.Int64 // messages that were acknowledged

	failure struct {
		sync.Mutex
		err error
	}
}

func newFeeder(client *kgo.Client, topic string, feed *retail.Feed, told func(int)) *feeder {
	f := &feeder{client: client, topic: topic, told: told}
	f.next, f.stop = iter.Pull2(feed.Messages())
	return f
}

// sendUntil sends on until n messages of the feed have been sent in all, and waits for their acknowledgement. One call at a
// time.
func (f *feeder) sendUntil(ctx context.Context, n int) error {
	for ; f.handed < n; f.handed++ {
		message, err, more := f.next()
		if err != nil {
			return err
		}
		if !more {
			break
		}
		f.client.Produce(ctx, recordOf(f.topic, message), f.promise)
	}
	if err := f.client.Flush(ctx); err != nil {
		return err
	}
	f.failure.Lock()
	defer f.failure.Unlock()
	if f.failure.err != nil {
		return problem.Wrap(problem.ProduceFailed, f.topic, f.failure.err)
	}
	return nil
}

func (f *feeder) promise(_ *kgo.Record, err error) {
	if err == nil {
		f.sent.Add(1)
		f.told(1)
		return
	}
	f.failure.Lock()
	defer f.failure.Unlock()
	if f.failure.err == nil {
		f.failure.err = err
	}
}

func recordOf(topic string, m retail.Message) *kgo.Record {
	r := &kgo.Record{Topic: topic, Key: m.Key, Value: m.Value}
	for _, h := range m.Headers {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
	}
	return r
}
