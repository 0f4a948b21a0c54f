package enumeration_test

import (
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/internal/step"
	"github.com/oncemill/oncemill/streamtest"
)

// story is a script that an application goes through.
type story struct {
	name            string
	app             func() application
	script          func(r *run)
	oldTransactions bool
	configure       func(process string, cfg *oncemill.Config)
	// own are the steps that only this story has: the others are struck in the stories before it. Nil is all.
	own []step.Step
	// from is the first phase that is not told by a story before it.
	from string
	// varying says that outputs carry offsets of records within the application, which move with each fault.
	varying bool
}

// stories are all of them. The first has the small workload: three messages, two keys, one of them twice, and a timer.
func stories() []*story {
	return []*story{
		{name: "alone", app: newLedger, script: alone},
		{name: "moves", app: newLedger, script: moves, configure: rarely, from: "join"},
		{name: "sales", app: newSales, script: through, configure: rarely, varying: true},
		{name: "aborts", app: newLedger, script: aborts, own: []step.Step{step.Aborting, step.AbortTxn}},
		{name: "unsure", app: newLedger, script: unknown, own: []step.Step{step.Resolve, step.Decide, step.Resolved, step.Fence}},
		{name: "old", app: newLedger, script: alone, own: []step.Step{step.AddOffsets, step.EndTxn},
			oldTransactions: true},
		{name: "gone", app: newLedger, script: gone, own: []step.Step{step.LookFor}},
		{name: "doubt", app: newLedger, script: doubt, own: []step.Step{step.AskLeader}},
		{name: "expired", app: newLedger, script: expired, own: []step.Step{step.Drop, step.Excise}},
		{name: "chunks", app: newLedger, script: chunks, own: []step.Step{step.WriteChunk, step.Ingest}},
		{name: "removal", app: newShrinking, script: removal, from: "removal", own: []step.Step{step.ForgetStores, step.Excise, step.OpenStore}},
		{name: "away", app: newLedger, script: away, own: []step.Step{step.Lost}},
	}
}

// rarely leaves checkpoints to clean stops: else in which phase one comes would depend on how long the one before took.
func rarely(_ string, cfg *oncemill.Config) { cfg.CheckpointInterval = time.Hour }

func storyNamed(name string) *story {
	for _, s := range stories() {
		if s.name == name {
			return s
		}
	}
	return nil
}

// faulty reports that the story itself has a fault; one that goes on from another has none.
func (s *story) faulty() bool { return s.own != nil && s.from == "" }

// owns reports that a story is there for a step.
func (s *story) owns(at step.Step) bool {
	if s.own == nil {
		return true
	}
	place, _ := step.Of(at)
	for _, o := range s.own {
		if o == place.Step {
			return true
		}
	}
	return false
}

var (
	m0    = command("m0", "k0", "add 1").On(0)
	m1    = command("m1", "k1", "alarm x 4").On(1)
	m2    = command("m2", "k1", "add 5").On(1)
	plain = command("m1", "k1", "add 2").On(1)
	m3    = command("m3", "k0", "add 7").On(0)
)

// begin starts a and lets it process some messages.
func begin(r *run, messages ...streamtest.Message) {
	r.enter("start")
	r.start("a")
	r.balanced(1)
	r.pass(rest)
	r.enter("work")
	r.send(messages...)
	r.settled()
}

// alone is the story of one process.
func alone(r *run) {
	begin(r, m0, m1, m0)
	r.enter("timer")
	r.outputs(2)
	r.enter("checkpoint")
	r.pass(checkpointInterval + time.Second)
	r.enter("stop")
	r.send(m2)
	r.until("the last message to be under way", func() bool { return r.app.runs().of("m2") > 0 })
	atRest()
	r.stop("a")
}

// moves is the story of tasks that move to another process and back.
func moves(r *run) {
	begin(r, m0, plain)
	r.enter("join")
	r.start("b")
	r.balanced(2)
	r.pass(rest)
	r.enter("more")
	r.send(m2)
	r.settled()
	r.enter("leave")
	r.stop("a")
	r.enter("takeover")
	r.balanced(1)
	r.enter("back")
	r.send(m3)
	r.settled()
	r.enter("return")
	r.start("a")
	r.balanced(2)
	r.pass(rest)
}

