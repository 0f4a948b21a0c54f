package oncemill

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/internal/graph"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/internal/step"
	"github.com/oncemill/oncemill/internal/task"
	"github.com/oncemill/oncemill/statestore"
)

// restoreJob is one restore.
type restoreJob struct {
	restored
	w         *worker
	client    *kgo.Client
	committed map[string]committedOffset
	meta      task.Metadata
	ours      bool // some committed offset carries our metadata
	logs      []*restoreLog
	latest    statestore.Checkpoint
	// asOf is when the state lacked nothing up to its position in the logs: that of the local state, or the begin of the restore.
	// Tombstones of keys that were there then outlast it by the topic's delete.retention.ms.
	asOf time.Time

	limit   chan struct{}
	placed  bool      // it has one of the places of limit
	reading bool      // from the changelogs
	unknown time.Time // since when the brokers do not know one of the topics
	lacking stall     // topics that have no such partition
}

// restoreLog is one changelog partition.
type restoreLog struct {
	store      *graph.Store
	start, end int64
	next       int64
	epoch      int32
	buckets    map[uint64]int64 // first offset of each marker bucket that was read
	open       stall            // a transaction is open below the end, or the end is gone
}

func (j *restoreJob) run(ctx context.Context) error {
	began := time.Now()
	defer func() { j.took = time.Since(began) }()
	err := j.connect()
	if err != nil {
		return err
	}
	defer func() { j.client.Close() }()
	if err := j.fetchCommitted(ctx); err != nil {
		return err
	}
	if j.sub.Stateful() {
		err = j.restoreState(ctx)
	} else {
		err = j.startStateless()
	}
	if err != nil {
		return err
	}
	if err := j.w.at(step.CheckInputs); err != nil {
		return err
	}
	if err := j.checkInputs(ctx); err != nil {
		return err
	}
	return j.w.after(step.CheckInputs)
}

// readAnew takes a new client. The old one has read beyond the ends that were listed, and goes on from there whatever it is told: to add a
// partition that it consumes does nothing. What lies between would be missing.
func (j *restoreJob) readAnew() error {
	j.client.Close()
	return j.connect()
}

func (j *restoreJob) connect() (err error) {
	j.client, err = kgo.NewClient(append(j.reader(kgo.ReadCommitted()), kgo.FetchMaxBytes(fetchBytes), kgo.FetchMaxPartitionBytes(fetchPartitionBytes))...)
	return err
}

// reader are the options of a client that reads changelogs.
func (j *restoreJob) reader(level kgo.IsolationLevel) []kgo.Opt {
	return append(j.w.app.cfg.clientOptions("restore"), kgo.FetchIsolationLevel(level), kgo.KeepControlRecords(), kgo.ConsumeResetOffset(kgo.NoResetOffset()))
}

func (j *restoreJob) fetchCommitted(ctx context.Context) error {
	if err := j.w.at(step.FetchOffsets); err != nil {
		return err
	}
	var topics []string
	for _, in := range j.sub.Inputs {
		topics = append(topics, in.Topic)
	}
	var err error
	if j.committed, err = fetchStable(ctx, j.client, j.w.app.topics, j.w.app.plan.App, j.id.Partition, topics); err != nil {
		return err
	}
	if err := j.w.after(step.FetchOffsets); err != nil {
		return err
	}
	for _, topic := range topics {
		m, ours, err := task.DecodeMetadata(j.committed[topic].Metadata)
		if err != nil {
			return err
		}
		if ours && (!j.ours || m.N > j.meta.N) {
			j.meta, j.ours = m, true
		}
	}
	if !j.ours {
		return nil
	}
	return j.w.app.checkStateHash(j.id.SubTopology, j.meta)
}

// startStateless begins where the offsets say: there is nothing that could disagree with them.
func (j *restoreJob) startStateless() error {
	j.cause = restoreNone
	j.at.N, j.at.StreamTime = j.meta.N, j.meta.StreamTime
	if !j.ours {
		j.at.StreamTime = statestore.MinStreamTime
	}
	for _, in := range j.sub.Inputs {
		if c := j.committed[in.Topic]; c.Offset >= 0 {
			j.at.Inputs = append(j.at.Inputs, statestore.Input{Topic: in.Topic, TopicID: j.w.app.topics.info(in.Topic).id, Next: c.Offset, LeaderEpoch: -1})
		}
	}
	return nil
}

