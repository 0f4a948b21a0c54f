package oncemill

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/internal/graph"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/internal/step"
	"github.com/oncemill/oncemill/internal/task"
	"github.com/oncemill/oncemill/statestore"
)

// restorer brings tasks up to date off the poll path. Each restore is a goroutine that owns the task's state until it is
// done. What it must do, in this order (R6): the worker's session has fenced its own previous incarnation; then a stable
// OffsetFetch, which waits for the transactions of a previous owner; then the read_uncommitted ends of the changelogs, up
// to which it reads with read_committed: transaction markers reach partitions independently, so the last stable offset as
// a target could miss the last commit. At last the restored counter is compared with the committed one.
type restorer struct {
	w         *worker
	ctx       context.Context
	cancelAll context.CancelFunc
	wg        sync.WaitGroup
	limit     chan struct{}

	mu struct {
		sync.Mutex
		jobs map[statestore.TaskID]context.CancelFunc
		done []restored
	}
}

// restored is the result of a restore.
type restored struct {
	id      statestore.TaskID
	sub     *graph.SubTopology
	state   *statestore.Task
	at      statestore.Position
	starts  []int64 // by input
	cause   restoreCause
	records int64
	took    time.Duration
	err     error
}

// restoreCause says why changelog records were read.
type restoreCause string

const (
	restoreNone     restoreCause = "none"     // nothing to read
	restoreTail     restoreCause = "tail"     // what a checkpoint did not hold
	restoreFull     restoreCause = "full"     // no local state
	restoreDiverged restoreCause = "diverged" // the local state is not of this log
	restoreExpired  restoreCause = "expired"  // absent longer than tombstones are kept
	restoreWiped    restoreCause = "wiped"    // the local state was damaged
)

// parallelRestores bounds the changelog readers of one worker.
const parallelRestores = 8

func newRestorer(w *worker) *restorer {
	r := &restorer{w: w, limit: make(chan struct{}, parallelRestores)}
	r.ctx, r.cancelAll = context.WithCancel(w.ctx)
	r.mu.jobs = map[statestore.TaskID]context.CancelFunc{}
	return r
}

// begin starts the restore of a task.
func (r *restorer) begin(id statestore.TaskID, sub *graph.SubTopology) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.jobs[id] != nil {
		return
	}
	ctx, cancel := context.WithCancel(r.ctx)
	r.mu.jobs[id] = cancel
	r.wg.Add(1)
	go func() {
		defer r.wg.Done()
		j := &restoreJob{w: r.w, restored: restored{id: id, sub: sub}}
		select {
		case r.limit <- struct{}{}:
			j.err = j.run(ctx)
			<-r.limit
		case <-ctx.Done():
			j.err = ctx.Err()
		}
		r.finish(ctx, j)
	}()
}

func (r *restorer) finish(ctx context.Context, j *restoreJob) {
	r.mu.Lock()
	cancelled := ctx.Err() != nil
	if j.err != nil && j.state != nil || cancelled && j.state != nil {
		j.state.Release()
		j.state = nil
	}
	if !cancelled {
		delete(r.mu.jobs, j.id)
		r.mu.done = append(r.mu.done, j.restored)
	}
	r.mu.Unlock()
	if !cancelled {
		r.w.restoreEnded(&j.restored)
	}
	r.w.mail.wakeUp()
}

// cancel ends the restore of a task that moves away, or gives up one that is done but has not started.
func (r *restorer) cancel(id statestore.TaskID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if cancel := r.mu.jobs[id]; cancel != nil {
		cancel()
		delete(r.mu.jobs, id)
	}
	kept := r.mu.done[:0]
	for _, d := range r.mu.done {
		if d.id != id {
			kept = append(kept, d)
		} else if d.state != nil {
			d.state.Release()
		}
	}
	r.mu.done = kept
}

// finished takes the results.
func (r *restorer) finished() []restored {
	r.mu.Lock()
	defer r.mu.Unlock()
	done := r.mu.done
	r.mu.done = nil
	return done
}

// waiting reports that results are there.
func (r *restorer) waiting() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.mu.done) > 0
}

func (r *restorer) close() {
	r.cancelAll()
	r.wg.Wait()
	for _, d := range r.finished() {
		if d.state != nil {
			d.state.Release()
		}
	}
}

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
}

// restoreLog is one changelog partition.
type restoreLog struct {
	store      *graph.Store
	start, end int64
	next       int64
	epoch      int32
	buckets    map[uint64]int64 // first offset of each marker bucket that was read
}

