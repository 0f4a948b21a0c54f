package oncemill

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/internal/logtail"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/internal/step"
	"github.com/oncemill/oncemill/internal/task"
	"github.com/oncemill/oncemill/statestore"
)

// read applies the changelogs up to their ends.
func (j *restoreJob) read(ctx context.Context) error {
	add := map[string]map[int32]kgo.Offset{}
	byTopic := map[string]*restoreLog{}
	for _, l := range j.logs {
		if l.next < l.end {
			add[l.store.Changelog] = map[int32]kgo.Offset{j.id.Partition: kgo.NewOffset().At(l.next)}
			byTopic[l.store.Changelog] = l
		}
	}
	if len(add) == 0 {
		return nil
	}
	if err := j.w.at(step.ReadLogs); err != nil {
		return err
	}
	j.client.AddConsumePartitions(add)
	j.reading = true
	defer func() { j.reading = false }()
	heard := time.Now()
	for len(byTopic) > 0 {
		pollCtx, cancel := context.WithTimeout(ctx, restorePoll)
		fetches := j.client.PollRecords(pollCtx, pollRecords)
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if j.w.app.db.Pressed() {
			if err := j.giveBack(ctx); err != nil {
				return err
			}
		}
		if err := j.restoreErrors(ctx, fetches, byTopic); err != nil {
			return err
		}
		if fetches.NumRecords() == 0 {
			if err := j.endSilence(ctx, byTopic, heard); err != nil {
				return err
			}
			if time.Since(heard) >= silence {
				heard = time.Now()
			}
			continue
		}
		if err := j.goesOn(ctx); err != nil {
			return err
		}
		heard = time.Now()
		if err := j.applyFetched(ctx, fetches, byTopic); err != nil {
			return err
		}
	}
	return j.w.after(step.ReadLogs)
}

// restorePoll bounds a poll, so that an empty tail is noticed.
const restorePoll = time.Second

func (j *restoreJob) restoreErrors(ctx context.Context, fetches kgo.Fetches, byTopic map[string]*restoreLog) error {
	for _, e := range fetches.Errors() {
		if errors.Is(e.Err, context.DeadlineExceeded) {
			continue
		}
		if errors.Is(e.Err, kerr.OffsetOutOfRange) {
			if byTopic[e.Topic] != nil {
				if err := j.skipCut(ctx, byTopic, e.Topic); err != nil {
					return err
				}
			}
			continue
		}
		if err := j.lookForTopics(ctx, e.Err); err != nil {
			return err
		}
		if permanent(e.Err) {
			return problem.Wrap(problem.RestoreFailed, fmt.Sprintf("%s/%d", e.Topic, e.Partition), e.Err)
		}
		j.w.log.Warn("reading a changelog failed; trying again", "topic", e.Topic, "partition", e.Partition, "err", e.Err)
	}
	return nil
}

func (j *restoreJob) applyFetched(ctx context.Context, fetches kgo.Fetches, byTopic map[string]*restoreLog) error {
	if err := j.w.at(step.RestoreChunk); err != nil {
		return err
	}
	before := j.records
	for it := fetches.RecordIter(); !it.Done(); {
		r := it.Next()
		l := byTopic[r.Topic]
		if l == nil || r.Offset < l.next {
			continue
		}
		if r.Offset < l.end && !r.Attrs.IsControl() {
			if err := j.apply(ctx, l, r); err != nil {
				return err
			}
			j.records++
		}
		l.next, l.epoch, l.open = min(r.Offset+1, l.end), r.LeaderEpoch, stall{}
		if l.next >= l.end {
			delete(byTopic, r.Topic)
		}
	}
	remaining := int64(0)
	for _, l := range j.logs {
		remaining += l.end - l.next
	}
	j.w.restoreProgress(j, j.records-before, remaining)
	return j.w.after(step.RestoreChunk)
}