// restoreState brings the local state up to the committed transaction.
func (j *restoreJob) restoreState(ctx context.Context) error {
	if err := j.acquire(ctx); err != nil {
		return err
	}
	for {
		if err := j.listLogs(ctx); err != nil {
			return err
		}
		if err := j.haveTheirEnds(ctx); err != nil {
			return err
		}
		if err := j.judgeLocal(ctx); err != nil {
			return err
		}
		remaining := int64(0)
		for _, l := range j.logs {
			remaining += l.end - l.next
		}
		j.w.restoreStarted(j.id, j.cause, remaining)
		switch err := j.read(ctx); {
		case errors.Is(err, errShortened):
			if err := j.startOver(ctx); err != nil {
				return err
			}
			continue
		case err != nil:
			return err
		}
		overtaken, err := j.overtaken(ctx)
		if err != nil {
			return err
		}
		if !overtaken {
			break
		}
		if err := j.readAnew(); err != nil {
			return err
		}
	}
	if err := j.w.at(step.RestoreDone); err != nil {
		return err
	}
	if err := j.compare(); err != nil {
		return err
	}
	return j.w.after(step.RestoreDone)
}

// acquire waits until another worker of this process has let go of the task.
func (j *restoreJob) acquire(ctx context.Context) error {
	var st stall
	for {
		state, err := j.w.app.db.Acquire(j.id, j.sub.Declarations())
		if err == nil {
			j.state = state
			return j.goesOn(ctx)
		}
		if isDamage(err) {
			return j.acquireDamaged(ctx, err)
		}
		if !errors.Is(err, statestore.ErrHeld) {
			return err
		}
		if err := j.stands(ctx, &st, "another worker of this process, which has not let go of it", err); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(retryPause):
		}
	}
}

func (j *restoreJob) listLogs(ctx context.Context) error {
	if err := j.w.at(step.ListEnds); err != nil {
		return err
	}
	var topics []string
	for _, st := range j.sub.Stores {
		topics = append(topics, st.Changelog)
	}
	starts, err := listOffsets(ctx, j.client, topics, j.id.Partition, atStart, readUncommitted)
	if err != nil {
		return err
	}
	ends, err := listOffsets(ctx, j.client, topics, j.id.Partition, atEnd, readUncommitted)
	if err != nil {
		return err
	}
	j.logs = nil
	for _, st := range j.sub.Stores {
		j.logs = append(j.logs, &restoreLog{store: st, start: starts[st.Changelog], end: ends[st.Changelog], next: starts[st.Changelog], epoch: -1, buckets: map[uint64]int64{}})
	}
	return j.w.after(step.ListEnds)
}

// haveTheirEnds refuses changelogs that lost what was committed last, also those that have grown beyond it since, by aborted records or by
// those of somebody else. It comes before the local state is judged: that may be the only copy left.
func (j *restoreJob) haveTheirEnds(ctx context.Context) error {
	epochs := map[string]int32{}
	for _, l := range j.logs {
		topic := l.store.Changelog
		if end := j.meta.End(topic); j.ours && l.end < end { // the task's own log may have all of its records all the same
			return problem.New(problem.StateBehind, j.id.String(), "%s/%d ends at %d, committed is up to %d", topic, j.id.Partition, l.end, end)
		}
		if epoch := j.meta.Epoch(topic); j.ours && epoch >= 0 && l.start < j.meta.End(topic) {
			epochs[topic] = epoch
		}
	}
	if len(epochs) == 0 {
		return nil
	}
	if err := j.w.at(step.AskEpoch); err != nil {
		return err
	}
	ends, err := epochEnds(ctx, j.client, epochs, j.id.Partition)
	if err != nil {
		return err
	}
	if err := j.w.after(step.AskEpoch); err != nil {
		return err
	}
	for topic, end := range ends {
		committed := j.meta.End(topic)
		if end < 0 || end >= committed {
			continue
		}
		// The epoch is the one that the client knew, which may have been too old: then the record lies there, in a newer epoch.
		lost, err := j.lacks(ctx, topic, committed-1)
		if err != nil {
			return err
		}
		if lost {
			return problem.New(problem.StateBehind, j.id.String(), "%s/%d lost its end: committed is up to %d in leader epoch %d, which ends at %d",
				topic, j.id.Partition, committed, epochs[topic], end)
		}
	}
	return nil
}

