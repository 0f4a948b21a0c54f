package streamtest_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/streamtest"
	"github.com/oncemill/oncemill/topology"
)

// The limits that docs/guarantees.md names and that no other test shows.

// Deduplication is per partition: the same id on two partitions runs twice, and both outputs have one id.
func TestTheSameIDOnTwoPartitionsRunsTwice(t *testing.T) {
	l := newLedger(ledgerOptions{})
	d := streamtest.New(t, l.topo, streamtest.Options{Partitions: 2})
	d.Pipe("commands", account("m", "k0", "add 1").On(0), account("m", "k1", "add 1").On(1))
	d.Commit()
	out := d.Output("events")
	if len(out) != 2 || streamtest.Header(out[0], record.HeaderID) != streamtest.Header(out[1], record.HeaderID) {
		t.Fatalf("%d outputs: %v", len(out), out)
	}
	l.wantRunsOf(t, "m", 2)
}

// The markers of all parked records of a task are written again in one step, which must fit the memory budget.
func TestParkedRecordsWhoseMarkersDoNotFitTheBudget(t *testing.T) {
	const budget = 1 << 20
	topo := topology.New("parking")
	in := topology.Source(topo, "commands", "commands", serde.String(), serde.String(),
		topology.Deduplicate(dedup.Config{ID: dedup.Header(idName), Window: time.Hour}))
	topology.Process(topo, "fail", in, func(_ *processor.Context[string, string], r record.Record[string, string]) error {
		if r.Value == "pass" {
			return nil
		}
		return errHandler
	}, topology.OnFailure(processor.DelayedRetry(processor.DeadLetter(), 1000*time.Hour)))
	for _, run := range []struct {
		parked int
		fits   bool
	}{{500, true}, {9000, false}} {
		t.Run(fmt.Sprint(run.parked), func(t *testing.T) {
			d := streamtest.New(t, topo, streamtest.Options{CommitEvery: 100, MemoryBudget: budget})
			for i := range run.parked {
				d.Append("commands", streamtest.Text("k", "fail").With(idName, fmt.Sprint("m", i)))
				if i%100 == 99 {
					d.Commit()
					d.Checkpoint()
				}
			}
			d.Append("commands", streamtest.Text("k", "pass").With(idName, "later").At(d.Now().Add(59*time.Minute)))
			err := d.TryCommit()
			var told *problem.Error
			if run.fits != (err == nil) || err != nil && (!errors.As(err, &told) || told.Code != problem.MemoryBudgetTooSmall) {
				t.Fatalf("%d parked records: %v", run.parked, err)
			}
		})
	}
}
