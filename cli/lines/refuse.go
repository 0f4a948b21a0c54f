package lines

import (
	"context"
	"fmt"
	"strconv"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/internal/task"
)

// finish reads the dead letters of this run: what was refused, and why.
func (r *run) finish(ctx context.Context) error {
	r.result.Refused, r.result.Refusals = r.feeder.long, r.feeder.refused
	client, err := kgo.NewClient(kgo.SeedBrokers(r.brokers...), kgo.DisableClientMetrics(), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topicDead: {0: kgo.NewOffset().At(r.deadStart)}}))
	if err != nil {
		return err
	}
	defer client.Close()
	end, err := endOf(ctx, kadm.NewClient(client), topicDead, true)
	if err != nil {
		return err
	}
	for next := r.deadStart; next < end; {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return fmt.Errorf("read the dead letters: %w", err)
		}
		for it := fetches.RecordIter(); !it.Done(); {
			letter := it.Next()
			next = letter.Offset + 1
			if letter.Attrs.IsControl() {
				continue
			}
			r.result.Refused++
			if len(r.result.Refusals) < maxRefusals {
				r.result.Refusals = append(r.result.Refusals, r.refusal(letter))
			}
		}
	}
	return nil
}

func (r *run) refusal(letter *kgo.Record) Refusal {
	var out Refusal
	for _, h := range letter.Headers {
		switch h.Key {
		case task.HeaderErrorMessage:
			out.Reason = string(h.Value)
		case task.HeaderErrorOffset:
			offset, err := strconv.ParseInt(string(h.Value), 10, 64)
			if first := r.feeder.first; err == nil && first >= 0 && offset >= first {
				out.Record = offset - first + 1
			}
		}
	}
	return out
}
