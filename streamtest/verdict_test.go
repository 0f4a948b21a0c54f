package streamtest_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/streamtest"
	"github.com/oncemill/oncemill/topology"
)

// issueWindow is two buckets of five seconds; issueStart is a multiple of them, so that a bucket begins there.
const issueWindow = 10 * time.Second

var issueStart = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

// issueTopology deduplicates commands whose ids have an issue time. A command "bad" goes to the dead letters.
func issueTopology() *topology.Topology {
	topo := topology.New("shop")
	in := topology.Source(topo, "commands", "commands", serde.String(), serde.String(), topology.Deduplicate(dedup.Config{
		ID: dedup.Header(idName), Window: issueWindow, IssueTime: dedup.IssueHeader("issued")}))
	out := topology.Process(topo, "p", in, func(ctx *processor.Context[string, string], r record.Record[string, string]) error {
		if r.Value == "bad" {
			return errHandler
		}
		return ctx.Forward(r)
	}, topology.OnFailure(processor.DeadLetter()))
	topology.Sink(topo, "events", out, "events", serde.String(), serde.String())
	return topo
}

// issuedAt is a command of a time since issueStart, whose id is of another.
func issuedAt(id, value string, at, issued time.Duration) streamtest.Message {
	return streamtest.Text("k", value).With(idName, id).With("issued", fmt.Sprint(issueStart.Add(issued).UnixMilli())).At(issueStart.Add(at))
}

// A failed record moves marker time within its bucket. Whether the next id is too old must not depend on what lies between.
func TestVerdictTooOldDoesNotDependOnWhatLiesBetweenTheRecords(t *testing.T) {
	run := func(t *testing.T, between func(*streamtest.Driver)) string {
		d := streamtest.New(t, issueTopology(), streamtest.Options{Start: issueStart.Add(issueWindow)})
		d.Pipe("commands", issuedAt("1", "one", 0, 0))
		failed := 4900 * time.Millisecond
		d.Pipe("commands", issuedAt("2", "bad", failed, failed))
		d.Commit()
		between(d)
		d.Pipe("commands", issuedAt("3", "late", 0, failed-issueWindow-400*time.Millisecond)) // before the window
		d.Commit()
		return fmt.Sprintf("%d outputs, %d dead letters", len(d.Output("events")), len(d.DeadLetters()))
	}
	for name, between := range map[string]func(*streamtest.Driver){
		"nothing":    func(*streamtest.Driver) {},
		"restart":    func(d *streamtest.Driver) { d.Restart() },
		"move":       func(d *streamtest.Driver) { d.Move(0) },
		"empty disk": func(d *streamtest.Driver) { d.RestartWithEmptyDisk() },
		"checkpoint": func(d *streamtest.Driver) { d.Checkpoint(); d.Restart() },
		"abort": func(d *streamtest.Driver) {
			d.Pipe("commands", issuedAt("4", "bad", 0, 0))
			d.Abort()
		},
	} {
		want := "1 outputs, 2 dead letters"
		if name == "abort" {
			want = "1 outputs, 3 dead letters"
		}
		if got := run(t, between); got != want {
			t.Errorf("%s: %s; want %s", name, got, want)
		}
	}
}

// One log, in transactions of any size, aborted, restarted, restored and moved: the same verdicts.
func TestVerdictsAreAFunctionOfTheLog(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			streamtest.Repeat(t, streamtest.Options{Start: issueStart.Add(time.Hour)}, func(t *testing.T, o streamtest.Options) {
				r := rand.New(rand.NewPCG(seed, 2))
				d := streamtest.New(t, issueTopology(), o)
				var at time.Duration
				for i := range 60 {
					at += time.Duration(r.IntN(1500)) * time.Millisecond
					value := []string{"good", "bad", "bad"}[r.IntN(3)]
					late := time.Duration(r.IntN(8000)) * time.Millisecond
					issued := at - issueWindow + time.Duration(r.IntN(4000)-2000)*time.Millisecond // about where the window begins
					d.Append("commands", issuedAt(fmt.Sprint(r.IntN(2*i+2)), value, at-late*time.Duration(r.IntN(2)), issued))
				}
				d.Run()
				d.Commit()
				v := d.Stats().Verdicts
				if v[dedup.TooOld] == 0 || v[dedup.New] == 0 {
					t.Fatalf("verdicts %v: the log reaches nothing", v)
				}
			})
		})
	}
}
