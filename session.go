package oncemill

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/oncemill/oncemill/internal/host"

	"github.com/oncemill/oncemill/internal/step"
	"github.com/oncemill/oncemill/internal/task"
	"github.com/oncemill/oncemill/record"
)

// session is the one place that knows Kafka's transactions. It owns the client that reads the inputs and writes the outputs
// of one worker, with one transactional id.
//
// The protocol of a commit (docs/DESIGN.md has the crash table):
//
//	seal      per dirty task: changelog records and the checkpoint record are produced
//	flush     every promise is looked at; one failure aborts
//	reserve   room in the memory budget for what is about to be committed
//	offsets   TxnOffsetCommit of every input of every dirty task, with member and generation (R7), metadata {n, log ends}
//	end       EndTxn(commit)
//	          an answer other than yes: resolve before anything else is processed (R5)
//	apply     per task: overlay -> committed delta
type session struct {
	w       *worker
	client  *kgo.Client
	group   string
	txnID   string
	oldTxns bool // transaction.version below 2: AddOffsetsToTxn is needed
	// unanswered belongs to the client; it counts with oldTxns.
	unanswered *unanswered

	written map[*running][]task.Written // of the last confirmed transaction

	stale    bool  // the client knows a topic that was deleted and made again
	broken   error // why the client cannot end its transaction, and is replaced
	open     bool  // BeginTransaction was called
	producer producer
	produced int // records given to the client in this transaction
	slabs    [][]pending
	promises *promises // of the records of client
	promise  func(*kgo.Record, error)
}

// producer is what brokers know the sender of a transaction by.
type producer struct {
	id    int64
	epoch int16
}

// pending is a record that the client has, with what is needed when the broker refuses it.
type pending struct {
	kgo.Record
	owner       *running
	causeTopic  string // of an output, as in host.Output
	causeOffset int64
	node        int
	log         bool // a changelog record
}

// The headers of an output go to the client as they lie: both types have the same fields.
var _ = kgo.RecordHeader(record.Header{})

// output is what the task has to know of an output that was refused.
func (p *pending) output() *host.Output {
	return &host.Output{Topic: p.Topic, CauseTopic: p.causeTopic, CauseOffset: p.causeOffset, Node: p.node}
}

const (
	slabRecords = 1024
	// heartbeatInterval is how soon a member learns of a rebalance.
	heartbeatInterval = 3 * time.Second
)

// newSession makes the client and fences the previous incarnation of the transactional id: its open transaction is aborted
// by the broker, and whatever it still sends is refused (R6).
func newSession(ctx context.Context, w *worker) (*session, error) {
	s := &session{w: w, group: w.app.plan.App, txnID: w.txnID, oldTxns: w.app.transactionVersion < 2}
	s.promises, s.unanswered = &promises{}, &unanswered{}
	s.promise = s.promises.kept // once: a method value for each record would be an allocation for each
	cfg := w.app.cfg
	opts := append(cfg.clientOptions("data"),
		kgo.TransactionalID(s.txnID),
		kgo.TransactionTimeout(cfg.TransactionTimeout),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerLinger(producerLinger),
		kgo.ProducerBatchMaxBytesFn(func(topic string) int32 { return int32(w.app.topics.MaxBytes(topic)) }),
		kgo.MaxBufferedRecords(maxBuffered),
		kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		// Without them the client goes past a marker and keeps the leader epoch of the record before it. After the next change
		// of leader it takes the marker, written in a newer epoch, for a part of the older one that was lost.
		kgo.KeepControlRecords(),
		kgo.FetchMaxWait(fetchWait), kgo.FetchMaxBytes(fetchBytes), kgo.FetchMaxPartitionBytes(fetchPartitionBytes),
	)
	if s.oldTxns {
		opts = append(opts, kgo.MaxVersions(oldTransactionVersions()), kgo.WithHooks(s.unanswered))
	}
	if err := w.at(step.Fence); err != nil {
		return nil, err
	}
	defer w.awaits("the producer id of " + s.txnID)()
	err := retry(ctx, "the producer id of "+s.txnID, func() error { return s.connect(ctx, opts) })
	if err != nil {
		return nil, fmt.Errorf("initialise transactional id %q: %w", s.txnID, err)
	}
	if err := w.after(step.Fence); err != nil {
		s.client.Close()
		return nil, err
	}
	return s, nil
}

