package streamtest_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/internal/step"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/streamtest"
)

// A process that is paused past its session does nothing; another one takes the task. What it had in hand is never seen.
func TestPausedProcessIsAZombie(t *testing.T) {
	t.Parallel()
	play(t, setting{}, func(s *scene) {
		hook := s.a.CallAt(string(step.CommitOffsets), 1, s.a.Pause)
		s.send(account("n", "k", "add 1"))
		hook.Await()
		s.c.Start("b")
		s.c.Pass(time.Second)
		before := s.a.Steps(string(step.EndTxn))
		if before != s.a.Steps(string(step.Confirmed)) {
			s.t.Fatal("the process went on with its commit")
		}
		s.goesOn("o0", "o1")
		if !s.a.Paused() || s.a.Steps(string(step.EndTxn)) != before {
			s.t.Fatal("a paused process took a step")
		}
		s.a.Resume()
		s.c.Pass(2 * time.Minute)
		if s.a.Steps(string(step.Aborting)) == 0 {
			s.t.Fatal("the zombie has not noticed that its transaction is gone")
		}
		s.goesOn("p0")
		s.wantRunsOf(s.t, "n", 2)
	})
}

// What was sent before a pause arrives: the commit of a process that is paused behind it is executed.
func TestPauseBehindARequest(t *testing.T) {
	t.Parallel()
	play(t, setting{}, func(s *scene) {
		s.a.CallAt(string(step.EndTxn), 1, func() { // between the request and the answer, which takes 100 µs
			time.AfterFunc(50*time.Microsecond, s.a.Pause)
		})
		s.send(account("n", "k", "add 1"))
		s.c.Until("the pause", s.a.Paused)
		s.c.Pass(time.Second)
		if s.a.Steps(string(step.Confirmed)) == s.a.Steps(string(step.EndTxn)) {
			s.t.Fatal("the process heard the answer")
		}
		s.goesOn() // what it committed is committed
		s.a.Restart(100)
		s.goesOn("o0")
		s.ranOnce("n")
	})
}

// A broker ends and comes back, each in turn, the controller too. Everything goes on without it; behind the controller it waits.
func TestBrokersEndAndComeBack(t *testing.T) {
	t.Parallel()
	o := setting{cluster: streamtest.ClusterOptions{Brokers: 3}}
	play(t, o, func(s *scene) {
		for node := range 3 {
			s.c.StopBroker(node)
			if node < 2 {
				s.goesOn(fmt.Sprint("without", node))
			}
			s.c.Pass(time.Minute)
			s.c.StartBroker(node)
			s.goesOn(fmt.Sprint("with", node))
		}
		for node := range 2 {
			s.c.StopBroker(node)
		}
		s.goesOn("last")
	})
}

// The writes of a slow disk take their time: a checkpoint takes long, and nothing else waits for it.
func TestSlowDisk(t *testing.T) {
	t.Parallel()
	play(t, with(func(cfg *oncemill.Config) { cfg.CheckpointInterval = time.Second }), func(s *scene) {
		s.c.Pass(10 * time.Second) // the checkpoint of what the scene wrote
		s.a.SlowDisk(time.Second)
		s.goesOn("n")
		s.c.Until("a checkpoint", func() bool { return s.a.Steps(string(step.Freeze)) > s.a.Steps(string(step.Renew)) })
		began := time.Now()
		s.send(account("o", "k", "add 1"))
		s.c.AwaitCommitted("events", 5)
		if took := time.Since(began); took > time.Second {
			s.t.Fatalf("a record took %v beside a checkpoint", took)
		}
		s.c.Until("its end", func() bool { return s.a.Steps(string(step.Freeze)) == s.a.Steps(string(step.Renew)) })
		if took := time.Since(began); took < 3*time.Second {
			s.t.Fatalf("a checkpoint on a slow disk took %v", took)
		}
		s.goesOn("p")
		s.a.Restart(100)
		s.goesOn("q")
		s.stop(s.a)
		s.a.Start()
		s.goesOn("r")
		s.ranOnce("n", "o", "p", "q", "r")
	})
}

// The archive of a repartition topic has what the application has deleted, once each and in order.
func TestArchiveHasWhatWasDeleted(t *testing.T) {
	t.Parallel()
	s := newSales()
	o := streamtest.ClusterOptions{Topology: s.topo, Partitions: 2, Archive: []string{byProductTopic}}
	streamtest.Simulate(t, o, func(t *testing.T, c *streamtest.Cluster) {
		c.Start("a")
		sent := 0
		for round := range 4 {
			for i := range 3 {
				c.Produce("lines", line(fmt.Sprint("l", round, i), fmt.Sprint("c", i), fmt.Sprintf("p%d p%d", i, i+1)))
				sent += 2
			}
			c.Pass(45 * time.Second) // the clean-up comes every 30 s
		}
		c.Process("a").Restart(100)
		s.verify(t, c)
		if left := len(c.Committed(byProductTopic)); left >= sent {
			t.Fatalf("%d of %d records are left: nothing was deleted", left, sent)
		}
		all := c.Archived(byProductTopic)
		if len(all) != sent || !slices.IsSortedFunc(all, func(a, b record.Raw) int { return int(a.Partition-b.Partition)*1000 + int(a.Offset-b.Offset) }) {
			t.Fatalf("the archive has %d records of %d, or in no order", len(all), sent)
		}
		if again := c.Archived(byProductTopic); len(again) != sent {
			t.Fatalf("the archive has %d records when it is asked again", len(again))
		}
	})
}

// A clean stop on a disk that is too slow ends in time with an error that has a name, and loses nothing.
func TestCleanStopOnADiskThatIsTooSlow(t *testing.T) {
	t.Parallel()
	play(t, with(func(cfg *oncemill.Config) { cfg.ShutdownTimeout = 10 * time.Second }), func(s *scene) {
		s.goesOn("n")
		s.a.SlowDisk(5 * time.Second)
		began := time.Now()
		err := s.a.Stop()
		if took := time.Since(began); took > 40*time.Second {
			s.t.Errorf("the stop took %v", took)
		}
		if !errors.Is(err, &problem.Error{Code: problem.ShutdownTimeout}) || problem.CodeOf(err) == "" {
			s.t.Fatalf("Run returned %v, want %s", err, problem.ShutdownTimeout)
		}
		s.a.SlowDisk(0)
		s.a.Start()
		s.goesOn("o")
		s.ranOnce("n", "o")
	})
}
