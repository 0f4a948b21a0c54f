package demo

import (
	"context"
	"sync"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/examples/retail"
	"github.com/oncemill/oncemill/internal/guest"
	"github.com/oncemill/oncemill/record"
)

// reader reads topics from their beginning with read_committed, and shows the outputs to the judge while they come.
type reader struct {
	client *kgo.Client
	topics retail.Topics
	judge  *retail.Judge // of the reading goroutine, until close
	gifts  func(n int)
	cancel context.CancelFunc
	done   chan struct{}
	once   sync.Once

	mu struct {
		sync.Mutex
		places map[string]*[partitions]place
		err    error
	}
}

// place is how far a partition was read.
type place struct {
	// next follows the last record of any kind. Control records count: a log may end in the marker of a transaction, or in
	// an aborted one whose records are never delivered.
	next int64
	// data follows the last record with content.
	data int64
}

func newReader(client []kgo.Opt, topics retail.Topics, judge *retail.Judge, gifts func(int)) (*reader, error) {
	c, err := kgo.NewClient(append(guest.Options(
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
	), client...)...)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &reader{client: c, topics: topics, judge: judge, gifts: gifts, cancel: cancel, done: make(chan struct{})}
	r.mu.places = map[string]*[partitions]place{}
	go r.read(ctx)
	return r, nil
}

// add reads more topics; they exist.
func (r *reader) add(topics ...string) {
	offsets := map[string]map[int32]kgo.Offset{}
	r.mu.Lock()
	for _, topic := range topics {
		if r.mu.places[topic] != nil {
			continue
		}
		r.mu.places[topic] = &[partitions]place{}
		offsets[topic] = map[int32]kgo.Offset{}
		for p := range int32(partitions) {
			offsets[topic][p] = kgo.NewOffset().AtStart()
		}
	}
	r.mu.Unlock()
	if len(offsets) > 0 {
		r.client.AddConsumePartitions(offsets)
	}
}

func (r *reader) read(ctx context.Context) {
	defer close(r.done)
	for {
		fetches := r.client.PollFetches(ctx)
		if ctx.Err() != nil || fetches.IsClientClosed() {
			return
		}
		err := fetches.Err()
		fetches.EachPartition(func(p kgo.FetchTopicPartition) {
			if err == nil {
				err = r.take(p)
			}
		})
		if err != nil {
			r.mu.Lock()
			r.mu.err = err
			r.mu.Unlock()
			return
		}
	}
}

// take shows the judge what has content, in the order of the partition.
func (r *reader) take(p kgo.FetchTopicPartition) error {
	var at place
	gifts := 0
	for _, in := range p.Records {
		at.next = in.Offset + 1
		if in.Attrs.IsControl() {
			continue
		}
		at.data = in.Offset + 1
		switch p.Topic {
		case r.topics.Gifts:
			gifts++
		case r.topics.Accepted, r.topics.Units, r.topics.DeadLetters:
		default:
			continue // an internal topic: only its place matters
		}
		if err := r.judge.Record(r.topics, rawOf(in)); err != nil {
			return err
		}
	}
	if gifts > 0 {
		r.gifts(gifts)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	known := &r.mu.places[p.Topic][p.Partition]
	known.next, known.data = max(known.next, at.next), max(known.data, at.data)
	return nil
}

func rawOf(in *kgo.Record) *record.Raw {
	raw := &record.Raw{Key: in.Key, Value: in.Value, Timestamp: in.Timestamp, Position: record.Position{
		Topic: in.Topic, Partition: in.Partition, Offset: in.Offset,
	}}
	for _, h := range in.Headers {
		raw.Headers = append(raw.Headers, record.Header{Key: h.Key, Value: h.Value})
	}
	return raw
}

// reached reports that everything before the ends was read. A partition that begins at its end has nothing to read.
func (r *reader) reached(starts, ends kadm.ListedOffsets) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.err != nil {
		return false, guest.Failed("read the outputs", r.mu.err)
	}
	all := true
	ends.Each(func(end kadm.ListedOffset) {
		start, _ := starts.Lookup(end.Topic, end.Partition)
		all = all && (start.Offset == end.Offset || r.mu.places[end.Topic][end.Partition].next >= end.Offset)
	})
	return all, nil
}

// content returns the offsets behind the last records with content.
func (r *reader) content(topic string) [partitions]int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	var at [partitions]int64
	for p, place := range r.mu.places[topic] {
		at[p] = place.data
	}
	return at
}

// close ends the reading. The judge is the caller's from then on. It may be called again.
func (r *reader) close() {
	r.once.Do(func() {
		r.cancel()
		<-r.done
		r.client.Close()
	})
}