// connect makes the client. Each try has a client of its own: one keeps the first error of its producer id for ever.
func (s *session) connect(ctx context.Context, opts []kgo.Opt) error {
	client, err := kgo.NewClient(opts...)
	if err != nil {
		return err
	}
	if _, _, err := client.ProducerID(ctx); err != nil {
		client.Close()
		return err
	}
	s.client = client
	return nil
}

const (
	// producerLinger lets batches fill inside a transaction; the flush at its end does not wait for it.
	producerLinger = 10 * time.Millisecond
	// maxBuffered is above what a transaction produces between two polls: a full buffer would block the worker.
	maxBuffered = 1 << 20
	// fetchWait is how long the broker holds a fetch without records. A partition that is added waits for the fetch under
	// way, so it bounds how soon a task starts.
	fetchWait           = 250 * time.Millisecond
	fetchBytes          = 8 << 20
	fetchPartitionBytes = 2 << 20
)

// oldTransactionVersions caps the requests whose newer versions mean KIP-890 part 2.
func oldTransactionVersions() *kversion.Versions {
	v := kversion.Stable()
	v.SetMaxKeyVersion(kmsg.TxnOffsetCommit.Int16(), 4)
	v.SetMaxKeyVersion(kmsg.EndTxn.Int16(), 4)
	return v
}

// begin opens the client's transaction; the broker's opens with the first record.
func (s *session) begin() error {
	if s.open {
		return nil
	}
	if err := s.client.BeginTransaction(); err != nil {
		return err
	}
	s.open = true
	s.promises.forget()
	var err error
	if s.producer, err = s.sender(s.w.ctx); err != nil {
		s.producer = producer{-1, -1} // as nobody: what it sends fails, or cannot be committed
	}
	return nil
}

// sender is under what the client sends now.
func (s *session) sender(ctx context.Context) (p producer, err error) {
	p.id, p.epoch, err = s.client.ProducerID(ctx)
	return p, err
}

// produceOutputs hands the outputs of completed records to the client.
func (s *session) produceOutputs(r *running) error {
	outputs := r.task.TakeOutputs()
	if len(outputs) == 0 {
		return nil
	}
	if err := s.w.at(step.ProduceOutputs); err != nil {
		return err
	}
	if err := s.begin(); err != nil {
		return err
	}
	for i := range outputs {
		o := &outputs[i]
		p := s.next()
		p.owner, p.log = r, false
		p.causeTopic, p.causeOffset, p.node = o.CauseTopic, o.CauseOffset, o.Node
		p.Record = kgo.Record{Topic: o.Topic, Partition: o.Partition, Key: o.Key, Value: o.Value, Timestamp: o.Timestamp, Headers: clientHeaders(o.Headers)}
		s.client.Produce(s.w.ctx, &p.Record, s.promise)
	}
	return s.w.after(step.ProduceOutputs)
}

// clientHeaders is the same memory under the client's name.
func clientHeaders(h []record.Header) []kgo.RecordHeader {
	return unsafe.Slice((*kgo.RecordHeader)(unsafe.Pointer(unsafe.SliceData(h))), len(h))
}

// taskHeaders is clientHeaders the other way.
func taskHeaders(h []kgo.RecordHeader) []record.Header {
	return unsafe.Slice((*record.Header)(unsafe.Pointer(unsafe.SliceData(h))), len(h))
}

// next returns the record to fill next, with what it held in an earlier transaction.
func (s *session) next() *pending {
	slab := s.produced / slabRecords
	if slab == len(s.slabs) {
		s.slabs = append(s.slabs, make([]pending, slabRecords))
	}
	p := &s.slabs[slab][s.produced%slabRecords]
	s.produced++
	return p
}

// failure returns the first failed promise, and the record of it.
func (s *session) failure() (*pending, error) {
	of, err := s.promises.failure()
	for i := 0; of != nil && i < s.produced; i++ {
		if p := &s.slabs[i/slabRecords][i%slabRecords]; &p.Record == of {
			return p, err
		}
	}
	return nil, err
}

// outcome of a commit.
type outcome uint8

const (
	committed outcome = iota
	rolledBack
	tasksLost
)