// through is the story of two sub-topologies, until processed records of the topic between them are deleted.
func through(r *run) {
	begin(r, streamtest.Text("c0", "p0 p1").With(idName, "l0"), streamtest.Text("c1", "p1").With(idName, "l1"), streamtest.Text("c0", "p0 p1").With(idName, "l0"))
	r.enter("clean")
	r.pass(31 * time.Second)
	r.enter("stop")
	r.send(streamtest.Text("c0", "p0 p2").With(idName, "l2"))
	r.until("the last line to be under way", func() bool { return r.app.runs().of("l2") > 0 })
	atRest()
	r.stop("a")
	r.enter("again")
	r.start("a")
	r.settled()
	r.balanced(1)
}

// aborts is a transaction that the brokers refuse.
func aborts(r *run) {
	refused(r, "abort", func() *kfake.FaultHandle { return r.c.Refuse(kmsg.TxnOffsetCommit, kerr.InvalidProducerEpoch, 1) })
}

// refused is the story of a message during which something is refused.
func refused(r *run, phase string, refuse func() *kfake.FaultHandle) {
	begin(r, m0)
	r.enter(phase)
	refusal := refuse()
	r.send(m2)
	r.settled()
	r.ended("the refusal", refusal.Hits)
}

// unknown is a transaction whose answer does not come.
func unknown(r *run) {
	begin(r, m0)
	r.enter("unknown")
	loss := r.c.Lose(streamtest.Loss{Key: kmsg.EndTxn, Times: -1})
	r.atResolve(loss.Remove)
	r.send(m2)
	r.settled()
	r.ended("the loss", loss.Hits)
	r.enter("after")
	r.send(m3)
	r.settled()
}

// gone is a topic that a broker does not know for a moment.
func gone(r *run) {
	refused(r, "gone", func() *kfake.FaultHandle {
		return r.c.Broker().Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "events", Err: kerr.UnknownTopicOrPartition, Count: 6})
	})
}

// doubt is an input that seems to have lost records.
func doubt(r *run) {
	refused(r, "doubt", func() *kfake.FaultHandle { return r.c.Refuse(kmsg.Fetch, kerr.OffsetOutOfRange, 1) })
}

// expired is a process that comes back after longer than tombstones are kept.
func expired(r *run) {
	begin(r, m0, plain)
	r.stop("a")
	r.enter("other")
	r.start("b")
	r.balanced(1)
	r.send(m2)
	r.settled()
	r.stop("b")
	r.enter("absence")
	<-time.After(25 * time.Hour) // nothing runs
	r.enter("return")
	r.start("a")
	r.balanced(1)
	r.send(m3)
	r.settled()
}

// chunks is a restore that stands still in the middle.
func chunks(r *run) {
	begin(r, m0, plain)
	r.stop("a")
	r.enter("restore")
	refused := r.c.Broker().Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: "ledger-commands-markers-changelog", Err: kerr.NotLeaderForPartition, Count: -1})
	r.start("b")
	r.until("the changelogs to be read", func() bool { return r.taken(step.ReadLogs) > 0 })
	r.pass(3 * time.Second)
	refused.Remove()
	r.balanced(1)
	r.send(m2)
	r.settled()
	r.ended("the refusal", refused.Hits)
}

// away is a process whose tasks are given to another while it is off the network.
func away(r *run) {
	begin(r, m0, plain)
	r.enter("away")
	a := r.actor("a")
	a.Isolate()
	r.start("b")
	r.until("the other to have the tasks", func() bool {
		return r.runningWithout(nil) == r.app.tasks() && r.taken(step.Start) > 0
	})
	r.send(m2)
	r.settled()
	r.enter("home")
	if a == r.actor("a") && a.Running() {
		a.Heal()
	}
	r.balanced(2)
	r.send(m3)
	r.settled()
}
