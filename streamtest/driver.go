package streamtest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/oncemill/oncemill/internal/graph"
	"github.com/oncemill/oncemill/internal/host"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/internal/task"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/topology"
)

// TB is the part of testing.TB that a Driver needs.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
	Cleanup(func())
}

// Options configure a Driver. The zero value of a field is the default given.
type Options struct {
	// Partitions of the source and sink topics. Default 1.
	Partitions int32
	// Topics sets the number of partitions of single topics, and names topics that exist beside those of the topology:
	// the targets of topology.SinkTo.
	Topics map[string]int32
	// CommitEvery commits after that many records and timers. 0: only Commit commits.
	CommitEvery int
	// Start is the clock's first time. Default: 2024-01-01 00:00 UTC.
	Start time.Time
	// Disk makes an empty disk for the state; it is called once for each process that the driver plays. Default
	// MemoryDisk.
	Disk func() Disk
	// MemoryBudget, CheckpointRecords and CheckpointInterval are those of statestore.Config.
	MemoryBudget       int64
	CheckpointRecords  int
	CheckpointInterval time.Duration
	// MaxRecordBytes is the largest record that a topic takes. Default 1 MiB.
	MaxRecordBytes int
	// FutureSkew is how far a timestamp may lie ahead of the clock. Default one hour.
	FutureSkew time.Duration
	// RefuseSkew sends records with timestamps out of bounds to the decode failure policy; without it they count as records
	// of now, or of 1970 if they are negative.
	RefuseSkew bool
	// MaxTimers bounds the timers that fire after one record. Default 1000.
	MaxTimers int
	// Refuse plays a broker that refuses an output: it returns the error.
	Refuse func(topic string, r *record.Raw) error

	repeat *recording
}

// DefaultMaxRecordBytes is Kafka's default bound of a record.
const DefaultMaxRecordBytes = 1 << 20

