package task_test

import (
	"context"
	"testing"
	"time"

	"github.com/oncemill/oncemill/internal/host"
	"github.com/oncemill/oncemill/internal/task"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/statestore/memory"
	"github.com/oncemill/oncemill/topology"
)

// topics has every topic, with four partitions.
type topics struct{ maxBytes int }

func (topics) Partitions(string) (int32, error) { return 4, nil }
func (t topics) MaxBytes(string) int            { return t.maxBytes }

var start = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)

// kit is one task of the first sub-topology with its state, driven by hand.
type kit struct {
	t      testing.TB
	task   *task.Task
	state  *statestore.Task
	next   int64
	logEnd map[string]int64
	timed  int // timings that were told
}

func newKit(t testing.TB, topo *topology.Topology) *kit {
	t.Helper()
	plan, err := topo.Build()
	if err != nil {
		t.Fatal(err)
	}
	k := &kit{t: t, logEnd: map[string]int64{}}
	sub := plan.Subs[0]
	if sub.Stateful() {
		db, err := statestore.Open(statestore.Config{Engine: memory.New(), MemoryBudget: 1 << 30, Now: func() time.Time { return start }})
		if err != nil {
			t.Fatal(err)
		}
		if k.state, err = db.Acquire(statestore.TaskID{SubTopology: sub.Name}, sub.Declarations()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			k.state.Release()
			if err := db.Close(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
	k.task, err = task.New(task.Config{
		Plan: plan, Sub: sub, State: k.state, Topics: topics{maxBytes: 1 << 20}, TopicIDs: make([][16]byte, len(sub.Inputs)),
		Wait: func(time.Duration) bool { return true }, Now: func() time.Time { return start }, OnTiming: func(task.Timing) { k.timed++ },
	}, statestore.Position{})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// step processes a record at the next offset.
func (k *kit) step(raw *record.Raw) {
	raw.Offset = k.next
	k.next++
	if err := k.task.Step(0, raw, start); err != nil {
		k.t.Fatal(err)
	}
}

// commit ends the transaction as a worker does, and returns its outputs and changelog records.
func (k *kit) commit() (outputs []host.Output, logged int) {
	outputs = k.task.TakeOutputs()
	var written []task.Written
	err := k.task.Seal(func(r task.ChangelogRecord) error {
		logged++
		at := k.logEnd[r.Topic]
		k.logEnd[r.Topic] = at + 1
		for i := range written {
			if written[i].Topic == r.Topic {
				written[i].Last = at
				return nil
			}
		}
		written = append(written, task.Written{Topic: r.Topic, First: at, Last: at})
		return nil
	})
	if err == nil {
		err = k.task.Reserve()
	}
	if err != nil {
		k.t.Fatal(err)
	}
	k.task.Confirm(written)
	return outputs, logged
}
