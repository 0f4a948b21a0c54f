package lines

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/internal/dedupstage"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/metrics"
)

// run is one run: three workers beside each other, feeder, engine and printer. The feeder ends with the input, then the
// printer with what the engine has made of it, then the engine is stopped.
type run struct {
	c       Config
	brokers []string
	client  *kgo.Client
	admin   *kadm.Client
	in      *reader
	feeder  *feeder
	printer *printer
	result  Result

	column    int // of CSV
	deadStart int64
	before    *earlier
	committed chan struct{} // something was committed
	mu        sync.Mutex    // guards result.Duplicates
}

// newRun reads the header row and the position.
func newRun(c Config, brokers []string) (*run, error) {
	r := &run{c: c, brokers: brokers, in: newReader(c.In, c.Format, c.MaxRecordBytes), committed: make(chan struct{}, 1)}
	pos, err := loadPosition(c.Dir)
	if err != nil {
		return nil, err
	}
	if err := r.readHeader(&pos); err != nil {
		return nil, err
	}
	tail, known := pos.written()
	r.result.InDoubt = !known
	if len(tail) > 0 {
		r.result.Torn = pos.File
	}
	r.client, err = kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.DisableClientMetrics(),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(5*time.Millisecond),
		kgo.ProducerBatchMaxBytes(int32(c.MaxRecordBytes+recordRoom)), kgo.MaxBufferedRecords(maxBuffered), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		return nil, err
	}
	r.admin = kadm.NewClient(r.client)
	r.before = &earlier{records: map[digest]string{}}
	r.feeder = &feeder{client: r.client, in: r.in, read: c.Read, before: r.before}
	if c.Format == CSV {
		r.feeder.header = r.in.passed
	}
	r.printer = newPrinter(c.Dir, c.Out, pos, tail)
	return r, nil
}

// maxBuffered bounds what the feeder is ahead of the broker.
const maxBuffered = 50_000

// recordRoom is what a record may grow by on its way through the topics, and the least that the engine takes for an output.
const recordRoom = 16 << 10

func (r *run) close() { r.client.Close() }

// letterRoom is more than the headers of a dead letter add to a record.
const letterRoom = 64 << 10

// makeRoom lets the topics take the longest record. The dead letters' one is there if a run before made it; the engine makes a
// new one large enough.
func (r *run) makeRoom(ctx context.Context) error {
	if r.c.MaxRecordBytes <= DefaultMaxRecordBytes {
		return nil
	}
	alter := func(bytes int, topics ...string) error {
		size := strconv.Itoa(bytes)
		altered, err := r.admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "max.message.bytes", Value: &size}}, topics...)
		for _, a := range altered {
			err = errors.Join(err, a.Err)
		}
		return err
	}
	if err := alter(r.c.MaxRecordBytes+recordRoom+letterRoom, topicDead); err != nil && !errors.Is(err, kerr.UnknownTopicOrPartition) {
		return err
	}
	return alter(r.c.MaxRecordBytes+recordRoom, topicIn, topicOut)
}

// readHeader reads the header row of a CSV input. It has to be that of the runs before: else columns would be mixed up.
func (r *run) readHeader(pos *position) error {
	if r.c.Format != CSV {
		return nil
	}
	row, err := r.in.next()
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the header row: %w", err)
	}
	if err == nil {
		if before := pos.Header; before != "" && before != string(row) {
			return problem.New(problem.ConfigInvalid, "header row", "it is %q, that of the runs before with this directory was %q", row, before).
				WithCure("use a directory for each kind of file")
		}
		pos.Header = string(row)
	}
	if r.c.Column == "" || pos.Header == "" {
		return nil
	}
	if r.column, err = columnOf([]byte(pos.Header), r.c.Column); err != nil {
		return problem.Wrap(problem.ConfigInvalid, "--id column:"+r.c.Column, err)
	}
	return nil
}

func (r *run) application() (*oncemill.App, error) {
	id := r.c.ID
	if r.c.Column != "" {
		id = dedupstage.FuncID("column:"+r.c.Column, func(record []byte) ([]byte, error) {
			v, _, err := field(record, r.column)
			if len(v) == 0 {
				v = nil // CSV cannot tell an empty field from none
			}
			return v, err
		})
	}
	return oncemill.New(oncemill.Config{
		Brokers: r.brokers, StateDir: filepath.Join(r.c.Dir, engineDir), InstanceID: app, Logger: r.c.Logger,
		Topology: dedupstage.New(dedupstage.Config{App: app, From: topicIn, To: topicOut, ID: id, Window: r.c.Window,
			IgnoreConflicts: r.c.IgnoreConflicts, AllowNullKeys: true}),
		MaxRecordBytes: r.c.MaxRecordBytes + recordRoom, Listener: metrics.Listener{TaskCommitted: r.taskCommitted},
	})
}

