package streamtest

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/oncemill/oncemill/internal/graph"
	"github.com/oncemill/oncemill/internal/task"
	"github.com/oncemill/oncemill/record"
)

// disturbance is what happens to each transaction before it may commit.
type disturbance uint8

const (
	undisturbed disturbance = iota
	abortFirst              // aborted, then run again
	crashLost               // a crash after the commit was sent, which did not arrive; then run again
	crashKept               // a crash after the commit was sent and executed, before the store applied it
	loseDisks               // committed, then all disks are lost
	moveAll                 // committed, then every task moves
)

var disturbanceNames = [...]string{"undisturbed", "aborted", "crash-lost", "crash-kept", "disks-lost", "moved"}

// recording holds what Repeat compares.
type recording struct {
	disturbance disturbance
	drivers     []*Driver
}

// Repeat runs a test again and again, with transactions of 1, 2, 3, 7 and all records, and for each size undisturbed, with
// every transaction aborted once, with a crash in every commit (with both outcomes), with all disks lost after every commit,
// and with every task moved after every commit. The drivers that run makes with the given options must come to the same
// committed outputs and the same state each time, byte for byte; in which transaction a record was committed is left out,
// and so are the stacks in dead letters.
//
// What is not a function of the records differs here, as it does in Kafka, and ends the test:
//
//   - The wall clock. A transaction that is aborted is run again later: ctx.Now() is another time, and a wall-clock timer that
//     is set from it is due later, perhaps not yet. Set timers from the timestamp of the record, or call [Driver.Commit] before
//     [Driver.Advance] and keep the clock out of outputs and state; else test with a driver of its own.
//   - A sub-topology that reads several topics may depend on how their records interleave, which batches change.
//   - Anything else that comes from outside: random numbers, the order of a map, a counter in the handler.
func Repeat(t *testing.T, o Options, run func(t *testing.T, o Options)) {
	t.Helper()
	var first *recording
	for _, size := range []int{1, 2, 3, 7, 0} {
		for way := undisturbed; way <= moveAll; way++ {
			name := fmt.Sprintf("batch=%d/%s", size, disturbanceNames[way])
			if size == 0 {
				name = "batch=all/" + disturbanceNames[way]
			}
			rec := &recording{disturbance: way}
			variant := o
			variant.CommitEvery, variant.repeat = size, rec
			ok := t.Run(name, func(t *testing.T) {
				run(t, variant)
				if len(rec.drivers) == 0 {
					t.Fatal("streamtest: Repeat: the test made no driver with the options it was given")
				}
				for _, d := range rec.drivers {
					if d.closed && d.picture == nil {
						t.Fatal(d.err)
					}
				}
				if first != nil {
					compareRecordings(t, first, rec)
				}
				for _, d := range rec.drivers {
					d.remember()
				}
			})
			if first == nil && ok {
				first = rec
			}
		}
	}
}

// picture is what two runs of a test must have in common.
type picture struct {
	outputs map[string][][]record.Raw // by topic and partition
	state   []Cell
}

// remember keeps what a driver has come to: as the test left it, or closed it.
func (d *Driver) remember() {
	if d.picture == nil {
		d.picture = d.take()
	}
}

// take copies outputs and state.
func (d *Driver) take() *picture {
	p := &picture{outputs: map[string][][]record.Raw{}}
	for name, t := range d.topics.byName {
		if d.isChangelog(name) {
			continue
		}
		byPartition := make([][]record.Raw, len(t.partitions))
		for i, log := range t.partitions {
			for e := log.from(0); e != nil; e = log.from(e.raw.Offset + 1) {
				byPartition[i] = append(byPartition[i], cloneRaw(&e.raw))
			}
		}
		p.outputs[name] = byPartition
	}
	for _, c := range d.State() {
		if d.isTaskStore(c.Store) {
			continue
		}
		p.state = append(p.state, c)
	}
	return p
}

func (d *Driver) isChangelog(topic string) bool {
	for _, in := range d.plan.Internal {
		if in.Name == topic {
			return in.Kind == graph.TopicChangelog || in.Kind == graph.TopicMarkerChangelog
		}
	}
	return false
}

