// Package task is the pure core: what one record does to one task. It has no Kafka client, no goroutine, no lock, no clock of
// its own and no log; the worker and the test driver call it alike.
//
// The way of a record (see docs/DESIGN.md):
//
//	Step   position check -> timestamp bounds -> mark -> dedup verdict -> decode and walk the graph
//	       -> success: marker, stream time, position, due stream-time timers
//	       -> failure: roll back to the mark, failure policy
//	Seal   the transaction's changelog records and its checkpoint record
//	Confirm or Abort, once its outcome is known
package task

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/internal/graph"
	"github.com/oncemill/oncemill/internal/host"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/statestore"
)

// Topics answers what the core has to know about output topics.
type Topics interface {
	// Partitions returns the number of partitions, or an error with the cure when the topic does not exist.
	Partitions(topic string) (int32, error)
	// MaxBytes is the largest record that the topic takes.
	MaxBytes(topic string) int
}

// Config is what a task is made of.
type Config struct {
	Plan      *graph.Plan
	Sub       *graph.SubTopology
	Partition int32
	// State is nil for a sub-topology without stores.
	State  *statestore.Task
	Topics Topics
	// TopicIDs of the inputs, in their order.
	TopicIDs [][16]byte
	// StateHash of the sub-topology's fingerprint, for the metadata.
	StateHash [8]byte
	// Wait lets d pass between attempts of RetryInPlace; it returns false when the task has to end.
	Wait func(d time.Duration) bool
	// Now is read between attempts of RetryInPlace and for timers.
	Now func() time.Time
	// Skew bounds timestamps.
	Skew Skew
	// OnOutcome, if set, is told what became of a record or timer that failed.
	OnOutcome func(Outcome)
	// OnTiming, if set, is told how long nodes and stores took for one record of SampleEvery.
	OnTiming func(Timing)
	// MaxTimers bounds the timers that fire after one record, and in one call of FireTimers. Default 1000.
	MaxTimers int
	// TimersTime bounds one call of FireTimers, by Now; 0 is no bound.
	TimersTime time.Duration
}

// DefaultMaxTimers bounds the timers of one step.
const DefaultMaxTimers = 1000

// Task is one task. It belongs to one goroutine.
type Task struct {
	cfg      Config
	id       statestore.TaskID
	instance *graph.Instance
	sources  []source // by input
	state    *statestore.Task
	timers   *timers // nil without a timer store
	parked   *parked // nil without a parked store
	taskView *statestore.View

	committed statestore.Checkpoint // as of the last confirmed transaction
	sealed    statestore.Checkpoint // of the transaction whose outcome is open
	sealedAs  uint64                // of the sealed transaction; see Metadata
	logs      []statestore.LogPosition
	buckets   []statestore.BucketStart

	start   []int64 // by input: where the task starts when no transaction committed a position, or a skip was accepted
	next    []int64 // by input: the position, uncommitted steps included
	epochs  []int32
	now     progress
	mark    progress
	dirty   bool
	steps   int
	outputs []host.Output // of the open transaction, not yet taken by the shell
	outMark int
	memory  memory
	to      destination    // of the output before
	slots   [][]dedup.Slot // by node and number

	refused map[refusedWork]*refusal
	firings []*firing // timers that ran in the open transaction

	current message
	node    *host.Node
	failed  *host.Failure
	clock   time.Time // wall clock of the step
	probe   probe

	// Stats counts since the last call of TakeStats.
	Stats Stats
}

// source is one input with its port and its guard.
type source struct {
	index  int
	input  graph.Input
	node   *graph.Node
	port   host.SourcePort
	guard  *dedup.Guard
	store  *statestore.Declaration // of the markers
	origin dedup.Origin
	place  struct { // of the record before
		dedup.Place
		of        [16]byte
		partition int32
		known     bool
	}
}

// New makes a task at a checkpoint. The zero checkpoint with positions is that of a task that has never run.
func New(cfg Config, at statestore.Position) (*Task, error) {
	if cfg.MaxTimers == 0 {
		cfg.MaxTimers = DefaultMaxTimers
	}
	if cfg.Skew.Future == 0 {
		cfg.Skew.Future = DefaultFuture
	}
	t := &Task{cfg: cfg, id: statestore.TaskID{SubTopology: cfg.Sub.Name, Partition: cfg.Partition}, state: cfg.State,
		committed: at.Checkpoint, logs: at.Logs, buckets: at.Buckets}
	var err error
	if t.instance, err = cfg.Plan.Instantiate(cfg.Sub, t, t.id.String()); err != nil {
		return nil, err
	}
	t.openStores()
	for _, in := range cfg.Sub.Inputs {
		if err := t.addSource(in); err != nil {
			return nil, err
		}
	}
	t.start, t.next, t.epochs = make([]int64, len(t.sources)), make([]int64, len(t.sources)), make([]int32, len(t.sources))
	t.rewind()
	t.resetStats()
	return t, nil
}

