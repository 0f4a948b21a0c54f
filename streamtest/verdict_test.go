package streamtest_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/streamtest"
	"github.com/oncemill/oncemill/topology"
)

// The same log, with and without a restart (or an abort) between two records: the verdict on the third record must be the same.
// Marker time also counts failed records, so it is in the checkpoint.
func TestTheVerdictTooOldDoesNotDependOnARestart(t *testing.T) {
	base := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC) // a multiple of the bucket length of 5 s
	run := func(t *testing.T, between func(*streamtest.Driver)) string {
		topo := topology.New("shop")
		in := topology.Source(topo, "commands", "commands", serde.String(), serde.String(), topology.Deduplicate(dedup.Config{
			ID: dedup.Header(idName), Window: 10 * time.Second, IssueTime: dedup.IssueHeader("issued")}))
		out := topology.Process(topo, "p", in, func(ctx *processor.Context[string, string], r record.Record[string, string]) error {
			if r.Value == "bad" {
				return fmt.Errorf("bad")
			}
			return ctx.Forward(r)
		}, topology.OnFailure(processor.DeadLetter()))
		topology.Sink(topo, "events", out, "events", serde.String(), serde.String())
		d := streamtest.New(t, topo, streamtest.Options{Start: base.Add(10 * time.Second)})
		send := func(id, value string, at, issued time.Duration) {
			d.Pipe("commands", streamtest.Text("k", value).With(idName, id).With("issued", fmt.Sprint(base.Add(issued).UnixMilli())).At(base.Add(at)))
		}
		send("1", "one", 0, 0)
		send("2", "bad", 4900*time.Millisecond, 4900*time.Millisecond)
		d.Commit()
		between(d)
		send("3", "late", 0, 4900*time.Millisecond-10*time.Second-400*time.Millisecond) // 400 ms before the window
		d.Commit()
		return fmt.Sprintf("%d outputs, %d dead letters", len(d.Output("events")), len(d.DeadLetters()))
	}
	plain := run(t, func(*streamtest.Driver) {})
	for name, between := range map[string]func(*streamtest.Driver){
		"restart": func(d *streamtest.Driver) { d.Restart() },
		"move":    func(d *streamtest.Driver) { d.Move(0) },
		"disk":    func(d *streamtest.Driver) { d.RestartWithEmptyDisk() },
	} {
		if got := run(t, between); got != plain {
			t.Errorf("%s: %s; without: %s", name, got, plain)
		}
	}
}
