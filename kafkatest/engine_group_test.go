//go:build kafka

package kafkatest

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/oncemill/oncemill/internal/step"
	"github.com/oncemill/oncemill/kafkatest/workerproc"
)

const tasks = 2 * retailPartitions

// remove takes the static members of a stopped instance out of the group, as an operator does who does not want to wait for
// the session timeout.
func (r *retailRun) remove(instance string) {
	r.t.Helper()
	leave, err := r.admin.LeaveGroup(r.ctx, kadm.LeaveGroup(r.app).InstanceIDs(instance+"-0").Reason("the instance was stopped for good"))
	if err == nil {
		leave.EachError(func(l kadm.LeaveGroupResponse) { err = l.Err })
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// generation is the highest generation that the coordinator has ever noted for the group.
func (r *retailRun) generation() int32 {
	r.t.Helper()
	const groups = "__consumer_offsets"
	ends, err := r.admin.ListEndOffsets(r.ctx, groups)
	if err != nil {
		r.t.Fatal(err)
	}
	reader := newClient(r.t, r.cluster, kgo.ConsumeTopics(groups), kgo.KeepControlRecords(), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	left := map[int32]int64{}
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			left[o.Partition] = o.Offset
		}
	})
	highest := int32(-1)
	for len(left) > 0 {
		fetches := reader.PollFetches(r.ctx)
		if err := r.ctx.Err(); err != nil {
			r.t.Fatalf("reading the groups: %v; left: %v", err, left)
		}
		fetches.EachRecord(func(record *kgo.Record) {
			if record.Offset+1 >= left[record.Partition] {
				delete(left, record.Partition)
			}
			var key kmsg.GroupMetadataKey
			var value kmsg.GroupMetadataValue
			if record.Attrs.IsControl() || key.ReadFrom(record.Key) != nil || key.Version != 2 || key.Group != r.app || value.ReadFrom(record.Value) != nil {
				return
			}
			highest = max(highest, value.Generation)
		})
	}
	return highest
}

// TestASecondInstanceJoinsAndLeaves lets one join and leave in good order, then join again and die.
func TestASecondInstanceJoinsAndLeaves(t *testing.T) {
	r := newRetailRun(t, shared, retailLines)
	dir := t.TempDir()
	one, two := r.spec(dir, "one"), r.spec(dir, "two")
	one.SessionTimeout, two.SessionTimeout = 3*time.Second, 3*time.Second
	quarter := r.feed.Counts().Messages() / 4

	stays := r.start(one)
	r.send(quarter)
	worked(r, stays, tasks)

	comes := r.start(two)
	running(r, comes, tasks/2)
	r.send(quarter)
	worked(r, comes, tasks/2)
	r.stop(comes)
	r.remove("two")

	place := stays.Len()
	r.send(quarter)
	comes = r.start(two)
	running(r, comes, tasks/2)
	worked(r, comes, 1)
	comes.Kill()
	if _, err := stays.WaitAfter(r.ctx, place, is("task assigned")); err != nil {
		t.Fatal(err)
	}
	r.send(0)
	r.awaitEnd()
	r.stop(stays)
	r.judge()
	sameAsChangelogs(r, one.StateDir)
}

// TestZombieIsRefused halts a worker before it commits the positions of a transaction, for longer than its session. Its tasks
// are given to another instance; the commit that it tries when it wakes up must not happen.
func TestZombieIsRefused(t *testing.T) {
	for _, test := range []struct {
		name string
		// wakesLate: after the other instance has committed. Then its transaction has timed out as well, because the other
		// one waits for it: the changelogs end in it.
		wakesLate          bool
		transactionTimeout time.Duration
	}{
		{"after the others have committed", true, 4 * time.Second},
		{"while the others wait for its transaction", false, time.Minute},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRetailRun(t, shared, retailLines/2)
			dir := t.TempDir()
			one, two := r.spec(dir, "one"), r.spec(dir, "two")
			one.SessionTimeout, one.RebalanceTimeout, one.TransactionTimeout = 2*time.Second, 5*time.Second, test.transactionTimeout
			two.SessionTimeout, two.RebalanceTimeout = 6*time.Second, 5*time.Second
			one.Self = []workerproc.SelfSignal{{Step: step.CommitOffsets, Occurrence: 8, Signal: syscall.SIGSTOP}}

			zombie := r.start(one)
			r.send(r.feed.Counts().Messages() / 2)
			if _, err := zombie.Wait(r.ctx, is(workerproc.SelfSignalled)); err != nil {
				t.Fatal(err)
			}
			other := r.start(two)
			if test.wakesLate {
				worked(r, other, retailPartitions)
			} else {
				eachTask(r, other, tasks, "assigned", func(e workerproc.Event) bool {
					return e.Message == workerproc.TaskChanged && e.State == "restoring"
				})
			}
			place := zombie.Len()
			if err := zombie.Resume(); err != nil {
				t.Fatal(err)
			}
			refused, err := zombie.WaitAfter(r.ctx, place, is("transaction aborted"))
			if err != nil {
				t.Fatal(err)
			}
			if !fenced(refused.Cause) {
				t.Errorf("the zombie's commit was not refused: %s", refused.Text)
			}
			r.send(0)
			r.awaitEnd()
			r.stop(other)
			r.remove("two")
			eachTask(r, zombie, tasks, "running again", func(e workerproc.Event) bool {
				place--
				return place < 0 && e.Message == workerproc.TaskChanged && e.State == "running"
			})
			r.stop(zombie)
			r.judge()
			sameAsChangelogs(r, one.StateDir)
		})
	}
}