func (t *Task) openStores() {
	if t.state == nil {
		return
	}
	for _, st := range t.cfg.Sub.Stores {
		view := t.state.View(st.Declaration)
		view.MaxBytes = t.cfg.Topics.MaxBytes(st.Changelog) - recordOverhead
		switch st.Kind {
		case statestore.KindTask:
			t.taskView = view
		case statestore.KindTimers:
			t.timers = newTimers(t, view)
		case statestore.KindParked:
			t.parked = &parked{task: t, view: view, decl: st.Declaration, ordered: t.keeper() != nil, count: newTally('p')}
		}
	}
	if t.timers == nil {
		return
	}
	for _, i := range t.cfg.Sub.Nodes {
		for _, d := range t.cfg.Plan.Nodes[i].TimerStores {
			t.state.View(d).OnDelete = func(key []byte) error { return t.timers.cancelAll(d, key) }
		}
	}
}

func (t *Task) addSource(in graph.Input) error {
	n := t.cfg.Plan.Nodes[in.Source]
	s := source{input: in, node: n, port: t.instance.Sources[in.Source]}
	if in.Replay {
		s.origin = dedup.FromReplay
	}
	if n.Dedup != nil {
		for i := range t.sources { // a source and its replay topic share one guard
			if t.sources[i].node == n {
				s.guard, s.store = t.sources[i].guard, t.sources[i].store
			}
		}
		if s.guard == nil {
			s.store = t.cfg.Sub.ByKind(statestore.KindMarkers, n.Index).Declaration
			guard, err := dedup.NewGuard(*n.Dedup, t.cfg.Plan.App, n.Name, t.state.View(s.store))
			if err != nil {
				return err
			}
			s.guard = guard
		}
	}
	s.index = len(t.sources)
	t.sources = append(t.sources, s)
	return nil
}

// rewind sets everything volatile to the last confirmed transaction.
func (t *Task) rewind() {
	t.now = progress{streamTime: t.committed.StreamTime, markerTime: t.committed.MarkerTime, sequence: t.committed.Sequence}
	if t.committed.N == 0 {
		t.now.streamTime, t.now.markerTime = statestore.MinStreamTime, statestore.MinStreamTime
	}
	t.now.markerTime = max(t.now.markerTime, t.now.streamTime) // there is none where there was no store
	for i := range t.next {
		t.next[i], t.epochs[i] = 0, -1
		for _, in := range t.committed.Inputs {
			// A topic that was deleted and created again has the name, but not the positions (S48).
			if in.Topic == t.sources[i].input.Topic && in.TopicID == t.cfg.TopicIDs[i] {
				t.next[i], t.epochs[i] = in.Next, in.LeaderEpoch
			}
		}
		t.skip(i)
	}
	t.dirty, t.steps, t.outputs, t.outMark = false, 0, t.outputs[:0], 0
	t.forgetFirings()
	t.failed, t.node = nil, nil
	if t.timers != nil {
		t.timers.abort()
	}
	if t.parked != nil {
		t.parked.count.abort()
		t.parked.floors.forget()
	}
}

// ID is the task's id.
func (t *Task) ID() statestore.TaskID { return t.id }

// N is the number of the last confirmed transaction.
func (t *Task) N() uint64 { return t.committed.N }

// Next is the position in an input: the offset of the next record to process, open transaction included.
func (t *Task) Next(input int) int64 { return t.next[input] }

// StartAt raises the position in an input: of one that no transaction has committed yet, or beyond a skip that was accepted
// on purpose.
func (t *Task) StartAt(input int, offset int64) {
	t.start[input] = offset
	t.skip(input)
}

// skip goes on to where an input starts. The leader epoch of what lies before it is not known.
func (t *Task) skip(input int) {
	if t.start[input] > t.next[input] {
		t.next[input], t.epochs[input] = t.start[input], -1
	}
}

// LeaderEpoch is that of the record before Next, -1 when it is not known.
func (t *Task) LeaderEpoch(input int) int32 { return t.epochs[input] }

// Inputs are the topics of the task, in the order that Step counts them.
func (t *Task) Inputs() []graph.Input { return t.cfg.Sub.Inputs }

// Dirty reports that the open transaction holds something of this task to commit.
func (t *Task) Dirty() bool { return t.dirty }

// Steps is the number of records and timers in the open transaction.
func (t *Task) Steps() int { return t.steps }

// State is the task's state, nil for a task without stores.
func (t *Task) State() *statestore.Task { return t.state }