// commit makes the transaction of the dirty tasks true in Kafka and then in the state. An error ends the worker.
func (s *session) commit(ctx context.Context, dirty []*running) (outcome, error) {
	at := &s.w.timing
	at.begin()
	if s.w.lapsed() {
		return s.giveUp(ctx, dirty, errGivenUp)
	}
	written, err := s.seal(dirty)
	if err != nil {
		return rolledBack, err
	}
	at.lap(&at.phases.Changelog)
	if err := s.w.after(step.Seal); err != nil {
		return rolledBack, err
	}
	if err := s.w.at(step.Flush); err != nil {
		return rolledBack, err
	}
	flushErr := s.flush(ctx)
	at.lap(&at.phases.Flush)
	culprit, failed := s.failure()
	if s.broken == nil {
		s.locate(written)
		if err := lostEnds(written); err != nil {
			return rolledBack, err
		}
	}
	if flushErr != nil || failed != nil {
		return s.rollBack(ctx, dirty, errors.Join(failed, flushErr), culprit)
	}
	if err := s.w.after(step.Flush); err != nil {
		return rolledBack, err
	}
	if err := s.w.at(step.Reserve); err != nil {
		return rolledBack, err
	}
	if err := s.w.reserve(ctx, dirty); errors.Is(err, errCrowded) {
		return s.rollBack(ctx, dirty, err, nil)
	} else if err != nil {
		return rolledBack, err
	}
	if err := s.w.after(step.Reserve); err != nil {
		return rolledBack, err
	}
	if err := s.commitOffsets(ctx, dirty, written); step.Unwound(err) {
		return rolledBack, err
	} else if err != nil {
		if errors.Is(err, kerr.UnknownMemberID) {
			return s.giveUp(ctx, dirty, err)
		}
		return s.rollBack(ctx, dirty, err, nil)
	}
	at.lap(&at.phases.Offsets)
	if err := s.w.after(step.CommitOffsets); err != nil {
		return rolledBack, err
	}
	if err := s.w.at(step.EndTxn); err != nil {
		return rolledBack, err
	}
	if err := s.end(ctx); err != nil {
		return s.resolve(ctx, dirty, written, err)
	}
	if err := s.w.after(step.EndTxn); err != nil {
		return committed, err
	}
	return s.confirm(dirty, written)
}

// Why a client is replaced.
var (
	errOverdue = errors.New("the records were not sent within the transaction's time")
	// errBeganAnew: the broker refuses a batch, mostly because it has timed the transaction out. Where the topic has lost what the client wrote
	// to it before, as one has that is purged, the client (kgo 1.22.2, handleReqRespBatch) takes this for a broker that has forgotten it,
	// takes a new epoch in the middle of the transaction, which aborts what was sent so far, and sends the rest.
	errBeganAnew = errors.New("the client took a new producer epoch within the transaction: what it sent before is aborted")
)

// flush waits until every promise has come, at most for the transaction's time: after it the broker aborts. The client's own
// limit counts from a record's timestamp, which is that of the input, and would fail every retry for an old one.
//
// The client may never come to an end: before transaction.version 2, if the line breaks while one produce request is under way and the
// next one waits for a partition to be added to the transaction, it skips the batch of the first for ever. (In kgo 1.22.2, sink.go,
// undoStagedBatches moves the drain index forward, past a batch that the failed request has just put back.)
func (s *session) flush(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.w.app.cfg.TransactionTimeout)
	defer cancel()
	err := s.client.Flush(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		s.broken = errOverdue
	}
	return err
}

// end commits. While the coordinator answers that the transaction before has not ended the client asks without a bound; here it gives up
// after the transaction's time, and the outcome is unknown.
func (s *session) end(ctx context.Context) error {
	defer s.w.awaits("the commit of a transaction of " + s.txnID)()
	ctx, cancel := context.WithTimeout(ctx, s.w.app.cfg.TransactionTimeout)
	defer cancel()
	return s.endTransaction(ctx, kgo.TryCommit)
}

// unanswered counts requests of a transaction that may have reached the brokers and were not answered: those that would harm the next one.
// (A batch that comes twice is told by its sequence, and to add a partition twice does nothing.) It is a hook of the client, which calls
// these two before it gives the answer on; that a request has failed it may tell later than what became of the next try.
type unanswered struct{ n atomic.Int64 }

func (u *unanswered) harms(key int16) bool {
	return key == int16(kmsg.EndTxn) || key == int16(kmsg.TxnOffsetCommit)
}

// OnBrokerWrite implements kgo.HookBrokerWrite.
func (u *unanswered) OnBrokerWrite(_ kgo.BrokerMetadata, key int16, _ int, _, _ time.Duration, _ error) {
	if u.harms(key) {
		u.n.Add(1)
	}
}

