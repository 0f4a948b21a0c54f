// Package rawloop is the loop that one would write by hand with franz-go: consume, produce, commit in transactions. It has
// no state, no deduplication and no failure policy, and so does less per record than any application. It is what the workloads
// are measured against. It is not the bound: with Config.Recycle the same loop is faster.
//
// It is tuned: a linger, large batches, large buffers, no compression. Its outputs carry headers of the same names and sizes
// as those of an application, with an id that costs nothing to make. With Config.Recycle it also uses the memory of its
// records again, which nobody does by hand, because it is only safe between transactions.
package rawloop

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/record"
)

// Config of the loop. All fields are required.
type Config struct {
	Brokers []string
	// Group is the consumer group, and the transactional id.
	Group          string
	Input, Output  string
	CommitInterval time.Duration
	// Recycle uses the memory of output records again from transaction to transaction.
	Recycle bool
	// Committed is told the number of records of each committed transaction.
	Committed func(records int64)
}

const (
	linger = 10 * time.Millisecond
	// maxBuffered is more than what one transaction produces.
	maxBuffered         = 1 << 20
	pollRecords         = 8192
	fetchBytes          = 16 << 20
	fetchPartitionBytes = 4 << 20
	transactionTimeout  = 10 * time.Second
)

// Run runs the loop until ctx ends, or until an error.
func Run(ctx context.Context, cfg Config) error {
	session, err := kgo.NewGroupTransactSession(
		kgo.SeedBrokers(cfg.Brokers...), kgo.ConsumerGroup(cfg.Group), kgo.TransactionalID(cfg.Group),
		kgo.ConsumeTopics(cfg.Input), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DefaultProduceTopic(cfg.Output),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.FetchMaxBytes(fetchBytes), kgo.FetchMaxPartitionBytes(fetchPartitionBytes),
		kgo.ProducerLinger(linger), kgo.MaxBufferedRecords(maxBuffered),
		kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.TransactionTimeout(transactionTimeout),
		kgo.DisableClientMetrics(),
	)
	if err != nil {
		return err
	}
	defer session.Close()
	l := &loop{cfg: cfg, session: session}
	l.promise = l.promised
	for ctx.Err() == nil {
		if err := l.transaction(ctx); err != nil {
			return err
		}
	}
	return nil
}

type loop struct {
	cfg     Config
	session *kgo.GroupTransactSession
	used    int                      // records of this transaction
	slabs   [][]output               // of Recycle
	promise func(*kgo.Record, error) // made once, not for each record

	mu     sync.Mutex
	failed error // of a promise
}

// output is a record with the memory of its headers.
type output struct {
	kgo.Record
	headers [2]kgo.RecordHeader
	id      [32]byte
	cause   [64]byte
}

const slabRecords = 1024

func (l *loop) transaction(ctx context.Context) error {
	if err := l.session.Begin(); err != nil {
		return err
	}
	l.used = 0
	pollCtx, cancel := context.WithTimeout(ctx, l.cfg.CommitInterval)
	defer cancel()
	for pollCtx.Err() == nil {
		fetches := l.session.PollRecords(pollCtx, pollRecords)
		for _, e := range fetches.Errors() {
			if !errors.Is(e.Err, context.DeadlineExceeded) && !errors.Is(e.Err, context.Canceled) {
				return fmt.Errorf("fetch %s/%d: %w", e.Topic, e.Partition, e.Err)
			}
		}
		fetches.EachRecord(l.forward)
	}
	// The outcome has to be known even when ctx has ended.
	end := context.WithoutCancel(ctx)
	if err := l.session.Client().Flush(end); err != nil {
		return err
	}
	l.mu.Lock()
	failed := l.failed
	l.failed = nil
	l.mu.Unlock()
	committed, err := l.session.End(end, kgo.TransactionEndTry(failed == nil))
	if err != nil || failed != nil {
		return errors.Join(failed, err)
	}
	if committed {
		l.cfg.Committed(int64(l.used))
	}
	return nil
}

func (l *loop) forward(in *kgo.Record) {
	l.used++
	if l.cfg.Recycle {
		l.forwardRecycled(in)
		return
	}
	l.session.Produce(context.Background(), &kgo.Record{Key: in.Key, Value: in.Value, Timestamp: in.Timestamp, Headers: []kgo.RecordHeader{
		{Key: record.HeaderID, Value: appendID(make([]byte, 0, 32), in)},
		{Key: record.HeaderCause, Value: appendCause(make([]byte, 0, len(in.Topic)+16), in)},
	}}, l.promise)
}

func (l *loop) forwardRecycled(in *kgo.Record) {
	at := l.used - 1
	if at == len(l.slabs)*slabRecords {
		l.slabs = append(l.slabs, make([]output, slabRecords))
	}
	o := &l.slabs[at/slabRecords][at%slabRecords]
	o.headers = [2]kgo.RecordHeader{{Key: record.HeaderID, Value: appendID(o.id[:0], in)},
		{Key: record.HeaderCause, Value: appendCause(o.cause[:0], in)}}
	o.Record = kgo.Record{Key: in.Key, Value: in.Value, Timestamp: in.Timestamp, Headers: o.headers[:]}
	l.session.Produce(context.Background(), &o.Record, l.promise)
}

// appendID is unique, and no hash: it holds the position.
func appendID(dst []byte, in *kgo.Record) []byte {
	var number [16]byte
	binary.BigEndian.PutUint32(number[4:], uint32(in.Partition))
	binary.BigEndian.PutUint64(number[8:], uint64(in.Offset))
	return hex.AppendEncode(dst, number[:])
}

func appendCause(dst []byte, in *kgo.Record) []byte {
	dst = append(append(dst, in.Topic...), '/')
	dst = append(strconv.AppendInt(dst, int64(in.Partition), 10), '@')
	return strconv.AppendInt(dst, in.Offset, 10)
}

func (l *loop) promised(_ *kgo.Record, err error) {
	if err == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failed = errors.Join(l.failed, err)
}
