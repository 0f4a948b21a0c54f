package verify

import (
	"bytes"
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
	// rerunMemory is the budget of the state; the rest of it lies on the disk.
	rerunMemory = 64 << 20
)

// Why a task cannot be run again.
const (
	orderUnknown = "several inputs: their order is not in the topics"
	inputRemoved = "the beginning of the input was removed"
	clockUsed    = "timers of the wall clock or delayed retries: their time is not in the topics"
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
}

// execute runs the tasks again and compares.
func (r *run) execute(ctx context.Context) (err error) {
	if r.OpenEngine == nil {
		return nil
	}
	r.check(CheckRerun)
	r.check(CheckRerunKeys)
	engine, err := r.OpenEngine(filepath.Join(r.dir, "execute"))
	if err != nil {
		return err
	}
	x := &rerun{run: r, made: r.sorter(), number: map[string]uint16{}, done: map[[6]byte]bool{}, all: true}
	if x.db, err = statestore.Open(statestore.Config{Engine: engine, MemoryBudget: rerunMemory}); err != nil {
		return errors.Join(err, engine.Close())
	}
	defer func() { err = errors.Join(err, x.db.Close(ctx)) }()
	for i, name := range r.outputs {
		x.number[name] = uint16(i)
	}
	total := int64(0)
	for _, t := range r.tasks {
		for i := range t.sub.Inputs {
			total += max(0, t.next[i]-r.start(t, i))
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
		if t.next[i] <= start {
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
		x.notRun(t, why)
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
		defer cfg.State.Release()
	}
	again, err := task.New(cfg, statestore.Position{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, again.Close()) }()
	x.now = time.Time{}
	before := x.outputs
	parked, stopped, err := x.feed(ctx, t, again, input)
	if err != nil || stopped {
		return err
	}
	if _, timer, err := again.NextTimer(); err != nil {
		return err
	} else if timer || parked {
		x.notRun(t, clockUsed)
		return nil
	}
	x.noteDone(t)
	x.check(CheckRerun).Checked += x.outputs - before
	return x.compareKeys(ctx, t, cfg.State)
}

// notRun notes that the outputs of a task are not compared.
func (x *rerun) notRun(t *taskCut, why string) {
	x.all = false
	x.skip(CheckRerun, fmt.Sprintf("task %s: %s", t.id, why))
}

func (x *rerun) noteDone(t *taskCut) {
	for _, in := range t.sub.Inputs {
		x.done[[6]byte(placeKey(x.run.number[in.Topic], t.id.Partition, 0))] = true
	}
}

// feed processes the records of an input. stopped says that the task ended at one of them, which is a finding.
func (x *rerun) feed(ctx context.Context, t *taskCut, again *task.Task, input int) (parked, stopped bool, err error) {
	if input < 0 {
		return false, false, nil
	}
	topic, start := t.sub.Inputs[input].Topic, x.start(t, input)
	again.StartAt(input, start)
	var fatal error
	err = x.Log.Read(ctx, topic, t.id.Partition, start, t.next[input], func(raw *record.Raw) error {
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
			x.found(CheckRerun, problem.FindingLost, raw.Position.String(), "run again, it ends the task: %v", fatal)
			return nil
		}
		for _, o := range again.TakeOutputs() {
			if err := x.output(t, &o); err != nil {
				return err
			}
		}
		if again.Steps() < rerunSteps {
			return nil
		}
		return x.commit(ctx, again)
	})
	if err == nil && fatal == nil {
		err = x.commit(ctx, again)
	}
	if fatal != nil {
		x.all = false
		again.Abort()
	}
	return again.TakeStats().Parked > 0, fatal != nil, err
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
		x.skip(CheckRerun, "topic "+o.Topic+" is not named by the topology")
		return nil
	}
	x.outputs++
	raw := record.Raw{Key: o.Key, Value: o.Value, Position: record.Position{Topic: o.Topic, Partition: o.Partition, Offset: x.outputs}}
	place := placeKey(x.run.number[t.sub.Inputs[0].Topic], t.id.Partition, max(0, o.CauseOffset))
	return x.made.add(append(binary.BigEndian.AppendUint16(nil, number), o.ID[:]...), append(place, describe(&raw)...))
}

