package task_test

import (
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/topology"
)

// Working a queue off takes a number of steps of the store's cursors that grows with its length, and so does what comes after:
// each record that has left it is a tombstone.
func TestQueueIsWorkedOffInStepsInProportion(t *testing.T) {
	const n = 2000
	broken, done := true, 0
	topo := topology.New("queue")
	in := topology.Source(topo, "in", "in", serde.String(), serde.String())
	out := topology.Process(topo, "p", in, func(ctx *processor.Context[string, string], r record.Record[string, string]) error {
		if broken {
			return errors.New("broken")
		}
		done++
		return ctx.Forward(r)
	}, topology.OnFailure(processor.DelayedRetryInOrder(processor.DeadLetter(), time.Second)))
	topology.Sink(topo, "out", out, "out", serde.String(), serde.String())
	k := newKit(t, topo)
	command := func(i int) *record.Raw {
		return &record.Raw{Key: []byte("k"), Value: []byte(strconv.Itoa(i)), Timestamp: start, Position: record.Position{Topic: "in"}}
	}
	for i := range n {
		k.step(command(i))
	}
	k.commit()
	broken = false
	for more := true; more; {
		var err error
		if more, err = k.task.FireTimers(start.Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		k.commit()
	}
	for i := range n {
		k.step(command(i))
	}
	k.commit()
	if done != 2*n {
		t.Fatalf("%d records were processed", done)
	}
	if steps := k.state.IteratorSteps(); steps > 60*n {
		t.Fatalf("%d records took %d steps", n, steps)
	}
}