func (r *run) taskCommitted(e metrics.TaskCommit) {
	r.mu.Lock()
	for _, v := range e.Verdicts {
		if v.Verdict == dedup.Duplicate.String() {
			r.result.Duplicates += int64(v.Count)
		}
	}
	r.mu.Unlock()
	for _, t := range e.Consumed {
		r.c.Processed(int64(t.Records))
	}
	select {
	case r.committed <- struct{}{}:
	default:
	}
}

// do runs the three beside each other. The first error stops the others.
func (r *run) do(ctx context.Context) error {
	engine, err := r.application()
	if err != nil {
		return err
	}
	if r.deadStart, err = endOf(ctx, r.admin, topicDead, false); err != nil {
		return err
	}
	if err := r.makeRoom(ctx); err != nil {
		return err
	}
	if err := r.readEarlier(ctx); err != nil {
		return err
	}
	printed, err := endOf(ctx, r.admin, topicOut, true)
	if err != nil {
		return err
	}
	r.result.InDoubt = r.result.InDoubt && printed > r.printer.pos.Next
	if err := r.printer.pos.save(r.c.Dir); err != nil { // from here on the run is not clean
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var work sync.WaitGroup
	var errs [2]error
	fail := func(err error) {
		if err != nil {
			cancel(err)
		}
	}
	stopEngine, stop := context.WithCancel(ctx)
	defer stop()
	work.Go(func() {
		errs[0] = engine.Run(stopEngine)
		switch stopped := stopEngine.Err() != nil; {
		case stopped && errors.Is(errs[0], context.Canceled):
			errs[0] = nil // there was so little to do that it had not started yet
		case !stopped && errs[0] == nil:
			errs[0] = errors.New("the engine ended by itself")
		}
		fail(errs[0])
	})
	target := make(chan int64, 1)
	work.Go(func() {
		errs[1] = r.print(ctx, target)
		fail(errs[1])
		stop()
	})
	fed := make(chan error, 1)
	go func() { fed <- r.feed(ctx, target) }() // a read of the input cannot be interrupted: nobody waits for it after ctx
	select {
	case err = <-fed:
		fail(err)
	case <-ctx.Done():
	}
	work.Wait()
	r.result.Read, r.result.Printed = r.feeder.count.Load()+r.feeder.unsent, r.printer.printed
	if !r.printer.torn {
		r.result.Torn = ""
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause // the first of the errors, or the interrupt
	}
	return errors.Join(err, errs[0], errs[1])
}

func (r *run) print(ctx context.Context, target <-chan int64) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(r.brokers...), kgo.DisableClientMetrics(), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), kgo.FetchMaxWait(100*time.Millisecond), kgo.FetchMaxPartitionBytes(4<<20),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topicOut: {0: kgo.NewOffset().At(r.printer.next)}}))
	if err != nil {
		return err
	}
	defer client.Close()
	return r.printer.run(ctx, client, target)
}

// feed sends the input, waits until all of it is processed, and tells the printer where its output ends.
func (r *run) feed(ctx context.Context, target chan<- int64) error {
	if err := r.feeder.run(ctx); err != nil {
		return err
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	last, err := endOf(ctx, r.admin, topicIn, false)
	if err != nil {
		return err
	}
	for {
		at, err := r.position(ctx)
		if err != nil {
			return err
		}
		if at >= last {
			break
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-r.committed:
		case <-time.After(lookAgain):
		}
	}
	end, err := endOf(ctx, r.admin, topicOut, true)
	if err == nil {
		target <- end
	}
	return err
}

// lookAgain is how soon the position is looked at without a word from the engine.
const lookAgain = 200 * time.Millisecond

// endOf is the end of the one partition of a topic; 0 if there is no such topic yet, which a client then believes for a while.
func endOf(ctx context.Context, admin *kadm.Client, topic string, committed bool) (int64, error) {
	list := admin.ListEndOffsets
	if committed {
		list = admin.ListCommittedOffsets
	}
	offsets, err := list(ctx, topic)
	if err != nil {
		return 0, err
	}
	o, ok := offsets.Lookup(topic, 0)
	if !ok || errors.Is(o.Err, kerr.UnknownTopicOrPartition) {
		return 0, nil
	}
	return o.Offset, o.Err
}

// position is how much of the input is processed and committed.
func (r *run) position(ctx context.Context) (int64, error) {
	offsets, err := r.admin.FetchOffsets(ctx, app)
	if errors.Is(err, kerr.GroupIDNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	o, ok := offsets.Lookup(topicIn, 0)
	if !ok {
		return 0, nil
	}
	return max(o.At, 0), o.Err
}