func (j *restoreJob) apply(ctx context.Context, l *restoreLog, r *kgo.Record) error {
	switch l.store.Kind {
	case statestore.KindTask:
		c, err := statestore.DecodeCheckpoint(r.Value)
		if err != nil {
			return err
		}
		if c.N > j.latest.N {
			j.latest = c
		}
	case statestore.KindMarkers:
		if len(r.Key) >= 8 {
			bucket := binary.BigEndian.Uint64(r.Key)
			if _, seen := l.buckets[bucket]; !seen {
				l.buckets[bucket] = r.Offset
			}
		}
	}
	for {
		changed := j.w.app.db.Room()
		err := j.state.ApplyRestored(l.store.Declaration, r.Key, r.Value, r.Value == nil)
		if !errors.Is(err, statestore.ErrBudget) {
			return err
		}
		j.w.app.wakeWorkers()
		if err := j.giveBack(ctx); err != nil {
			return err
		}
		if err := awaitChange(ctx, changed, lookAgain); err != nil {
			return err
		}
	}
}

// giveBack makes room for others and for what comes: nothing else would write a restored task's state before it is complete.
func (j *restoreJob) giveBack(ctx context.Context) error {
	if j.state.Unwritten() > 0 {
		return j.writeChunk(ctx)
	}
	return j.state.Tick()
}

// writeChunk writes what was restored so far, with its changelog positions, in one ingest: a restart goes on from there. The
// counter stays that of the last complete state, so that a half restored task is behind and is never served. So does the time:
// tombstones ahead of the chunk may be gone as soon as they are allowed to be since then.
func (j *restoreJob) writeChunk(ctx context.Context) error {
	if err := j.w.at(step.WriteChunk); err != nil {
		return err
	}
	at := j.position()
	at.Checkpoint, at.WrittenAt = j.at.Checkpoint, j.asOf
	// The counter lies in the task's own changelog, which may be read before the others: it has to be read again.
	at.Logs = slices.DeleteFunc(at.Logs, func(p statestore.LogPosition) bool {
		return slices.ContainsFunc(j.logs, func(l *restoreLog) bool { return l.store.Kind == statestore.KindTask && l.store.Changelog == p.Topic })
	})
	j.state.SetPosition(at)
	ticket := j.w.app.db.Checkpoint(j.state)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-ticket.Done():
	}
	if err := ticket.Err(); err != nil {
		return err
	}
	if err := j.state.Tick(); err != nil {
		return err
	}
	return j.w.after(step.WriteChunk)
}

// position is the state's position as read so far.
func (j *restoreJob) position() statestore.Position {
	at := statestore.Position{Checkpoint: j.latest, WrittenAt: time.Now()}
	for _, l := range j.logs {
		at.Logs = append(at.Logs, statestore.LogPosition{Topic: l.store.Changelog, TopicID: j.w.app.topics.info(l.store.Changelog).id, Next: l.next, LeaderEpoch: l.epoch})
		at.Buckets = append(at.Buckets, j.buckets(l)...)
	}
	return at
}

// buckets joins the marker buckets that were known with those that were read.
func (j *restoreJob) buckets(l *restoreLog) []statestore.BucketStart {
	if l.store.Kind != statestore.KindMarkers {
		return nil
	}
	id, horizon := l.store.ID(), uint64(0)
	for _, h := range j.latest.Horizons {
		if h.Store == id {
			horizon = h.Bucket
		}
	}
	var out []statestore.BucketStart
	known := map[uint64]bool{}
	for _, b := range j.at.Buckets {
		if b.Store == id && b.Bucket >= horizon {
			out = append(out, b)
			known[b.Bucket] = true
		}
	}
	for bucket, offset := range l.buckets {
		if !known[bucket] && bucket >= horizon {
			out = append(out, statestore.BucketStart{Store: id, Bucket: bucket, Offset: offset})
		}
	}
	return out
}

// silence is how long a changelog may give no record before its leader is asked whether there are any.
const silence = 2 * time.Second