func (j *restoreJob) run(ctx context.Context) error {
	began := time.Now()
	defer func() { j.took = time.Since(began) }()
	cfg := j.w.app.cfg
	client, err := kgo.NewClient(append(cfg.clientOptions("restore"),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(), kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.FetchMaxBytes(fetchBytes), kgo.FetchMaxPartitionBytes(fetchPartitionBytes))...)
	if err != nil {
		return err
	}
	j.client = client
	defer client.Close()
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
	return j.checkInputs(ctx)
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
	for _, topic := range topics {
		m, ours, err := task.DecodeMetadata(j.committed[topic].Metadata)
		if err != nil {
			return err
		}
		if ours && (!j.ours || m.N > j.meta.N) {
			j.meta, j.ours = m, true
		}
	}
	return nil
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
	if err := j.listLogs(ctx); err != nil {
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
	if err := j.read(ctx); err != nil {
		return err
	}
	if err := j.w.at(step.RestoreDone); err != nil {
		return err
	}
	return j.compare()
}

// acquire waits until another worker of this process has let go of the task.
func (j *restoreJob) acquire(ctx context.Context) error {
	for {
		state, err := j.w.app.db.Acquire(j.id, j.sub.Declarations())
		if err == nil {
			j.state = state
			return nil
		}
		if !errors.Is(err, statestore.ErrHeld) {
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
	for _, st := range j.sub.Stores {
		j.logs = append(j.logs, &restoreLog{store: st, start: starts[st.Changelog], end: ends[st.Changelog], next: starts[st.Changelog], epoch: -1, buckets: map[uint64]int64{}})
	}
	return nil
}

// judgeLocal decides whether the local state can be continued; if not it is dropped.
func (j *restoreJob) judgeLocal(ctx context.Context) error {
	at, found := j.state.Position()
	if !found {
		j.cause = restoreFull
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
		return j.state.Drop(ctx)
	}
	j.cause = restoreNone
	j.at, j.latest = at, at.Checkpoint
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
	for _, l := range j.logs {
		for _, p := range at.Logs {
			if p.Topic != l.store.Changelog {
				continue
			}
			info := j.w.app.topics.info(p.Topic)
			switch {
			case p.Next > l.end, p.TopicID != info.id:
				return restoreDiverged, nil
			case p.Next < l.start && l.store.Kind != statestore.KindMarkers:
				return restoreExpired, nil // expired markers may be cut off, state may not
			case p.Next < l.end && info.tombstones > 0 && time.Since(at.WrittenAt) > info.tombstones && l.store.Kind != statestore.KindMarkers:
				return restoreExpired, nil // deleted keys could rise again
			}
			if p.LeaderEpoch < 0 {
				continue
			}
			end, err := epochEnd(ctx, j.client, p.Topic, j.id.Partition, p.LeaderEpoch)
			if err != nil {
				return restoreNone, err
			}
			if end >= 0 && end < p.Next {
				return restoreDiverged, nil
			}
		}
	}
	return restoreNone, nil
}

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
	j.client.AddConsumePartitions(add)
	progress := time.Now()
	for len(byTopic) > 0 {
		pollCtx, cancel := context.WithTimeout(ctx, restorePoll)
		fetches := j.client.PollRecords(pollCtx, pollRecords)
		cancel()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := j.restoreErrors(fetches); err != nil {
			return err
		}
		if fetches.NumRecords() == 0 {
			if err := j.skipEmptyTail(ctx, byTopic, progress); err != nil {
				return err
			}
			continue
		}
		progress = time.Now()
		if err := j.applyFetched(ctx, fetches, byTopic); err != nil {
			return err
		}
	}
	return nil
}

// restorePoll bounds a poll, so that an empty tail is noticed.
const restorePoll = time.Second

func (j *restoreJob) restoreErrors(fetches kgo.Fetches) error {
	for _, e := range fetches.Errors() {
		if errors.Is(e.Err, context.DeadlineExceeded) {
			continue
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
		l.next, l.epoch = min(r.Offset+1, l.end), r.LeaderEpoch
		if l.next >= l.end {
			delete(byTopic, r.Topic)
		}
	}
	remaining := int64(0)
	for _, l := range j.logs {
		remaining += l.end - l.next
	}
	j.w.restoreProgress(j, j.records-before, remaining)
	return nil
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
		err := j.state.ApplyRestored(l.store.Declaration, r.Key, r.Value, r.Value == nil)
		if !errors.Is(err, statestore.ErrBudget) {
			return err
		}
		if err := j.writeChunk(ctx); err != nil {
			return err
		}
	}
}

// writeChunk writes what was restored so far, with its changelog positions, in one ingest: a restart goes on from there. The
// counter stays that of the last complete state, so that a half restored task is behind and is never served.
func (j *restoreJob) writeChunk(ctx context.Context) error {
	at := j.position()
	at.Checkpoint = j.at.Checkpoint
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
	return j.state.Tick()
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

// emptyTail is how long a changelog may stay silent below its end although it is stable.
const emptyTail = 2 * time.Second

// skipEmptyTail ends the reading of changelogs whose last batches compaction has emptied: nothing will come, and the last
// stable offset says that nothing is open.
func (j *restoreJob) skipEmptyTail(ctx context.Context, byTopic map[string]*restoreLog, progress time.Time) error {
	if time.Since(progress) < emptyTail {
		return nil
	}
	var topics []string
	for topic := range byTopic {
		topics = append(topics, topic)
	}
	stable, err := listOffsets(ctx, j.client, topics, j.id.Partition, atEnd, readCommitted)
	if err != nil {
		return err
	}
	for topic, l := range byTopic {
		if stable[topic] >= l.end {
			l.next = l.end
			delete(byTopic, topic)
		}
	}
	return nil
}

// compare is the last word on a restore: behind means that the changelog lacks what the offsets say was committed.
func (j *restoreJob) compare() error {
	j.at = j.position()
	switch {
	case j.ours && j.at.N < j.meta.N:
		return problem.New(problem.StateBehind, j.id.String(), "restored to transaction %d, committed is %d", j.at.N, j.meta.N)
	case j.ours && j.at.N > j.meta.N:
		return problem.New(problem.InvariantBroken, j.id.String(), "restored to transaction %d, committed is %d", j.at.N, j.meta.N)
	}
	if j.at.N > 0 {
		j.state.SetPosition(j.at)
	} else {
		j.at.StreamTime = statestore.MinStreamTime
	}
	return nil
}

// checkInputs decides where each input begins, and refuses what would lose or repeat records.
func (j *restoreJob) checkInputs(ctx context.Context) error {
	var topics []string
	for _, in := range j.sub.Inputs {
		topics = append(topics, in.Topic)
	}
	starts, err := listOffsets(ctx, j.client, topics, j.id.Partition, atStart, readUncommitted)
	if err != nil {
		return err
	}
	ends, err := listOffsets(ctx, j.client, topics, j.id.Partition, atEnd, readUncommitted)
	if err != nil {
		return err
	}
	for _, in := range j.sub.Inputs {
		start, err := j.startOf(in, starts[in.Topic], ends[in.Topic])
		if err != nil {
			return err
		}
		j.starts = append(j.starts, start)
	}
	return nil
}

// startOf returns where an input begins beyond the position of the state, or 0.
func (j *restoreJob) startOf(in graph.Input, first, end int64) (int64, error) {
	cfg, place := j.w.app.cfg, fmt.Sprintf("%s/%d", in.Topic, j.id.Partition)
	known := -1
	for i := range j.at.Inputs {
		if j.at.Inputs[i].Topic == in.Topic {
			known = i
		}
	}
	c := j.committed[in.Topic]
	if known < 0 {
		if c.Offset >= 0 {
			return c.Offset, nil
		}
		if cfg.StartFrom == StartLatest && !in.Internal {
			return end, nil
		}
		return first, nil
	}
	at := &j.at.Inputs[known]
	if id := j.w.app.topics.info(in.Topic).id; at.TopicID != id {
		if !cfg.accepts(in.Topic) {
			return 0, problem.New(problem.TopicRecreated, place, "its topic id is %x, the state was built from %x", id, at.TopicID).
				WithCure("if that is intended, set Config.AcceptRecreated to %q: the new topic is read from its beginning, state and markers stay", in.Topic)
		}
		at.TopicID, at.Next, at.LeaderEpoch = id, first, -1
		return first, nil
	}
	_, ours, err := task.DecodeMetadata(c.Metadata)
	switch {
	case err != nil:
		return 0, err
	case c.Offset < 0:
		return 0, problem.New(problem.OffsetMissing, place, "state exists up to %d, but the group has no offset", at.Next).
			WithCure("kafka-consumer-groups --reset-offsets --to-offset %d --group %s --topic %s:%d --execute", at.Next, j.w.app.plan.App, in.Topic, j.id.Partition)
	case ours && c.Offset != at.Next:
		return 0, problem.New(problem.InvariantBroken, place, "transaction %d: committed offset %d, state at %d", j.at.N, c.Offset, at.Next)
	case c.Offset > at.Next && !cfg.AcceptSkip:
		return 0, problem.New(problem.OffsetAhead, place, "the offset was moved to %d, the state is at %d", c.Offset, at.Next)
	case c.Offset < at.Next:
		j.w.log.Warn("the committed offset was moved back; records that the state includes are not processed again", "input", place, "offset", c.Offset, "state", at.Next)
	}
	next := max(at.Next, c.Offset)
	switch {
	case next < first:
		return 0, problem.New(problem.OffsetOutOfRange, place, "the position is %d, the topic begins at %d: %d records are gone", next, first, first-next)
	case next > end:
		return 0, problem.New(problem.InputTruncated, place, "the position is %d, the topic ends at %d", next, end)
	}
	return next, nil
}

func (c *Config) accepts(topic string) bool {
	for _, t := range c.AcceptRecreated {
		if t == topic {
			return true
		}
	}
	return false
}
