package soak

import (
	"context"
	"hash/fnv"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/internal/graph"
	"github.com/oncemill/oncemill/internal/guest"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/internal/proof"
	"github.com/oncemill/oncemill/internal/task"
	"github.com/oncemill/oncemill/record"
)

// replayer replays dead letters while the job runs: those of keys with d, whose commands wait for it, a tenth of them twice by
// mistake. Replays that fail again are replayed once more under their next number.
type replayer struct {
	reader, writer *kgo.Client
	plan           *graph.Plan
	names          proof.Names

	mu struct {
		sync.Mutex
		read map[int32]int64 // the offset behind the last record that was looked at
		sent int64
		err  error
	}
}

// mostReplays bounds how often a dead letter goes round.
const mostReplays = 2

// run replays until ctx ends. The reader is a client of the topic of the dead letters, read committed, with control records.
func (p *replayer) run(ctx context.Context) {
	for ctx.Err() == nil {
		fetches := p.reader.PollFetches(ctx)
		fetches.EachPartition(func(part kgo.FetchTopicPartition) {
			for _, r := range part.Records {
				if !r.Attrs.IsControl() {
					p.look(ctx, r)
				}
				p.mu.Lock()
				p.mu.read[r.Partition] = r.Offset + 1
				p.mu.Unlock()
			}
		})
		if ctx.Err() == nil && len(fetches.Errors()) > 0 { // the topic is not there yet, or a broker is away
			select {
			case <-ctx.Done():
			case <-time.After(guest.MetadataMinAge):
			}
		}
	}
}

// look replays a letter if it is to be replayed, and waits until brokers have it.
func (p *replayer) look(ctx context.Context, r *kgo.Record) {
	raw := rawOf(r)
	if len(raw.Key) == 0 || raw.Key[0] != 'd' {
		return
	}
	replay, err := task.ReplayOf(p.plan, &raw, false)
	if err != nil {
		p.fail(err)
		return
	}
	number, _ := record.Lookup(replay.Headers, record.HeaderReplay)
	if n, err := strconv.Atoi(string(number)); err != nil || n > mostReplays {
		return
	}
	times := 1
	h := fnv.New32a()
	_, _ = h.Write(raw.Key) // never fails
	if h.Sum32()%10 == 0 {
		times = 2
	}
	for range times {
		out := &kgo.Record{Topic: replay.Topic, Partition: replay.Partition, Key: replay.Key, Value: replay.Value, Timestamp: replay.Timestamp}
		for _, h := range replay.Headers {
			out.Headers = append(out.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
		}
		p.writer.Produce(ctx, out, func(_ *kgo.Record, err error) {
			if err != nil && ctx.Err() == nil {
				p.fail(err)
			}
		})
		p.mu.Lock()
		p.mu.sent++
		p.mu.Unlock()
	}
}

func (p *replayer) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.err == nil {
		p.mu.err = problem.Wrap(problem.ProduceFailed, p.names.Replays, err)
	}
}

func (p *replayer) failed() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.err
}

// reached says that every letter up to these ends was looked at.
func (p *replayer) reached(ends map[int32]int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for partition, end := range ends {
		if p.mu.read[partition] < end {
			return false
		}
	}
	return true
}

// rawOf is a record as the toolkit has it.
func rawOf(r *kgo.Record) record.Raw {
	raw := record.Raw{
		Key: r.Key, Value: r.Value, Timestamp: r.Timestamp, LeaderEpoch: r.LeaderEpoch,
		Position: record.Position{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset},
	}
	for _, h := range r.Headers {
		raw.Headers = append(raw.Headers, record.Header{Key: h.Key, Value: h.Value})
	}
	return raw
}
