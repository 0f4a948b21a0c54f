package streamtest_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/internal/step"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/streamtest"
	"github.com/oncemill/oncemill/topology"
)

// history is something small that an application goes through, for enumerations: run again and again with a crash at another
// place, it must always come to the same.
type history struct {
	topo    *topology.Topology
	input   string
	records []streamtest.Message
	output  string
	outputs int // with those of timers
	verify  func(t *testing.T, c *streamtest.Cluster)
	// varying says that outputs carry the offset of a record within the application, which moves with each crash.
	varying bool
}

// story is a history of the ledger: three messages of two keys, one of them twice, and a timer.
func story() *history {
	l := newLedger(ledgerOptions{})
	return &history{topo: l.topo, input: "commands", output: "events", outputs: 3, records: []streamtest.Message{
		account("m0", "k0", "add 1"),
		account("m1", "k1", "alarm x 3"),
		account("m0", "k0", "add 1"),
		account("m2", "k1", "add 5"),
	}, verify: func(t *testing.T, c *streamtest.Cluster) {
		j := l.judge(c)
		j.ring("k1", "x")
		l.verify(t, c, j)
	}}
}

// tell runs a history with a process that may crash, and returns what is left of it.
func tell(t *testing.T, h *history, crash func(a *streamtest.Process) *streamtest.StepHook) (outputs []record.Raw, state []streamtest.Cell, steps map[step.Step]int) {
	t.Helper()
	steps = map[step.Step]int{}
	o := streamtest.ClusterOptions{Topology: h.topo, Configure: configure(func(cfg *oncemill.Config) { cfg.CheckpointInterval = 2 * time.Second })}
	streamtest.Simulate(t, o, func(t *testing.T, c *streamtest.Cluster) {
		began := time.Now()
		a := c.Process("a")
		hook := crash(a)
		again := func() { // a supervisor
			if hook != nil && hook.Reached() && a.Dead() {
				hook = nil
				a.Start()
			}
		}
		until := func(what string, holds func() bool) {
			c.Until(what, func() bool {
				again()
				return holds()
			})
		}
		a.Start()
		for i, m := range h.records {
			c.Produce(h.input, m.At(began.Add(time.Duration(i)*time.Millisecond)))
		}
		until("all outputs", func() bool { return len(c.Committed(h.output)) >= h.outputs })
		until("a checkpoint", func() bool { return time.Since(began) > 8*time.Second })
		err := a.Stop()
		if again(); a.Steps(string(step.FinalCommit)) > 0 && err != nil { // the crash was in the clean stop
			until("a task", func() bool { return len(a.Tasks()) > 0 && a.Tasks()[0].State == "running" })
			err = a.Stop()
		}
		if err != nil {
			t.Fatalf("Run returned %v", err)
		}
		h.verify(t, c)
		outputs, state = c.Committed(h.output), c.State()
		for _, s := range step.All() {
			steps[s] = a.Steps(string(s))
		}
	})
	return outputs, state, steps
}

// enumerate tells a history with a crash before every step that it takes. Outputs, with their headers and times, and the state
// are those of the run without a crash, and those of the judge. It returns the number of crashes.
func enumerate(t *testing.T, fresh func() *history, lossesOf func(crash int) []int) (crashes int) {
	t.Helper()
	never := func(*streamtest.Process) *streamtest.StepHook { return nil }
	wantOut, wantState, steps := tell(t, fresh(), never)
	missed, cases := 0, -1
	for _, s := range step.All() {
		for n := 1; n <= steps[s]; n++ {
			if s == step.Poll && n > 6 {
				break // an idle worker polls on and on
			}
			for _, lost := range lossesOf(cases + 1) {
				if cases++; !sampled(cases) {
					continue
				}
				crashes++
				t.Run(fmt.Sprintf("%s/%d/%d%%", s, n, lost), func(t *testing.T) {
					var hook *streamtest.StepHook
					h := fresh()
					out, state, _ := tell(t, h, func(a *streamtest.Process) *streamtest.StepHook {
						hook = a.CrashAt(string(s), n, lost)
						return hook
					})
					if !hook.Reached() {
						missed++ // one poll or one fetch more or less is up to the scheduler
					}
					sameOutputs(t, wantOut, out, h.varying)
					sameState(t, wantState, state)
				})
			}
		}
	}
	if missed > crashes/20+raceSample-1 {
		t.Fatalf("%d crashes, %d of them not reached", crashes, missed)
	}
	return crashes
}

// TestEveryCrash: each part of the unsynced data lost, at every step.
func TestEveryCrash(t *testing.T) {
	t.Parallel()
	if n := enumerate(t, story, func(int) []int { return losses }); n < 100/raceSample {
		t.Fatalf("only %d crashes", n)
	}
}

// sameOutputs compares records byte for byte, but for their offsets, and for id and cause if they vary.
func sameOutputs(t *testing.T, want, got []record.Raw, varying bool) {
	t.Helper()
	text := func(records []record.Raw) string {
		var b strings.Builder
		for _, r := range records {
			fmt.Fprintf(&b, "%d %q %q %d", r.Partition, r.Key, r.Value, r.Timestamp.UnixMilli())
			for _, h := range r.Headers {
				if varying && (h.Key == record.HeaderID || h.Key == record.HeaderCause) {
					continue
				}
				fmt.Fprintf(&b, " %s=%q", h.Key, h.Value)
			}
			b.WriteString("\n")
		}
		return b.String()
	}
	if text(want) != text(got) {
		t.Fatalf("outputs\n%s\nwithout the crash\n%s", text(got), text(want))
	}
}

// sameState compares all stores but the one that counts transactions. Markers hold the topic's id, which each cluster draws.
func sameState(t *testing.T, want, got []streamtest.Cell) {
	t.Helper()
	text := func(cells []streamtest.Cell) string {
		var b strings.Builder
		for _, cell := range cells {
			switch {
			case strings.HasSuffix(cell.Store, "-task"):
			case strings.HasSuffix(cell.Store, "-markers"):
				m, err := dedup.DecodeMarker(cell.Value)
				if err != nil {
					t.Fatal(err)
				}
				m.TopicFold = 0
				fmt.Fprintf(&b, "%s %s %q %+v\n", cell.Task, cell.Store, cell.Key, m)
			default:
				fmt.Fprintf(&b, "%s %s %q %q\n", cell.Task, cell.Store, cell.Key, cell.Value)
			}
		}
		return b.String()
	}
	if text(want) != text(got) {
		t.Fatalf("state\n%s\nwithout the crash\n%s", text(got), text(want))
	}
}
