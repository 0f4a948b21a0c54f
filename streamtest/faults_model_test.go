package streamtest_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/internal/step"
	"github.com/oncemill/oncemill/streamtest"
)

// The model (model/) found what these tests show.

// TestRestoreThatAnotherOwnerOvertakes: the restore of a stands still after it has fetched the offset; meanwhile the group gives a up, and
// b has the task and commits. The restore of a then finds more in the changelogs than the offset said, and must not take that for a fault.
func TestRestoreThatAnotherOwnerOvertakes(t *testing.T) {
	t.Parallel()
	play(t, with(func(cfg *oncemill.Config) { cfg.SessionTimeout = 10 * time.Second }), func(s *scene) {
		frozen := s.a.FreezeAt(string(step.ListEnds), 1)
		s.a.Restart(0)
		s.overtaken(frozen)
	})
}

// TestFirstRestoreThatIsOvertaken: nothing was committed when the restore asked for the offset, and four messages are when it reads the
// changelogs. That is no state whose offset is missing.
func TestFirstRestoreThatIsOvertaken(t *testing.T) {
	t.Parallel()
	l := newLedger(ledgerOptions{})
	l.simulate(t, with(func(cfg *oncemill.Config) { cfg.SessionTimeout = 10 * time.Second }).cluster, func(t *testing.T, c *streamtest.Cluster) {
		s := &scene{ledger: l, t: t, c: c, a: c.Start("a")}
		c.Settle()
		frozen := s.a.FreezeAt(string(step.ListEnds), 1)
		s.a.Restart(0)
		s.overtakenBy(frozen, append(adds("m", "k", 3), account("n", "k", "add 1"))...)
	})
}

// TestRestoreThatIsOvertakenWhileItReads: what the restore fetched beyond the ends that it had listed, it has to read again when it goes on
// to the new ends.
func TestRestoreThatIsOvertakenWhileItReads(t *testing.T) {
	t.Parallel()
	play(t, with(func(cfg *oncemill.Config) { cfg.SessionTimeout = 10 * time.Second }), func(s *scene) {
		listing, reading := s.a.FreezeAt(string(step.ListEnds), 1), s.a.FreezeAt(string(step.ReadLogs), 1)
		s.a.Kill(0)
		s.a.LoseDisk()
		s.a.Start()
		listing.Await()
		again := s.a.FreezeAt(string(step.ListEnds), 1)
		held, let := lateJoin(s.c)
		b := s.c.Start("b")
		<-held
		s.c.Until("b to have the task", func() bool { return b.Steps(string(step.Start)) == 1 })
		s.send(account("n", "k", "add 1"))
		s.c.AwaitCommitted("events", 4)
		listing.Thaw()
		reading.Await()
		s.send(account("beyond", "beyond", "add 1")) // below no end that a knows
		s.c.AwaitCommitted("events", 5)
		reading.Thaw()
		again.Await() // it has the message before, and goes on behind it
		s.send(account("last", "k", "add 1"))
		s.c.AwaitCommitted("events", 6)
		s.c.Pass(time.Second)
		again.Thaw()
		s.c.Until("the restore of a to end", func() bool { return s.a.Steps(string(step.RestoreDone)) > 0 })
		let()
		s.c.Pass(2 * time.Minute)
		s.goesOn("p0", "p1")
		s.ranOnce("m0", "n", "beyond", "last", "p0", "p1")
	})
}

// overtaken has b take the task and commit, while a restore of a is frozen and its member has not joined again. Then a goes on.
func (s *scene) overtaken(frozen *streamtest.StepHook) {
	s.t.Helper()
	s.overtakenBy(frozen, account("n", "k", "add 1"))
}

// overtakenBy is overtaken by the fourth message, or by the first four.
func (s *scene) overtakenBy(frozen *streamtest.StepHook, messages ...streamtest.Message) {
	s.t.Helper()
	frozen.Await()
	fetched := s.a.Steps(string(step.FetchOffsets))
	held, let := lateJoin(s.c)
	b := s.c.Start("b")
	<-held
	s.c.Until("b to have the task", func() bool { return b.Steps(string(step.Start)) == 1 })
	s.send(messages...)
	s.c.AwaitCommitted("events", 4)
	frozen.Thaw()
	s.c.Until("the restore of a to look again", func() bool { return s.a.Steps(string(step.FetchOffsets)) > fetched })
	let()
	s.c.Pass(2 * time.Minute)
	s.goesOn("p0", "p1")
	s.ranOnce("m0", "n", "p0", "p1")
}

// TestRestoreThatIsOvertakenAndCompacted: while a restore stands still another owner commits, and compaction removes the checkpoint record
// that lay before the ends that the restore has listed; here it lists a log without one. Nothing is lost: the next one lies beyond.
func TestRestoreThatIsOvertakenAndCompacted(t *testing.T) {
	t.Parallel()
	play(t, with(func(cfg *oncemill.Config) { cfg.SessionTimeout = 10 * time.Second }), func(s *scene) {
		frozen := s.a.FreezeAt(string(step.ReadLogs), 1)
		s.a.Kill(0)
		s.a.LoseDisk()
		without := s.withoutCounter()
		s.a.Start()
		s.overtaken(frozen)
		if !*without {
			s.t.Fatal("nobody asked where the log begins")
		}
	})
}

// withoutCounter has the next one who asks where the logs of the task begin hear that the one with the counter is empty.
func (s *scene) withoutCounter() (told *bool) {
	const log = "ledger-commands-task-changelog"
	told = new(bool)
	end := s.c.Broker().PartitionInfo(log, 0).HighWatermark
	onEach(s.c, func(list *kmsg.ListOffsetsRequest) kmsg.Response {
		asks := func(t kmsg.ListOffsetsRequestTopic) bool { return t.Topic == log && t.Partitions[0].Timestamp == -2 }
		if *told || !slices.ContainsFunc(list.Topics, asks) {
			return nil
		}
		*told = true
		return listed(list, func(topic string, _ kmsg.ListOffsetsRequestTopicPartition) int64 {
			if topic == log {
				return end
			}
			return 0
		})
	})
	return told
}

// TestUnknownOutcomeAfterAnOffsetWasMoved: the committed metadata is gone, so that it cannot tell of the first transaction after it whether
// it was committed. The changelogs can.
func TestUnknownOutcomeAfterAnOffsetWasMoved(t *testing.T) {
	t.Parallel()
	for _, lostRequest := range []bool{true, false} {
		t.Run(fmt.Sprintf("request lost %v", lostRequest), func(t *testing.T) {
			playStopped(t, setting{}, func(s *scene, admin *kadm.Client) {
				s.moveOffset(admin, 0)
				offsets := kadm.Offsets{} // of the replays, too: the metadata of any input would do
				offsets.Add(kadm.Offset{Topic: "ledger-commands-replay", LeaderEpoch: -1})
				if err := admin.CommitAllOffsets(context.Background(), "ledger", offsets); err != nil {
					s.t.Fatal(err)
				}
			}, func(s *scene) {
				s.unknown(streamtest.Loss{Request: lostRequest}, account("n", "k", "add 5"))
				s.c.Pass(time.Minute)
				s.verified()
				s.wantRunsOf(s.t, "n", map[bool]int{true: 2, false: 1}[lostRequest])
				s.goesOn("after")
				s.ranOnce("m0", "waiting", "after")
			})
		})
	}
}