// endSilence looks after changelogs below whose ends nothing has come for a while: compaction may have emptied the last
// batches. Only an answer of the leader ends the reading of one; without it the restore goes on waiting.
func (j *restoreJob) endSilence(ctx context.Context, byTopic map[string]*restoreLog, since time.Time) error {
	if time.Since(since) < silence {
		return nil
	}
	if err := j.giveWay(ctx); err != nil {
		return err
	}
	for topic, l := range byTopic {
		log := logtail.Log{Topic: topic, TopicID: j.w.app.topics.info(topic).id, Partition: j.id.Partition}
		err := logtail.Empty(ctx, j.client, log, l.next, l.end)
		switch {
		case err == nil:
			l.next = l.end
			delete(byTopic, topic)
		case errors.Is(err, kerr.OffsetOutOfRange):
			if err := j.skipCut(ctx, byTopic, topic); err != nil {
				return err
			}
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, logtail.ErrRecords):
			l.open = stall{}
		case errors.Is(err, logtail.ErrOpen):
			if err := j.awaitEnd(ctx, topic, l); err != nil {
				return err
			}
		default:
			j.w.log.Warn("a changelog does not answer; waiting", "task", j.id, "topic", topic, "partition", j.id.Partition, "position", l.next, "end", l.end, "err", err)
			if err := j.lookForTopics(ctx, err); err != nil {
				return err
			}
		}
	}
	return nil
}

// skipCut goes on at the new start of a changelog whose first records were deleted while it was read. Only those of expired markers
// are, by the owner before us.
func (j *restoreJob) skipCut(ctx context.Context, byTopic map[string]*restoreLog, topic string) error {
	l := byTopic[topic]
	place := fmt.Sprintf("%s/%d", topic, j.id.Partition)
	starts, err := listOffsets(ctx, j.client, []string{topic}, j.id.Partition, atStart, readUncommitted)
	if err != nil {
		return err
	}
	if l.store.Kind != statestore.KindMarkers || starts[topic] <= l.next {
		return problem.New(problem.RestoreFailed, place, "position %d is gone, the log starts at %d", l.next, starts[topic]).
			WithCure("somebody deleted records of this changelog; restore the topic from a backup, or reset the application")
	}
	partition := j.id.Partition
	j.client.RemoveConsumePartitions(map[string][]int32{topic: {partition}})
	if l.next = min(starts[topic], l.end); l.next == l.end {
		delete(byTopic, topic)
		return nil
	}
	j.client.AddConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: kgo.NewOffset().At(l.next)}})
	return nil
}

// overtaken reports that another owner has committed since the offsets were fetched: this worker stood still in between, and the group has
// given it up, which it may not know yet. The ends that were listed need not hold all of that transaction, and compaction may have removed
// the counter that lay before them, so the restore looks again, and goes on from what it has. A counter that is not that of the offsets
// and does not come from such an owner is left to compare.
func (j *restoreJob) overtaken(ctx context.Context) (bool, error) {
	if j.latest.N == j.meta.N {
		return false, nil
	}
	before, known := j.meta.N, j.ours // 0 if it is not known: there was no offset yet, or somebody has moved it
	j.meta, j.ours = task.Metadata{}, false
	if err := j.fetchCommitted(ctx); err != nil {
		return false, err
	}
	if j.ours && j.meta.N <= before || !j.ours && !known {
		return false, nil
	}
	j.w.log.Info("another member has committed while a task was restored; reading on", "task", j.id, "restored", j.latest.N, "before", before, "now", j.meta.N)
	if j.state.Unwritten() == 0 {
		return true, nil
	}
	return true, j.writeChunk(ctx)
}

// compare is the last word on a restore: behind means that the changelog lacks what the offsets say was committed. Ahead of them it
// is not believed, whatever the brokers' protocol: its other topics may have lost what it has.
func (j *restoreJob) compare() error {
	j.at = j.position()
	if j.ours && j.at.N == 0 && j.meta.End(j.sub.ByKind(statestore.KindTask, -1).Changelog) == 0 {
		return j.startStateless() // it had no store until now
	}
	switch {
	case j.ours && j.at.N < j.meta.N:
		return problem.New(problem.StateBehind, j.id.String(), "restored to transaction %d, committed is %d", j.at.N, j.meta.N)
	case j.ours && j.at.N > j.meta.N: // a part of a transaction is committed, or the offsets were set back with their metadata
		return problem.New(problem.InvariantBroken, j.id.String(), "restored to transaction %d, committed is %d", j.at.N, j.meta.N).WithCure("%s", j.trustState())
	}
	if j.at.N > 0 {
		j.state.SetPosition(j.at)
	} else {
		j.at.StreamTime = statestore.MinStreamTime
	}
	return nil
}