// StreamTime is the task's stream time, open transaction included.
func (t *Task) StreamTimeMillis() int64 { return t.now.streamTime }

// Close closes the processors. It does not release the state.
func (t *Task) Close() error {
	var errs []error
	for _, c := range t.instance.Close {
		errs = append(errs, c())
	}
	return errors.Join(errs...)
}

// Step processes one record. An error ends the task: a policy said stop, or the state failed. Everything that is not fatal
// is settled inside. The raw record and its bytes must stay unchanged until the transaction has ended.
func (t *Task) Step(input int, raw *record.Raw, now time.Time) error {
	before := t.steps
	if err := t.StepOnly(input, raw, now); err != nil || t.steps == before {
		return err
	}
	return t.fireStreamTimers()
}

// StepOnly is Step without the timers that the record makes due: FireOne runs each of them as a step of its own.
func (t *Task) StepOnly(input int, raw *record.Raw, now time.Time) error {
	s := &t.sources[input]
	t.clock = now
	t.consumed(input, raw)
	if raw.Offset < t.next[input] {
		t.judged(s, dedup.Redelivery)
		return nil
	}
	t.dirty = true
	t.steps++
	t.startSample()
	err := t.admit(s, raw)
	if t.probe.on {
		t.endSample()
	}
	if err != nil {
		return err
	}
	t.next[input], t.epochs[input] = raw.Offset+1, raw.LeaderEpoch
	return nil
}

// admit runs a record that the position check let through.
func (t *Task) admit(s *source, raw *record.Raw) error {
	t.begin(s, raw)
	// Before the verdict, which a timestamp from the far future must not vouch for, and which may refer to the bytes of a marker: a mark
	// may move what is written.
	refused := t.boundTimestamp(s, raw)
	t.setMark()
	d, err := t.check(s, t.current.raw, s.origin)
	if err != nil {
		return err
	}
	if refused != nil && d.Action == dedup.Run {
		t.current.raw = raw // a dead letter is unchanged
		return t.settle(s, d, refused, noRetries)
	}
	if d.Action == dedup.Run && t.parked != nil {
		if waits, err := t.parked.waitBehind(s, d, raw); waits || err != nil {
			return err
		}
	}
	return t.act(s, d, 0)
}

// noRetries is a number of attempts that no policy allows: what failed would fail again.
const noRetries = math.MaxInt

// act does what the verdict says. attempts counts the failed runs before.
func (t *Task) act(s *source, d dedup.Decision, attempts int) error {
	switch d.Action {
	case dedup.Drop:
		return nil
	case dedup.Replay:
		if failure := t.refusal(); failure != nil {
			return t.settleReplay(s, &d, failure)
		}
		return t.replayOutputs(&d)
	case dedup.Quarantine:
		return t.quarantine(s, d)
	case dedup.Halt:
		t.decided(&host.Failure{Phase: host.PhaseDedup, Err: d.Reason}, s.node.Name, processor.ActionStop)
		return fmt.Errorf("%s: %w", t.current.place(), d.Reason)
	}
	return t.attempt(s, d, attempts)
}

// check asks the guard, and names the message.
func (t *Task) check(s *source, raw *record.Raw, origin dedup.Origin) (dedup.Decision, error) {
	if s.guard == nil {
		return dedup.Decision{Verdict: dedup.New, Action: dedup.Run}, nil
	}
	d, err := s.guard.Check(raw, origin, t.now.markerTime)
	if err != nil {
		return d, err
	}
	t.judged(s, d.Verdict)
	t.current.identify(&d)
	return d, nil
}

// attempt runs the graph on the current record, and settles its failure. attempts counts the failed runs before.
func (t *Task) attempt(s *source, d dedup.Decision, attempts int) error {
	t.setMark()
	failure := t.refusal()
	if failure == nil {
		failure = t.call(func() error { return s.port(t.current.raw) })
	}
	if failure != nil {
		if fatal := fatalCause(failure); fatal != nil {
			return fatal
		}
		return t.settle(s, d, failure, attempts)
	}
	if err := t.conclude(s, &d, dedup.Applied); err != nil {
		if code := problem.CodeOf(err); code == problem.OutputTooLarge || code == problem.StateTooLarge { // a marker that records outputs
			return t.settle(s, d, &host.Failure{Phase: host.PhaseEncode, Node: s.node.Name, Err: err}, attempts)
		}
		return err
	}
	t.now.streamTime = max(t.now.streamTime, t.current.timestamp)
	t.now.markerTime = max(t.now.markerTime, t.now.streamTime)
	t.Stats.Processed++
	return t.evict()
}

// noTime is later than any timer.
const noTime = int64(math.MaxInt64)
