package oncemill

import (
	"context"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/oncemill/oncemill/internal/step"
)

// purge notes what the committed transactions made superfluous: records of repartition topics below the positions, and
// markers below the oldest live bucket (R8).
func (a *App) purge(dirty []*running) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range dirty {
		partition := r.task.ID().Partition
		for i, in := range r.task.Inputs() {
			if in.Internal && !in.Replay {
				a.mu.cuts[topicPartition{in.Topic, partition}] = r.task.Next(i)
			}
		}
		oldest := map[uint32]int64{}
		for _, b := range r.task.Buckets() {
			if at, ok := oldest[b.Store]; !ok || b.Offset < at {
				oldest[b.Store] = b.Offset
			}
		}
		for _, st := range a.sub(r.task.ID().SubTopology).Stores {
			if at, ok := oldest[st.ID()]; ok && at > 0 {
				a.mu.cuts[topicPartition{st.Changelog, partition}] = at
			}
		}
	}
}

// cleanUpInterval is how often superfluous records are deleted; nothing depends on it but disk space.
const cleanUpInterval = 30 * time.Second

// cleanUp deletes what purge noted. A failure is tried again the next time.
func (a *App) cleanUp(ctx context.Context, admin *kadm.Client) {
	done := map[topicPartition]int64{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(cleanUpInterval):
		}
		offsets := kadm.Offsets{}
		a.mu.Lock()
		for tp, at := range a.mu.cuts {
			if at > done[tp] {
				offsets.Add(kadm.Offset{Topic: tp.topic, Partition: tp.partition, At: at})
				done[tp] = at
			}
		}
		a.mu.Unlock()
		if len(offsets) == 0 {
			continue
		}
		if a.cfg.Steps.At(-1, step.DeleteRecords) != nil {
			return
		}
		responses, err := admin.DeleteRecords(ctx, offsets)
		if err == nil {
			err = responses.Error()
		}
		if err != nil && ctx.Err() == nil {
			clear(done)
			a.cfg.Logger.Info("deleting processed records failed; trying again later", "err", err)
		}
		if err == nil && a.cfg.Steps.After(-1, step.DeleteRecords) != nil {
			return
		}
	}
}
