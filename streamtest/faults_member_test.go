package streamtest_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/internal/step"
	"github.com/oncemill/oncemill/streamtest"
)

// lateJoin holds back each JoinGroup of worker a-0, which is a member, until let is called. came is told of each.
func lateJoin(c *streamtest.Cluster) (came chan struct{}, let func()) {
	var open atomic.Bool
	came, release := make(chan struct{}, 100), make(chan struct{})
	watchEach(c, func(j *kmsg.JoinGroupRequest) {
		if !open.Load() && j.InstanceID != nil && *j.InstanceID == "a-0" && j.MemberID != "" {
			came <- struct{}{}
			c.Broker().SleepControl(func() { <-release })
		}
	})
	return came, func() {
		open.Store(true)
		close(release)
	}
}

// TestZombieThatRejoinsUnderANewMemberID: the session of a expires while its JoinGroup is under way; b gets the task and commits.
// The client of a joins again by itself and tells nobody that anything was lost. The worker must not commit what it did meanwhile
// as the new member.
func TestZombieThatRejoinsUnderANewMemberID(t *testing.T) {
	t.Parallel()
	play(t, setting{}, func(s *scene) {
		held, let := lateJoin(s.c)
		b := s.c.Start("b")
		<-held
		s.c.Until("b to have the task", func() bool { return b.Steps(string(step.Start)) == 1 })
		s.send(account("n", "k", "add 1"))
		s.c.AwaitCommitted("events", 4)
		s.send(adds("o", "k", 2)...)
		s.c.AwaitCommitted("events", 6)
		let()
		s.c.Pass(3 * time.Minute)
		s.verified()
		s.goesOn("p0", "p1")
	})
}

// TestZombieThatGetsItsTaskBackUnnoticed: b is gone again when a is let in. The assignment of a has not changed in the eyes of its
// client, so no callback names the task, and its state lacks what b has committed.
func TestZombieThatGetsItsTaskBackUnnoticed(t *testing.T) {
	t.Parallel()
	play(t, with(func(cfg *oncemill.Config) { cfg.SessionTimeout = 10 * time.Second }), func(s *scene) {
		held, let := lateJoin(s.c)
		b := s.c.Start("b")
		<-held
		s.c.Until("b to have the task", func() bool { return b.Steps(string(step.Start)) == 1 })
		frozen := s.a.FreezeAt(string(step.Process), 1) // a does nothing while b is there
		s.send(account("n", "k", "add 1"), account("o", "k", "add 1"))
		s.c.AwaitCommitted("events", 5)
		frozen.Await()
		b.Kill(0)
		s.c.Pass(20 * time.Second)
		let()
		s.c.Pass(20 * time.Second)
		frozen.Thaw()
		s.c.Pass(2 * time.Minute)
		s.goesOn("p")
		if n := s.a.Steps(string(step.Start)); n != 2 {
			s.t.Fatalf("a started its task %d times, want once more after it had been lost", n)
		}
	})
}

// TestZombieThatRejoinsInTheMiddleOfItsCommit: a is a member again, under a new id, before it goes on with the commit of a
// transaction that it began under the old one.
func TestZombieThatRejoinsInTheMiddleOfItsCommit(t *testing.T) {
	t.Parallel()
	for _, at := range []step.Step{step.Seal, step.Flush, step.Reserve, step.CommitOffsets, step.EndTxn} {
		t.Run(string(at), func(t *testing.T) {
			play(t, with(func(cfg *oncemill.Config) { cfg.SessionTimeout = 10 * time.Second }), func(s *scene) {
				frozen := s.a.FreezeAt(string(at), 1)
				s.send(account("n", "k", "drop")) // no output: at Seal the broker has no transaction that it could time out
				frozen.Await()
				held, let := lateJoin(s.c)
				b := s.c.Start("b")
				<-held
				s.c.Until("b to have the task", func() bool { return b.Steps(string(step.Start)) == 1 })
				s.send(account("o", "k", "add 1"))
				s.c.AwaitCommitted("events", 4)
				b.Kill(0)
				s.c.Pass(20 * time.Second)
				let()
				s.c.Pass(20 * time.Second)
				frozen.Thaw()
				s.c.Pass(time.Minute)
				s.goesOn("p")
				s.wantRunsOf(s.t, "n", 2)
				s.ranOnce("m0", "o", "p")
			})
		})
	}
}

// The coordinator does not know the member for a moment; its client never hears of it. The worker asks for a new membership itself.
func TestMemberThatTheCoordinatorDoesNotKnowForAMoment(t *testing.T) {
	t.Parallel()
	play(t, setting{}, func(s *scene) {
		f := s.c.Refuse(kmsg.TxnOffsetCommit, kerr.UnknownMemberID, 1)
		s.send(account("n", "k", "add 1"))
		s.c.Pass(time.Minute)
		if f.Hits() != 1 {
			s.t.Fatal("not reached")
		}
		s.goesOn("o")
	})
}

// TestTheGroupsClientListsNoOffsets: it fetches nothing. Listing where each partition begins would cost requests with every assignment
// where nothing is committed, and the end of a membership would wait for the answers.
func TestTheGroupsClientListsNoOffsets(t *testing.T) {
	t.Parallel()
	l := newLedger(ledgerOptions{})
	l.simulate(t, streamtest.ClusterOptions{Partitions: 3}, func(t *testing.T, c *streamtest.Cluster) {
		listed := map[string]*streamtest.LossHandle{}
		for _, role := range []string{"group", "restore"} { // a millisecond later, so that they are counted
			listed[role] = c.Lose(streamtest.Loss{Key: kmsg.ListOffsets, Role: role, Times: -1, Delay: time.Millisecond})
		}
		c.Start("a")
		c.AwaitTasks(3) // of partitions in which nothing is committed
		b := c.Start("b")
		c.Until("b to have tasks", func() bool { return b.Steps(string(step.Start)) > 0 })
		c.Settle()
		if n := listed["group"].Hits(); n > 0 {
			t.Errorf("the group's client has listed offsets %d times", n)
		}
		if listed["restore"].Hits() == 0 {
			t.Error("the restores have listed no offsets: nothing was counted")
		}
		c.Produce("commands", account("m", "k", "add 1"))
		c.AwaitCommitted("events", 1)
		l.verify(t, c, l.judge(c))
	})
}