// fenced says that the positions were refused by the coordinator, because the member or the producer is a former one, or were not
// sent, because the worker had learnt before that it is one. That the coordinator refuses them is TestCoordinatorRefusesAFormerMember.
func fenced(cause string) bool {
	if strings.HasPrefix(cause, "the group has given this member up") {
		return true
	}
	for _, answer := range []string{"UNKNOWN_MEMBER_ID", "ILLEGAL_GENERATION", "FENCED_INSTANCE_ID", "INVALID_PRODUCER_EPOCH", "PRODUCER_FENCED", "INVALID_TXN_STATE"} {
		if strings.Contains(cause, answer) && strings.Contains(cause, "TxnOffsetCommit") {
			return true
		}
	}
	return false
}

// TestRollingRestartWithoutARebalance restarts two instances, one after the other, in good order and by SIGKILL.
func TestRollingRestartWithoutARebalance(t *testing.T) {
	r := newRetailRun(t, shared, retailLines/2)
	dir := t.TempDir()
	specs := []workerproc.Spec{r.spec(dir, "one"), r.spec(dir, "two")}
	processes := make([]*workerproc.Process, len(specs))
	part := r.feed.Counts().Messages() / 5
	for i, spec := range specs {
		processes[i] = r.start(spec)
		running(r, processes[i], tasks/len(specs))
	}
	r.send(part)
	for _, p := range processes {
		worked(r, p, tasks/len(specs))
	}
	generation := r.generation()
	for _, kill := range []bool{false, true} {
		for i, spec := range specs {
			other := processes[1-i]
			place := other.Len()
			if kill {
				processes[i].Kill()
			} else {
				r.stop(processes[i])
			}
			r.send(part)
			processes[i] = r.start(spec)
			running(r, processes[i], tasks/len(specs))
			for _, e := range other.Events()[place:] {
				if e.Message == workerproc.TaskChanged {
					t.Errorf("the restart of %s moved a task of the other: %s", spec.InstanceID, e.Text)
				}
			}
			if now := r.generation(); now != generation {
				t.Errorf("the restart of %s caused a rebalance: generation %d, before %d", spec.InstanceID, now, generation)
			}
		}
	}
	r.send(0)
	r.awaitEnd()
	r.stop(processes...)
	r.judge()
	sameAsChangelogs(r, specs[0].StateDir, specs[1].StateDir)
}

// TestStaticMemberThatDiesBeforeItJoinsAgain kills an instance when it is to give half of its tasks to another one, and starts it again
// within its session. Kafka hands it the assignment without those tasks and does not rebalance; it has to, or they run nowhere.
func TestStaticMemberThatDiesBeforeItJoinsAgain(t *testing.T) {
	r := newRetailRun(t, shared, retailLines/2)
	dir := t.TempDir()
	one, two := r.spec(dir, "one"), r.spec(dir, "two")
	one.SessionTimeout, two.SessionTimeout = 30*time.Second, 30*time.Second
	dies := one
	dies.Self = []workerproc.SelfSignal{{Step: step.Revoke, Occurrence: 1, Signal: syscall.SIGKILL}}

	p := r.start(dies)
	running(r, p, tasks)
	r.send(r.feed.Counts().Messages() / 2)
	worked(r, p, tasks)
	comes := r.start(two)
	if _, err := p.Wait(r.ctx, is(workerproc.SelfSignalled)); err != nil {
		t.Fatal(err)
	}
	p.Kill()
	began := time.Now()
	p = r.start(one)
	running(r, p, tasks/2)
	running(r, comes, tasks/2)
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("all tasks run after %v: something else than the restart has caused the rebalance", took)
	}
	r.send(0)
	r.awaitEnd()
	r.stop(p, comes)
	r.judge()
	sameAsChangelogs(r, one.StateDir, two.StateDir)
}