// isTaskStore: checkpoint records count transactions, which is what the variants differ in.
func (d *Driver) isTaskStore(store string) bool {
	for _, s := range d.plan.Subs {
		if graph.TaskStore(s.Name) == store {
			return true
		}
	}
	return false
}

func compareRecordings(t *testing.T, first, other *recording) {
	t.Helper()
	if len(first.drivers) != len(other.drivers) {
		t.Fatalf("streamtest: %d drivers in this run, %d in the first", len(other.drivers), len(first.drivers))
	}
	for i, d := range other.drivers {
		d.remember()
		if err := first.drivers[i].picture.diff(d.picture); err != nil {
			t.Fatalf("streamtest: not what came of the first run: %v. Cure: let outputs and state depend on the records alone; ctx.Now(), wall-clock timers and the order of several inputs do not come again the same: see Repeat", err)
		}
	}
}

// diff returns the first difference.
func (p *picture) diff(got *picture) error {
	for _, topic := range slices.Sorted(maps.Keys(p.outputs)) {
		for i := range p.outputs[topic] {
			if err := diffRecords(topic, p.outputs[topic][i], got.outputs[topic][i]); err != nil {
				return err
			}
		}
	}
	return compareCells(p.state, got.state)
}

func diffRecords(topic string, want, got []record.Raw) error {
	for i := range max(len(want), len(got)) {
		switch {
		case i >= len(want):
			return fmt.Errorf("topic %q has a record too much: %s", topic, describe(&got[i]))
		case i >= len(got):
			return fmt.Errorf("topic %q lacks a record: %s", topic, describe(&want[i]))
		case !sameRecord(&want[i], &got[i]):
			return fmt.Errorf("topic %q: %s, want %s", topic, describe(&got[i]), describe(&want[i]))
		}
	}
	return nil
}

func describe(r *record.Raw) string {
	text := fmt.Sprintf("%s key %q value %q at %v", r.Position, r.Key, r.Value, r.Timestamp.UTC())
	for _, h := range r.Headers {
		text += fmt.Sprintf(" %s=%q", h.Key, h.Value)
	}
	return text
}

func sameRecord(a, b *record.Raw) bool {
	if !sameBytes(a.Key, b.Key) || !sameBytes(a.Value, b.Value) || a.Timestamp.UnixMilli() != b.Timestamp.UnixMilli() || len(a.Headers) != len(b.Headers) {
		return false
	}
	for i := range a.Headers {
		same := sameBytes(a.Headers[i].Value, b.Headers[i].Value) || a.Headers[i].Key == task.HeaderErrorStacktrace
		if a.Headers[i].Key != b.Headers[i].Key || !same {
			return false
		}
	}
	return true
}

// sameBytes tells null from empty.
func sameBytes(a, b []byte) bool { return bytes.Equal(a, b) && (a == nil) == (b == nil) }

// disturb does to the open transaction what Repeat asks for. over says that it is committed or gone.
func (d *Driver) disturb() (over bool, err error) {
	if d.opts.repeat == nil || d.rerunning {
		return false, nil
	}
	d.rerunning = true
	defer func() { d.rerunning = false }()
	size := d.open
	switch d.opts.repeat.disturbance {
	case abortFirst:
		d.abort()
		return false, d.again(size)
	case crashLost:
		if err := d.crashInCommit(false); err != nil {
			return false, err
		}
		return false, d.again(size)
	case crashKept:
		return true, d.crashInCommit(true)
	case loseDisks:
		if err := d.commitOnce(); err != nil {
			return false, err
		}
		return true, d.restartEmpty()
	case moveAll:
		if err := d.commitOnce(); err != nil {
			return false, err
		}
		for p := range int32(len(d.slots)) {
			if err := d.move(p); err != nil {
				return false, err
			}
		}
		return true, nil
	}
	return false, nil
}

// again runs the records and timers of a transaction a second time.
func (d *Driver) again(size int) error {
	for d.open < size {
		before := d.open
		more, err := d.TryStep()
		if err != nil {
			return err
		}
		if !more && d.open == before {
			return fmt.Errorf("after an abort or a crash a transaction of %d records and timers was run again, and had %d: a wall-clock timer that had fired was not due. "+
				"Cure: set it from the timestamp of the record and not from ctx.Now(), or call Commit before Advance: see Repeat", size, d.open)
		}
	}
	return nil
}