func (o *Options) setDefaults() {
	if o.Partitions == 0 {
		o.Partitions = 1
	}
	if o.Start.IsZero() {
		o.Start = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	if o.Disk == nil {
		o.Disk = MemoryDisk
	}
	if o.MaxRecordBytes == 0 {
		o.MaxRecordBytes = DefaultMaxRecordBytes
	}
}

// Driver runs a topology on virtual topics and a virtual clock. It is used by one goroutine.
//
// A driver made by New fails its test when something goes wrong. One made by Open keeps the first error for Err, and does
// nothing after it.
type Driver struct {
	tb     TB // nil after Open
	opts   Options
	plan   *graph.Plan
	err    error
	closed bool

	clock  atomic.Int64 // nanoseconds since 1970; the store's writer reads it too
	topics topics
	order  uint64

	processes []*process
	slots     []*slot // by sub-topology, then partition

	// The open transaction.
	pending []pending
	open    int // records and timers in it
	// rerunning says that a transaction is run a second time, so that CommitEvery must not end it.
	rerunning bool

	waits   []time.Duration
	picture *picture // of Repeat
}

// process is one process of the application: it has a disk and a store.
type process struct {
	disk  Disk
	db    *statestore.DB
	power *power
}

// slot is the place of one task.
type slot struct {
	id        statestore.TaskID
	sub       *graph.SubTopology
	partition int32
	process   int
	task      *task.Task
	state     *statestore.Task // nil for a sub-topology without stores
	// group is what the consumer group knows of the task: the checkpoint committed with its offsets, and the metadata.
	group    statestore.Checkpoint
	metadata string
	stats    Stats
}

// pending is an output of the open transaction.
type pending struct {
	output host.Output
	raw    record.Raw
	slot   *slot
}

// New makes a driver that fails t when something goes wrong, and that is closed with it.
func New(t TB, topo *topology.Topology, o Options) *Driver {
	t.Helper()
	d, err := Open(topo, o)
	if err != nil {
		t.Fatalf("streamtest: %v", err)
		return nil
	}
	d.tb = t
	t.Cleanup(func() {
		t.Helper()
		d.Close()
	})
	return d
}

// Open makes a driver outside of a test. The caller closes it, and looks at Err.
func Open(topo *topology.Topology, o Options) (*Driver, error) {
	o.setDefaults()
	plan, err := topo.Build()
	if err != nil {
		return nil, err
	}
	d := &Driver{opts: o, plan: plan, topics: topics{byName: map[string]*topic{}, maxBytes: o.MaxRecordBytes}}
	d.clock.Store(o.Start.UnixNano())
	if err := d.makeTopics(); err != nil {
		return nil, err
	}
	for range 2 { // the second is where Move moves to
		d.processes = append(d.processes, &process{disk: o.Disk()})
	}
	if err := d.openAll(); err != nil {
		return nil, errors.Join(err, d.shutdown())
	}
	if o.repeat != nil {
		o.repeat.drivers = append(o.repeat.drivers, d)
	}
	return d, nil
}

func (d *Driver) makeTopics() error {
	counts := map[string]int32{}
	count := func(name string, otherwise int32) int32 {
		if n := d.opts.Topics[name]; n > 0 {
			return n
		}
		return otherwise
	}
	for _, name := range d.plan.Sources() {
		counts[name] = count(name, d.opts.Partitions)
	}
	bySub := d.plan.Partitions(counts)
	for _, in := range d.plan.Internal {
		switch {
		case in.Sub < 0:
			counts[in.Name] = count(in.Name, 1)
		case in.Partitions > 0:
			counts[in.Name] = in.Partitions
		default:
			counts[in.Name] = bySub[in.Sub]
		}
	}
	for _, name := range append(d.plan.Sinks(), slices.Sorted(maps.Keys(d.opts.Topics))...) {
		if counts[name] == 0 {
			counts[name] = count(name, d.opts.Partitions)
		}
	}
	for name, n := range counts {
		d.topics.byName[name] = newTopic(name, n)
	}
	for _, s := range d.plan.Subs {
		for _, in := range s.Inputs {
			if counts[in.Topic] != bySub[s.Index] {
				return problem.New(problem.NotCopartitioned, fmt.Sprintf("sub-topology %q", s.Name),
					"topic %q has %d partitions, others of its inputs have %d", in.Topic, counts[in.Topic], bySub[s.Index])
			}
		}
		for p := range bySub[s.Index] {
			d.slots = append(d.slots, &slot{id: statestore.TaskID{SubTopology: s.Name, Partition: p}, sub: s, partition: p})
		}
	}
	return nil
}

// Err is the first error of a driver made by Open.
func (d *Driver) Err() error { return d.err }

// Now is the driver's clock.
func (d *Driver) Now() time.Time { return time.Unix(0, d.clock.Load()).UTC() }

// fail ends the test, or remembers the first error.
func (d *Driver) fail(err error) {
	if err == nil {
		return
	}
	if d.tb != nil {
		d.tb.Helper()
		d.tb.Fatalf("streamtest: %v", err)
	}
	if d.err == nil {
		d.err = err
	}
}

func (d *Driver) failf(format string, args ...any) {
	if d.tb != nil {
		d.tb.Helper()
	}
	d.fail(fmt.Errorf(format, args...))
}

// Close aborts the open transaction, checks that the state equals the changelogs, and closes the stores.
func (d *Driver) Close() {
	if d.closed {
		return
	}
	if d.err == nil {
		d.abort()
		d.fail(d.checkState())
	}
	if d.opts.repeat != nil && d.err == nil {
		d.remember()
	}
	d.closed = true
	d.fail(d.shutdown())
}

// openAll opens the stores and the tasks of all processes.
func (d *Driver) openAll() error {
	for _, p := range d.processes {
		if err := d.openStore(p); err != nil {
			return err
		}
	}
	for _, s := range d.slots {
		if err := d.start(s); err != nil {
			return err
		}
	}
	return nil
}

func (d *Driver) openStore(p *process) error {
	engine, err := p.disk.Open()
	if err != nil {
		return err
	}
	p.power = &power{Engine: engine}
	p.db, err = statestore.Open(statestore.Config{
		Engine: p.power, MemoryBudget: d.opts.MemoryBudget, CheckpointRecords: d.opts.CheckpointRecords,
		CheckpointInterval: d.opts.CheckpointInterval, Now: d.Now, After: elapsed,
	})
	return err
}

// elapsed plays time.After on a clock that only the test advances: the wait is over at once.
func elapsed(time.Duration) <-chan time.Time {
	c := make(chan time.Time, 1)
	c <- time.Time{}
	return c
}

// shutdown stops everything as a crash of all processes does: what was not checkpointed is lost with the memory.
func (d *Driver) shutdown() error {
	var errs []error
	for _, p := range d.processes {
		if p.power != nil {
			p.power.off.Store(true)
		}
	}
	for _, s := range d.slots {
		errs = append(errs, s.stop())
	}
	for _, p := range d.processes {
		if p.db == nil {
			continue
		}
		if err := p.db.Close(context.Background()); !errors.Is(err, errPowerOff) {
			errs = append(errs, err)
		}
		p.db, p.power = nil, nil
	}
	return errors.Join(errs...)
}

// stop closes the task of the slot and gives its state up.
func (s *slot) stop() error {
	var err error
	if s.task != nil {
		s.stats.add(s.task.TakeStats())
		err = s.task.Close()
	}
	if s.state != nil {
		s.state.Release()
	}
	s.task, s.state = nil, nil
	return err
}
