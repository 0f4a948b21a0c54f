package soak

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/internal/guest"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/internal/proof"
)

// feeder sends the traffic at a bounded rate.
type feeder struct {
	client   *kgo.Client
	topic    string
	traffic  *proof.Traffic
	rate     float64 // messages a second
	timeline *Timeline
	shown    func(int64)

	made   int64 // messages given to the client
	copies int64
	acked  atomic.Int64

	failure struct {
		sync.Mutex
		err error
	}
}

// feedTick is how often the feeder looks at the clock.
const feedTick = 20 * time.Millisecond

// run sends messages until at least records were sent and stopped says that no fault is left; the rate stays the same.
func (f *feeder) run(ctx context.Context, records int64, over func() bool) error {
	last, tick := time.Now(), time.NewTicker(feedTick)
	defer tick.Stop()
	for credit := 0.0; f.made < records || !over(); {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
		now := time.Now()
		// After a stall no more than a second is made up for: the load of the brokers is bounded.
		credit = min(credit+now.Sub(last).Seconds()*f.rate, f.rate)
		for last = now; credit >= 1; credit-- {
			f.send(ctx, f.traffic.Next(time.Now()))
			f.made++
		}
		if err := f.failed(); err != nil {
			return err
		}
	}
	if err := f.client.Flush(ctx); err != nil {
		return guest.Failed("the acknowledgement of "+f.topic, err)
	}
	return f.failed()
}

// failed is the first error of a promise.
func (f *feeder) failed() error {
	f.failure.Lock()
	defer f.failure.Unlock()
	if f.failure.err != nil {
		return problem.Wrap(problem.ProduceFailed, f.topic, f.failure.err)
	}
	return nil
}

func (f *feeder) send(ctx context.Context, m proof.Message) {
	r := &kgo.Record{Topic: f.topic, Key: []byte(m.Key), Value: []byte(m.Value), Timestamp: m.Timestamp}
	if m.ID != "" {
		r.Headers = []kgo.RecordHeader{{Key: proof.HeaderMessageID, Value: []byte(m.ID)}}
	}
	if m.Copy {
		f.copies++
	}
	f.client.Produce(ctx, r, func(_ *kgo.Record, err error) {
		if err == nil {
			f.acked.Add(1)
			f.timeline.sent(1)
			f.shown(1)
			return
		}
		f.failure.Lock()
		defer f.failure.Unlock()
		if f.failure.err == nil && !errors.Is(err, context.Canceled) {
			f.failure.err = err
		}
	})
}
