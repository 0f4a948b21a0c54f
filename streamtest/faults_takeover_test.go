package streamtest_test

import (
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/internal/step"
	"github.com/oncemill/oncemill/streamtest"
)

// TestR6ACounterThatIsBehindIsRefused: the changelog of the task is as long as what was committed says, and its last word is an older
// transaction: an unclean election took the end, and it has grown again.
func TestR6ACounterThatIsBehindIsRefused(t *testing.T) {
	t.Parallel()
	const log = "ledger-commands-task-changelog"
	play(t, setting{}, func(s *scene) {
		s.goesOn("n")
		s.stop(s.a)
		s.a.LoseDisk()
		first, end := s.c.Committed(log)[0], s.c.Broker().PartitionInfo(log, 0).HighWatermark
		s.c.Recreate(log)
		for range end {
			s.c.Produce(log, streamtest.Bytes(first.Key, first.Value))
		}
		s.a.Start()
		s.wantRefused(problem.StateBehind, "restored to transaction 1, committed is")
		s.ranOnce("m0", "m1", "m2", "n")
	})
}

// TestR9TasksOfAnotherTopologyAreNotTakenOver: a process with another topology starts before anything is committed, so that its start
// finds nothing to refuse. It must not take over what the others have written since.
func TestR9TasksOfAnotherTopologyAreNotTakenOver(t *testing.T) {
	t.Parallel()
	other := newLedger(ledgerOptions{window: 7 * 24 * time.Hour})
	l := newLedger(ledgerOptions{})
	o := streamtest.ClusterOptions{Partitions: 2, Configure: func(process string, cfg *oncemill.Config) {
		if process == "changed" {
			cfg.Topology = other.topo
		}
	}}
	l.simulate(t, o, func(t *testing.T, c *streamtest.Cluster) {
		a := c.Start("a")
		c.AwaitTasks(2)
		changed := c.Start("changed")
		c.Until("each to have a task", func() bool { return len(a.Tasks()) == 1 && len(changed.Tasks()) == 1 })
		for p := range int32(2) {
			c.Produce("commands", account("m", "k", "add 1").On(p), account("n", "k", "add 1").On(p))
		}
		c.Settle()
		a.Kill(100)
		err := changed.Wait()
		if problem.CodeOf(err) != problem.FingerprintChanged || !strings.Contains(err.Error(), `sub-topology "commands"`) {
			t.Fatalf("Run returned %v", err)
		}
		if got := len(c.Committed("events")); got != 4 {
			t.Fatalf("%d events", got)
		}
	})
}

// TestS46OffsetMovedBackWithoutMarkers: the position alone knows what the state includes.
func TestS46OffsetMovedBackWithoutMarkers(t *testing.T) {
	t.Parallel()
	for _, lost := range []bool{false, true} {
		h := newAttempts()
		streamtest.Simulate(t, streamtest.ClusterOptions{Topology: h.topo}, func(t *testing.T, c *streamtest.Cluster) {
			a := c.Start("a")
			for range 3 {
				c.Produce("in", streamtest.Text("k", "x"))
				c.Settle()
			}
			if err := a.Stop(); err != nil {
				t.Fatal(err)
			}
			if lost {
				a.LoseDisk()
			}
			c.Pass(2 * oncemill.DefaultSessionTimeout)
			moved := kadm.Offsets{}
			moved.Add(kadm.Offset{Topic: "in", At: 1, LeaderEpoch: -1})
			if err := kadm.NewClient(c.NewClient()).CommitAllOffsets(t.Context(), "attempts", moved); err != nil {
				t.Fatal(err)
			}
			a.Start()
			c.Produce("in", streamtest.Text("k", "count"))
			out := c.AwaitCommitted("out", 4)
			if got := string(out[3].Value); got != "count 3" || h.runs.Load() != 3 {
				t.Errorf("%q after %d runs, want 3", got, h.runs.Load())
			}
			if got := a.Steps(string(step.Aborting)); got != 0 {
				t.Errorf("%d transactions were aborted", got)
			}
			c.CheckState()
		})
	}
}

// A skip that was accepted, and has not been committed yet, holds over an abort.
func TestAcceptedSkipHoldsOverAnAbort(t *testing.T) {
	t.Parallel()
	skip := with(func(cfg *oncemill.Config) { cfg.AcceptSkip = true })
	playStopped(t, skip, func(s *scene, admin *kadm.Client) {
		s.send(adds("skipped", "k", 2)...)
		s.moveOffset(admin, 5)
	}, func(s *scene) {
		refused := s.c.Refuse(kmsg.TxnOffsetCommit, kerr.InvalidCommitOffsetSize, 1)
		s.send(account("after", "k", "add 1"))
		s.c.AwaitCommitted("events", 4)
		s.c.Settle()
		if refused.Hits() != 1 {
			s.t.Fatalf("%d requests were refused", refused.Hits())
		}
		s.wantRunsOf(s.t, "skipped0", 0)
		s.wantRunsOf(s.t, "after", 2)
		s.c.CheckState()
	})
}

// A process that comes back is the member that it was: it waits for no session to time out.
func TestRestartKeepsTheMember(t *testing.T) {
	t.Parallel()
	play(t, setting{}, func(s *scene) {
		began := time.Now()
		s.a.Restart(100)
		s.send(account("n", "k", "add 1"))
		s.c.AwaitCommitted("events", 4)
		if took := time.Since(began); took > oncemill.DefaultSessionTimeout/2 {
			s.t.Errorf("it took %v", took)
		}
		s.verified()
	})
}
