package verify

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/oncemill/oncemill/internal/host"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/internal/task"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/statestore"
)

// Bounds of an execution.
const (
	// rerunSteps is the number of records of one transaction.
	rerunSteps = 4096
	// rerunBytes is the size of the records of one: they are kept until its end.
	rerunBytes = 8 << 20
	// rerunMemory is the budget of the state; the rest of it lies on the disk.
	rerunMemory = 64 << 20
)

// Why a task cannot be run again, or not be judged by it.
const (
	orderUnknown = "several inputs: their order is not in the topics"
	inputRemoved = "the beginning of the input was removed"
	clockUsed    = "timers of the wall clock or delayed retries had a say: their time is not in the topics"
	clockAhead   = "a timestamp lay ahead of the clock: what it counted as is not in the topics"
	taskNotRun   = "of tasks that were not run again"
	stoppedAgain = "it ended when it was run again"
)

// rerun runs the inputs once more through the production task, from nothing, task by task, with the offsets and topic ids that
// they have, because ids of outputs are made from them. It is not streamtest's Driver, which numbers its records itself and
// keeps its topics in memory.
type rerun struct {
	*run
	db *statestore.DB
	// made has the outputs by topic and id, as run.produced.
	made    *sorter
	number  map[string]uint16 // of output topics
	done    map[[6]byte]bool  // input topic and partition: the task was run again
	all     bool              // every task was
	outputs int64             // running number
	now     time.Time
	bytes   int // of the records of the transaction
	// removed: the task that runs removed a timer of the wall clock, which may have fired before that in the application.
	removed bool
	// doubts has the tasks that are compared although the clock had a say in them, and why: what is equal is right, what is not
	// proves nothing.
	doubts map[[6]byte]string
	doubt  string // the first of them
}

// execute runs the tasks again and compares.
func (r *run) execute(ctx context.Context) (err error) {
	if r.OpenEngine == nil {
		return nil
	}
	r.check(CheckTasks)
	r.check(CheckRerun)
	r.check(CheckRerunKeys)
	engine, err := r.OpenEngine(filepath.Join(r.dir, "execute"))
	if err != nil {
		return err
	}
	x := &rerun{run: r, made: r.sorter(), number: map[string]uint16{}, done: map[[6]byte]bool{}, doubts: map[[6]byte]string{}, all: true}
	if x.db, err = statestore.Open(statestore.Config{Engine: engine, MemoryBudget: rerunMemory}); err != nil {
		return errors.Join(err, engine.Close())
	}
	defer func() { err = errors.Join(err, x.db.Close(context.WithoutCancel(ctx))) }() // an interrupt leaves nothing open

	for i, name := range r.outputs {
		x.number[name] = uint16(i)
	}
	total := int64(0)
	for _, t := range r.tasks {
		for i := range t.sub.Inputs {
			total += max(0, t.until[i]-r.start(t, i))
		}
	}
	r.Progress.Step("execute", total)
	for _, t := range r.tasks {
		if err := x.task(ctx, t); err != nil {
			return fmt.Errorf("task %s: %w", t.id, err)
		}
	}
	return x.compare()
}

// only returns the one input of a task that has records, or why it cannot be run again.
func (x *rerun) only(t *taskCut) (input int, why string) {
	input = -1
	for i := range t.sub.Inputs {
		start := x.start(t, i)
		if start > 0 && t.sub.Stateful() {
			return 0, inputRemoved
		}
		if t.until[i] <= start {
			continue
		}
		if input >= 0 {
			return 0, orderUnknown
		}
		input = i
	}
	return input, ""
}

// task runs one task again.
func (x *rerun) task(ctx context.Context, t *taskCut) (err error) {
	input, why := x.only(t)
	if why != "" {
		x.notRun(why)
		return nil
	}
	cfg := task.Config{Plan: x.Plan, Sub: t.sub, Partition: t.id.Partition, Topics: x,
		Wait: func(time.Duration) bool { return true }, Now: func() time.Time { return x.now }}
	for _, in := range t.sub.Inputs {
		cfg.TopicIDs = append(cfg.TopicIDs, x.topics[in.Topic].ID)
	}
	if t.sub.Stateful() {
		if cfg.State, err = x.db.Acquire(t.id, t.sub.Declarations()); err != nil {
			return err
		}
		defer func() { // the disk holds the state of one task at a time
			cfg.State.Release()
			err = errors.Join(err, x.db.Drop(context.WithoutCancel(ctx), t.id))
		}()
	}
	again, err := task.New(cfg, statestore.Position{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, again.Close()) }()
	x.now, x.removed = time.Time{}, false
	stopped, err := x.feed(ctx, t, again, input)
	if err != nil {
		return err
	}
	if _, why := x.only(t); stopped || why != "" { // records may have been removed while they were read
		x.notRun(cmp.Or(why, stoppedAgain))
		return nil
	}
	x.check(CheckTasks).Checked++
	clock, err := x.clock(ctx, t, again)
	if err != nil {
		return err
	}
	x.noteDone(t, clock.doubt)
	return x.compareKeys(ctx, t, cfg.State, clock)
}