// OnBrokerE2E implements kgo.HookBrokerE2E.
func (u *unanswered) OnBrokerE2E(_ kgo.BrokerMetadata, key int16, pair kgo.BrokerE2E) {
	if u.harms(key) && pair.Err() == nil {
		u.n.Add(-1)
	}
}

// errAskedAgain: the client asked again, and got an answer; what it asked first may still arrive.
var errAskedAgain = errors.New("a request was not answered and sent again: before transaction.version 2 the first one could hit the next transaction, which therefore has another epoch")

// endTransaction ends a transaction so that nothing which is under way can end the next one, or commit offsets in it. From
// transaction.version 2 on each transaction has an epoch of its own (KIP-890); before, one has the epoch of those before it, unless the
// producer is initialised.
func (s *session) endTransaction(ctx context.Context, how kgo.TransactionEndTry) error {
	if err := s.client.EndTransaction(ctx, how); err != nil {
		return err
	}
	if s.unanswered.n.Load() > 0 { // of this transaction: the client of an earlier one was replaced
		return errAskedAgain
	}
	return nil
}

// confirm applies a transaction that is known to be committed.
func (s *session) confirm(dirty []*running, written map[*running][]task.Written) (outcome, error) {
	if err := s.w.at(step.Confirmed); err != nil {
		return committed, err
	}
	s.w.timing.lap(&s.w.timing.phases.End)
	for _, r := range dirty {
		r.task.Confirm(written[r])
	}
	s.written = written
	s.reset()
	s.w.timing.lap(&s.w.timing.phases.Apply)
	return committed, s.w.at(step.Applied)
}

// reset forgets the records of a transaction that has ended.
func (s *session) reset() {
	if keep := s.w.app.cfg.CommitRecords/slabRecords + 1; len(s.slabs) > keep {
		s.slabs = s.slabs[:keep:keep]
	}
	s.open, s.produced = false, 0
	s.promises.forget()
}

// seal produces the changelogs of the dirty tasks. The returned places are filled in by locate.
func (s *session) seal(dirty []*running) (map[*running][]task.Written, error) {
	written := map[*running][]task.Written{}
	if err := s.w.at(step.Seal); err != nil {
		return nil, err
	}
	for _, r := range dirty {
		err := r.task.Seal(func(c task.ChangelogRecord) error {
			if err := s.begin(); err != nil {
				return err
			}
			p := s.next()
			p.owner, p.log = r, true
			p.Record = kgo.Record{Topic: c.Topic, Partition: c.Partition, Key: c.Key, Value: c.Value, Offset: -1}
			s.client.Produce(s.w.ctx, &p.Record, s.promise)
			return nil
		})
		if err != nil {
			return nil, err
		}
		written[r] = nil
	}
	if s.produced == 0 {
		return written, s.fill(dirty[0])
	}
	return written, nil
}

// fill puts one record into a transaction that would be empty: tasks without state whose records made no output. The client
// ends no transaction without a record, and a plain offset commit could arrive late and set positions back.
func (s *session) fill(r *running) error {
	if err := s.begin(); err != nil {
		return err
	}
	p := s.next()
	p.owner, p.log, p.causeTopic = r, false, ""
	p.Record = kgo.Record{Topic: s.w.app.plan.Fillers, Key: []byte(s.txnID), Value: []byte{}}
	s.client.Produce(s.w.ctx, &p.Record, s.promise)
	return nil
}

// locate notes where the changelog records landed that brokers have acknowledged.
func (s *session) locate(written map[*running][]task.Written) {
	for i := range s.produced {
		p := &s.slabs[i/slabRecords][i%slabRecords]
		if !p.log || p.Offset < 0 {
			continue
		}
		places, bytes := written[p.owner], uint64(len(p.Key)+len(p.Value))
		j := 0
		for j < len(places) && places[j].Topic != p.Topic {
			j++
		}
		if j == len(places) {
			_, epoch, err := s.client.PartitionLeader(p.Topic, p.Partition)
			if err != nil {
				epoch = -1
			}
			written[p.owner] = append(places, task.Written{Topic: p.Topic, TopicID: s.w.app.topics.info(p.Topic).id, First: p.Offset, Last: p.Offset, LeaderEpoch: epoch,
				Records: 1, Bytes: bytes})
			continue
		}
		places[j].Records++
		places[j].Bytes += bytes
		places[j].First, places[j].Last = min(places[j].First, p.Offset), max(places[j].Last, p.Offset)
	}
}
