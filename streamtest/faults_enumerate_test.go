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
)

// story is the small history of the enumeration: three messages of two keys, one of them twice, and a timer.
func story() []streamtest.Message {
	return []streamtest.Message{
		account("m0", "k0", "add 1"),
		account("m1", "k1", "alarm x 3"),
		account("m0", "k0", "add 1"),
		account("m2", "k1", "add 5"),
	}
}

// tell runs the story with a process that may crash, and returns what is left of it.
func tell(t *testing.T, l *ledger, crash func(a *streamtest.Process) *streamtest.StepHook) (outputs []record.Raw, state []streamtest.Cell, steps map[step.Step]int) {
	t.Helper()
	steps = map[step.Step]int{}
	o := streamtest.ClusterOptions{Configure: configure(func(cfg *oncemill.Config) { cfg.CheckpointInterval = 2 * time.Second })}
	l.simulate(t, o, func(t *testing.T, c *streamtest.Cluster) {
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
		for i, m := range story() {
			c.Produce("commands", m.At(began.Add(time.Duration(i)*time.Millisecond)))
		}
		until("three outputs", func() bool { return len(c.Committed("events")) >= 3 })
		until("a checkpoint", func() bool { return time.Since(began) > 8*time.Second })
		err := a.Stop()
		if again(); a.Steps(string(step.FinalCommit)) > 0 && err != nil { // the crash was in the clean stop
			until("a task", func() bool { return len(a.Tasks()) == 1 && a.Tasks()[0].State == "running" })
			err = a.Stop()
		}
		if err != nil {
			t.Fatalf("Run returned %v", err)
		}
		j := l.judge(c)
		j.ring("k1", "x")
		l.verify(t, c, j)
		outputs, state = c.Committed("events"), c.State()
		for _, s := range step.All() {
			steps[s] = a.Steps(string(s))
		}
	})
	return outputs, state, steps
}

// TestEveryCrash: a crash before every step that the story takes, with each part of the unsynced data lost. Outputs, with their
// ids, headers and times, and the state are those of the run without a crash, and those of the judge.
func TestEveryCrash(t *testing.T) {
	never := func(*streamtest.Process) *streamtest.StepHook { return nil }
	wantOut, wantState, steps := tell(t, newLedger(ledgerOptions{}), never)
	crashes, missed := 0, 0
	for _, s := range step.All() {
		for n := 1; n <= steps[s]; n++ {
			if s == step.Poll && n > 6 {
				break // an idle worker polls on and on
			}
			for _, lost := range losses {
				crashes++
				t.Run(fmt.Sprintf("%s/%d/%d%%", s, n, lost), func(t *testing.T) {
					var hook *streamtest.StepHook
					out, state, _ := tell(t, newLedger(ledgerOptions{}), func(a *streamtest.Process) *streamtest.StepHook {
						hook = a.CrashAt(string(s), n, lost)
						return hook
					})
					if !hook.Reached() {
						missed++ // one poll or one fetch more or less is up to the scheduler
					}
					sameOutputs(t, wantOut, out)
					sameState(t, wantState, state)
				})
			}
		}
	}
	if crashes < 100 || missed > crashes/20 {
		t.Fatalf("%d crashes, %d of them not reached", crashes, missed)
	}
}

// sameOutputs compares records byte for byte, but for their offsets.
func sameOutputs(t *testing.T, want, got []record.Raw) {
	t.Helper()
	text := func(records []record.Raw) string {
		var b strings.Builder
		for _, r := range records {
			fmt.Fprintf(&b, "%d %q %q %d", r.Partition, r.Key, r.Value, r.Timestamp.UnixMilli())
			for _, h := range r.Headers {
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
			case cell.Store == "commands-task":
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