// lacks reports that something else lies where the last committed record of a changelog was: a marker, or a record that was aborted. What was
// removed by compaction is not lacking.
func (j *restoreJob) lacks(ctx context.Context, topic string, offset int64) (bool, error) {
	r, err := j.firstFrom(ctx, topic, offset, kgo.ReadUncommitted())
	if err != nil || r.Offset > offset {
		return false, err
	}
	if r.Attrs.IsControl() {
		return true, nil
	}
	r, err = j.firstFrom(ctx, topic, offset, kgo.ReadCommitted())
	return err == nil && r.Offset > offset, err
}

// firstFrom reads the first record from an offset on, which lies before the end of the log. Records of open transactions are waited for.
func (j *restoreJob) firstFrom(ctx context.Context, topic string, offset int64, level kgo.IsolationLevel) (*kgo.Record, error) {
	at := map[string]map[int32]kgo.Offset{topic: {j.id.Partition: kgo.NewOffset().At(offset)}}
	client, err := kgo.NewClient(append(j.reader(level), kgo.ConsumePartitions(at))...)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	var st stall
	for ctx.Err() == nil {
		pollCtx, cancel := context.WithTimeout(ctx, restorePoll)
		fetches := client.PollRecords(pollCtx, 1)
		cancel()
		for _, e := range fetches.Errors() {
			if permanent(e.Err) && !errors.Is(e.Err, context.Canceled) {
				return nil, problem.Wrap(problem.RestoreFailed, fmt.Sprintf("%s/%d", topic, j.id.Partition), e.Err)
			}
		}
		if records := fetches.Records(); len(records) > 0 {
			return records[0], nil
		}
		what := fmt.Sprintf("the record at %d of %s/%d", offset, topic, j.id.Partition)
		if err := j.stands(ctx, &st, what, fetches.Err()); err != nil {
			return nil, err
		}
	}
	return nil, ctx.Err()
}

// judgeLocal decides whether the local state can be continued; if not it is dropped.
func (j *restoreJob) judgeLocal(ctx context.Context) error {
	j.asOf = time.Now()
	at, found := j.state.Position()
	if !found {
		if j.cause = restoreFull; j.w.app.wasWiped() {
			j.cause = restoreWiped
		}
		return nil
	}
	reason, err := j.unusable(ctx, &at)
	if err != nil {
		return err
	}
	if reason != restoreNone {
		j.w.log.Warn("the local state cannot be continued; it is dropped and restored from the changelogs", "task", j.id, "reason", reason)
		j.cause = reason
		if err := j.w.at(step.Drop); err != nil {
			return err
		}
		if err := j.state.Drop(ctx); err != nil {
			return err
		}
		return j.w.after(step.Drop)
	}
	j.cause = restoreNone
	j.at, j.latest, j.asOf = at, at.Checkpoint, at.WrittenAt
	for _, l := range j.logs {
		for _, p := range at.Logs {
			if p.Topic == l.store.Changelog {
				l.next, l.epoch = max(p.Next, l.next), p.LeaderEpoch
			}
		}
		if l.next < l.end {
			j.cause = restoreTail
		}
	}
	return nil
}

// unusable returns why the local state does not belong to the changelogs, or restoreNone.
func (j *restoreJob) unusable(ctx context.Context, at *statestore.Position) (restoreCause, error) {
	if j.ours && at.N > j.meta.N {
		return restoreDiverged, nil
	}
	// Nothing was missed at the committed counter, whatever the age: the log then goes on with transaction markers only, which
	// no position includes.
	fresh := j.ours && at.N == j.meta.N
	for _, l := range j.logs {
		for _, p := range at.Logs {
			if p.Topic != l.store.Changelog {
				continue
			}
			info := j.w.app.topics.info(p.Topic)
			switch {
			case p.Next > l.end, p.TopicID != info.id:
				return restoreDiverged, nil
			case !fresh && p.Next < l.start && l.store.Kind != statestore.KindMarkers:
				return restoreExpired, nil // expired markers may be cut off, state may not
			case !fresh && p.Next < l.end && info.tombstones > 0 && time.Since(at.WrittenAt) > info.tombstones && l.store.Kind != statestore.KindMarkers:
				return restoreExpired, nil // deleted keys could rise again
			}
			if p.LeaderEpoch < 0 {
				continue
			}
			if err := j.w.at(step.AskEpoch); err != nil {
				return restoreNone, err
			}
			end, err := epochEnd(ctx, j.client, p.Topic, j.id.Partition, p.LeaderEpoch)
			if err != nil {
				return restoreNone, err
			}
			if err := j.w.after(step.AskEpoch); err != nil {
				return restoreNone, err
			}
			if end >= 0 && end < p.Next {
				return restoreDiverged, nil
			}
		}
	}
	return restoreNone, nil
}