// commit makes what was processed the state, as a session does, without a changelog.
func (x *rerun) commit(ctx context.Context, again *task.Task) error {
	if !again.Dirty() {
		return nil
	}
	if err := again.Seal(func(task.ChangelogRecord) error { return nil }); err != nil {
		return err
	}
	err := again.Reserve()
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

// compareKeys holds the state of the second run against the changelogs.
func (x *rerun) compareKeys(ctx context.Context, t *taskCut, state *statestore.Task) error {
	for _, st := range t.sub.Stores {
		if st.Kind == statestore.KindTask {
			continue // its numbers count transactions
		}
		log, err := x.changelog(ctx, t, st, func(int64) {})
		if err != nil {
			return err
		}
		end := t.meta.End(st.Changelog)
		j := &storeJoin{run: x.run, check: CheckRerunKeys, task: t, store: st, horizon: horizonIn(t.latest.Horizons, st.ID()), other: "the second run"}
		if err := errors.Join(j.join(log, end, state), log.close()); err != nil {
			return err
		}
	}
	return nil
}

// compare joins the outputs of both runs by topic and id.
func (x *rerun) compare() error {
	old, err := x.produced.sorted()
	if err != nil {
		return err
	}
	made, err := x.made.sorted()
	if err != nil {
		return err
	}
	moreOld, moreMade := old.next(), made.next()
	for moreOld || moreMade {
		order := -1
		switch {
		case !moreOld:
			order = 1
		case moreMade:
			order = bytes.Compare(old.key, made.key)
		}
		switch {
		case order < 0:
			x.onlyOld(old)
		case order > 0:
			x.onlyMade(made)
		default:
			x.both(old, made)
		}
		// Copies of one id are looked at elsewhere.
		key := bytes.Clone(old.key)
		if order > 0 {
			key = bytes.Clone(made.key)
		}
		for moreOld && bytes.Equal(old.key, key) {
			moreOld = old.next()
		}
		for moreMade && bytes.Equal(made.key, key) {
			moreMade = made.next()
		}
	}
	return errors.Join(old.err, made.err)
}

func (x *rerun) wasRun(entry []byte) bool {
	if binary.BigEndian.Uint16(entry) == noInput {
		return x.all
	}
	return x.done[[6]byte(entry)]
}

func (x *rerun) onlyOld(old *cursor) {
	if !x.wasRun(old.value) {
		return
	}
	if x.Shared {
		x.skip(CheckRerun, "not made by this application, or no longer: others write there, too")
		return
	}
	have := readDescribed(old.value[placeBytes:])
	input, partition, offset := binary.BigEndian.Uint16(old.value), int32(binary.BigEndian.Uint32(old.value[2:])), int64(binary.BigEndian.Uint64(old.value[6:]))
	cause := "a timer"
	if input != noInput {
		cause = fmt.Sprintf("%s/%d@%d", x.names[input], partition, offset)
	}
	x.found(CheckRerun, problem.FindingGhost, fmt.Sprintf("%s/%d@%d", x.outputTopic(old), have.partition, have.offset),
		"%s, run again, does not make it; %s", cause, have.text)
}

func (x *rerun) outputTopic(c *cursor) string { return x.run.outputs[binary.BigEndian.Uint16(c.key)] }

func (x *rerun) onlyMade(made *cursor) {
	if !x.wasRun(made.value) {
		return
	}
	want, name := readDescribed(made.value[placeBytes:]), x.outputTopic(made)
	if topic := x.topics[name]; topic.Compacted || topic.Starts[want.partition] > 0 {
		x.skip(CheckRerun, "the output topic no longer has all its records")
		return
	}
	input, partition, offset := binary.BigEndian.Uint16(made.value), int32(binary.BigEndian.Uint32(made.value[2:])), int64(binary.BigEndian.Uint64(made.value[6:]))
	x.found(CheckRerun, problem.FindingLost, fmt.Sprintf("%s/%d", name, want.partition), "%s/%d@%d, run again, makes the output %x, which is not there; %s",
		x.names[input], partition, offset, made.key[2:], want.text)
}

func (x *rerun) both(old, made *cursor) {
	have, want := readDescribed(old.value[placeBytes:]), readDescribed(made.value[placeBytes:])
	if !x.wasRun(made.value) || have.partition == want.partition && have.hash == want.hash {
		return
	}
	x.found(CheckRerun, problem.FindingGhost, fmt.Sprintf("%s/%d@%d", x.outputTopic(old), have.partition, have.offset),
		"its cause, run again, makes other bytes: %s in partition %d, instead of %s", want.text, want.partition, have.text)
}
