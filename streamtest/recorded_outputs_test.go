package streamtest_test

import (
	"testing"
	"time"

	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/streamtest"
	"github.com/oncemill/oncemill/topology"
)

// A duplicate is answered with outputs that lie in the overlay. The mark between the verdict and the answer may rewrite the
// overlay, and the outputs are then read from chunks that were let go.
func TestReplayedOutputsSurviveTheRewriteOfTheOverlay(t *testing.T) {
	const attempts = 2500
	delays := make([]time.Duration, attempts)
	for i := range delays {
		delays[i] = time.Millisecond
	}
	topo := topology.New("rewrite")
	in := topology.Source(topo, "in", "in", serde.String(), serde.String(),
		topology.Deduplicate(dedup.Config{ID: dedup.Header("id"), Window: time.Hour, OnDuplicate: dedup.ReplayOutputs}))
	out := topology.Process(topo, "p", in, func(ctx *processor.Context[string, string], r record.Record[string, string]) error {
		if r.Value == "broken" {
			return errHandler
		}
		return ctx.Forward(r)
	}, topology.OnFailure(processor.DelayedRetry(processor.DeadLetter(), delays...)))
	topology.Sink(topo, "out", out, "out", serde.String(), serde.String())
	d := streamtest.New(t, topo, streamtest.Options{})
	good := streamtest.Text("k", "good").With("id", "good")
	d.Pipe("in", good, streamtest.Text("k", "broken").With("id", "broken"))
	for i := range attempts - 1 {
		d.Advance(time.Millisecond) // one step: the broken record is parked again
		d.Append("in", good)
		if err := d.TryRun(); err != nil {
			t.Fatalf("after %d retries in one transaction the duplicate ends the application: %v", i+1, err)
		}
	}
	d.Commit()
	for i, r := range d.Output("out") {
		if string(r.Value) != "good" {
			t.Fatalf("output %d is %q", i, r.Value)
		}
	}
}