// notRun notes that the outputs of a task are not compared.
func (x *rerun) notRun(why string) {
	x.all = false
	x.skip(CheckTasks, why)
}

func (x *rerun) noteDone(t *taskCut, doubt string) {
	if x.doubt == "" {
		x.doubt = doubt
	}
	for _, in := range t.sub.Inputs {
		place := [6]byte(placeKey(x.run.number[in.Topic], t.id.Partition, 0))
		x.done[place], x.doubts[place] = true, doubt
	}
}

// feed processes the records of an input. stopped says that the task ended at one of them, which is a finding.
func (x *rerun) feed(ctx context.Context, t *taskCut, again *task.Task, input int) (stopped bool, err error) {
	if input < 0 {
		return false, nil
	}
	topic, start := t.sub.Inputs[input].Topic, x.start(t, input)
	again.StartAt(input, start)
	var fatal error
	err = x.read(ctx, topic, t.id.Partition, start, t.until[input], func(raw *record.Raw) error {
		x.Progress.Add(1)
		if fatal != nil {
			return nil
		}
		raw.TopicID = x.topics[topic].ID
		if x.now.Before(raw.Timestamp) {
			x.now = raw.Timestamp // a record is processed after it was written
		}
		own := owned(raw)
		if fatal = again.Step(input, own, x.now); fatal != nil {
			x.check(CheckRerun).Checked++
			x.found(CheckRerun, problem.FindingLost, at(spotOf(raw.Position)), "run again, it ends the task: %v", fatal)
			return nil
		}
		if err := x.takeOutputs(t, again); err != nil {
			return err
		}
		if x.bytes += len(raw.Key) + len(raw.Value); again.Steps() < rerunSteps && x.bytes < rerunBytes {
			return nil
		}
		return x.commit(ctx, again)
	})
	if err == nil && fatal == nil {
		err = x.commit(ctx, again)
	}
	if fatal != nil {
		again.Abort()
	}
	return fatal != nil, err
}

func (x *rerun) takeOutputs(t *taskCut, again *task.Task) error {
	for _, o := range again.TakeOutputs() {
		if err := x.output(t, &o); err != nil {
			return err
		}
	}
	return nil
}

// owned copies a record: the task keeps it until the end of the transaction.
func owned(raw *record.Raw) *record.Raw {
	c := *raw
	c.Headers = append([]record.Header(nil), raw.Headers...)
	return &c
}

// output notes an output; with a running number in the place of its offset.
func (x *rerun) output(t *taskCut, o *host.Output) error {
	number, known := x.number[o.Topic]
	if !known {
		x.skip(CheckRerun, "of a topic that the topology does not name: --output-topic")
		return nil
	}
	if !x.Sample.Has(o.ID[:]) {
		return nil
	}
	x.outputs++
	// That of a timer names the task only.
	place := placeKey(x.run.number[t.sub.Inputs[0].Topic], t.id.Partition, -1)
	if input, ok := x.run.number[o.CauseTopic]; ok {
		place = placeKey(input, t.id.Partition, o.CauseOffset)
	}
	d := described{partition: o.Partition, offset: x.outputs, old: x.old(o.Timestamp), hash: hashOf(o.Key, o.Value), key: excerpt(o.Key), value: excerpt(o.Value)}
	return x.made.add(append(binary.BigEndian.AppendUint16(nil, number), o.ID[:]...), d.append(place))
}

// commit makes what was processed the state, as a session does, without a changelog.
func (x *rerun) commit(ctx context.Context, again *task.Task) error {
	x.bytes = 0
	if !again.Dirty() {
		return nil
	}
	err := again.Seal(func(r task.ChangelogRecord) error {
		x.removed = x.removed || r.Store.Kind == statestore.KindTimers && r.Value == nil && isWallTimer(r.Key)
		return nil
	})
	if err != nil {
		return err
	}
	err = again.Reserve()
	for errors.Is(err, statestore.ErrBudget) {
		if err = x.checkpoint(ctx, again.State()); err == nil {
			err = again.Reserve()
		}
	}
	if err != nil {
		return err
	}
	again.Confirm(nil)
	state := again.State()
	if state == nil {
		return nil
	}
	if err := state.Tick(); err != nil {
		return err
	}
	if state.NeedsCheckpoint(time.Now()) {
		return x.checkpoint(ctx, state)
	}
	return nil
}

func (x *rerun) checkpoint(ctx context.Context, state *statestore.Task) error {
	ticket := x.db.Checkpoint(state)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-ticket.Done():
	}
	return errors.Join(ticket.Err(), state.Tick())
}

// Partitions implements task.Topics.
func (x *rerun) Partitions(topic string) (int32, error) {
	if t, ok := x.topics[topic]; ok {
		return t.Partitions, nil
	}
	return 0, problem.New(problem.UnknownTopic, fmt.Sprintf("topic %q", topic), "verify does not know it").
		WithCure("name it with --output-topic")
}

// MaxBytes implements task.Topics.
func (x *rerun) MaxBytes(string) int {
	if x.MaxRecordBytes > 0 {
		return x.MaxRecordBytes
	}
	return 1 << 20
}
