package streamtest_test

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/internal/step"
	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/streamtest"
	"github.com/oncemill/oncemill/topology"
)

// refusing makes the brokers refuse every batch of outputs that holds the text outside of a dead letter.
func refusing(c *streamtest.Cluster, text string) {
	onEach(c, func(p *kmsg.ProduceRequest) kmsg.Response {
		refused := false
		if p.TransactionID == nil {
			return nil // the test's own
		}
		for _, topic := range p.Topics {
			for _, part := range topic.Partitions {
				refused = refused || strings.Contains(string(part.Records), text) && strings.Contains(string(part.Records), "oncemill-cause") &&
					!strings.Contains(string(part.Records), "__streams.errors")
			}
		}
		if !refused {
			return nil
		}
		return produced(p, func(_ kmsg.ProduceRequestTopic, out *kmsg.ProduceResponseTopicPartition) {
			out.ErrorCode = kerr.InvalidRecord.Code
		})
	})
}

// TestRefusedOutputOfATaskWithTwoInputs: the refusal of a record is remembered until the next confirmed transaction of its task, of
// whatever input. Records of the other input that commit before it make the task forget it: the record fails again.
func TestRefusedOutputOfATaskWithTwoInputs(t *testing.T) {
	t.Parallel()
	topo := topology.New("two")
	topo.Defaults(processor.Policies{Produce: processor.DeadLetter()})
	x := topology.Source(topo, "x", "x", serde.String(), serde.String())
	y := topology.Source(topo, "y", "y", serde.String(), serde.String())
	both := topology.Merge(topo, "both", x, y)
	topology.Sink(topo, "out", both, "out", serde.String(), serde.String())
	streamtest.Simulate(t, streamtest.ClusterOptions{Topology: topo}, func(t *testing.T, c *streamtest.Cluster) {
		a := c.Start("a")
		c.AwaitTasks(1)
		refusing(c, "poison")
		c.Produce("x", streamtest.Text("k", "poison"))
		for i := range 400 {
			c.Produce("y", streamtest.Text("k", fmt.Sprint("y", i)))
			c.Pass(5 * time.Millisecond)
		}
		c.AwaitCommitted("out", 400)
		c.Pass(10 * time.Second)
		if letters := c.Committed("two-dead-letters"); len(letters) != 1 {
			t.Fatalf("%d dead letters", len(letters))
		}
		if n := a.Steps(string(step.Aborting)); n > 3 {
			t.Fatalf("%d aborts for one refused record, want one for its batch and one for it alone", n)
		}
	})
}

// TestRefusedOutputNextToATimer: a timer is due when the poison record comes. The transaction that is meant to hold the record
// alone holds the timer's output too; the broker refuses the batch, the first promise is the timer's, and the application ends.
func TestRefusedOutputNextToATimer(t *testing.T) {
	t.Parallel()
	l := newLedger(ledgerOptions{produce: processor.DeadLetter(), process: processor.DeadLetter(), timer: processor.DeadLetter()})
	l.simulate(t, streamtest.ClusterOptions{}, func(t *testing.T, c *streamtest.Cluster) {
		a := c.Start("a")
		c.Produce("commands", account("m", "k", "alarm x 60"))
		c.Settle()
		if err := a.Stop(); err != nil {
			t.Fatal(err)
		}
		c.Pass(2 * time.Minute)
		c.Produce("commands", account("n", "poison", "add 1"))
		c.Broker().Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "events", Err: kerr.InvalidRecord, Count: 2})
		a.Start()
		c.Pass(time.Minute)
		if !a.Running() {
			t.Fatalf("the process has ended: %v", a.Wait())
		}
		if letters, rings := c.Committed(ledgerLetters), c.Committed("events"); len(letters) != 1 || len(rings) != 1 {
			t.Fatalf("%d dead letters, %d events", len(letters), len(rings))
		}
	})
}

// TestRefusedOutputOfATimer: a timer has a policy too.
func TestRefusedOutputOfATimer(t *testing.T) {
	t.Parallel()
	l := newLedger(ledgerOptions{produce: processor.DeadLetter(), process: processor.DeadLetter(), timer: processor.DeadLetter()})
	l.simulate(t, streamtest.ClusterOptions{}, func(t *testing.T, c *streamtest.Cluster) {
		a := c.Start("a")
		refusing(c, "poison")
		c.Produce("commands", account("m", "poison", "alarm x 60"))
		c.Pass(2 * time.Minute)
		if !a.Running() {
			t.Fatalf("the process has ended: %v", a.Wait())
		}
		if letters := c.Committed(ledgerLetters); len(letters) != 1 {
			t.Fatalf("%d dead letters", len(letters))
		}
	})
}

// TestRefusedOutputsOfParkedRecords: two parked records come back in one transaction, and the broker refuses their outputs. There
// are several steps, so nobody is blamed; there are no positions, so nothing runs alone: the same for five minutes, then the end.
func TestRefusedOutputsOfParkedRecords(t *testing.T) {
	t.Parallel()
	topo := topology.New("come-back")
	topo.Defaults(processor.Policies{Produce: processor.DeadLetter()})
	start := time.Now()
	in := topology.Source(topo, "in", "in", serde.String(), serde.String())
	out := topology.Process(topo, "later", in, func(ctx *processor.Context[string, string], r record.Record[string, string]) error {
		if ctx.Now().Sub(start) < 20*time.Second {
			return errHandler
		}
		return ctx.Forward(r)
	}, topology.OnFailure(processor.DelayedRetry(processor.DeadLetter(), 30*time.Second)))
	topology.Sink(topo, "out", out, "out", serde.String(), serde.String())
	streamtest.Simulate(t, streamtest.ClusterOptions{Topology: topo}, func(t *testing.T, c *streamtest.Cluster) {
		start = time.Now()
		a := c.Start("a")
		c.AwaitTasks(1)
		c.Broker().Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "out", Err: kerr.InvalidRecord, Count: -1})
		c.Produce("in", streamtest.Text("k", "x"), streamtest.Text("l", "y"))
		c.Pass(10 * time.Minute)
		if !a.Running() {
			t.Fatalf("after %d aborts the process has ended: %v", a.Steps(string(step.Aborting)), a.Wait())
		}
		if letters := c.Committed("come-back-dead-letters"); len(letters) != 2 {
			t.Fatalf("%d dead letters, want 2", len(letters))
		}
	})
}

// TestSlowTimersOfTwoTasks: a backlog of timers on two tasks, 300 of 50 ms each. The outputs of the first task open the broker's
// transaction, the timers of the second outlast it; there are no records that could run alone, so the same transaction is
// tried for ever.
func TestSlowTimersOfTwoTasks(t *testing.T) {
	t.Parallel()
	topo := topology.New("bells")
	store := statestore.KeyValue("bells", serde.String(), serde.String())
	in := topology.Source(topo, "in", "in", serde.String(), serde.String())
	var due time.Time
	out := topology.Process(topo, "set", in, func(ctx *processor.Context[string, string], r record.Record[string, string]) error {
		if err := store.Put(ctx, r.Key, r.Value); err != nil {
			return err
		}
		n, err := strconv.Atoi(r.Value)
		for i := 0; i < n && err == nil; i++ {
			err = store.Schedule(ctx, r.Key, statestore.Timer{Name: fmt.Sprint(i), Clock: statestore.WallClock, At: due})
		}
		return err
	}, topology.OnTimer(store, func(ctx *processor.Context[string, string], key string, timer statestore.Timer) error {
		<-time.After(50 * time.Millisecond)
		return ctx.Forward(record.New(key, timer.Name))
	}))
	topology.Sink(topo, "out", out, "out", serde.String(), serde.String())
	streamtest.Simulate(t, streamtest.ClusterOptions{Topology: topo, Partitions: 2}, func(t *testing.T, c *streamtest.Cluster) {
		due = time.Now().Add(time.Minute)
		a := c.Start("a")
		c.Produce("in", streamtest.Text("k", "300").On(0), streamtest.Text("l", "300").On(1))
		c.Pass(10 * time.Minute)
		if !a.Running() {
			t.Fatalf("%d of 600 timers after %d aborts; the process has ended: %v", len(c.Committed("out")), a.Steps(string(step.Aborting)), a.Wait())
		}
		c.AwaitCommitted("out", 600)
		if n := a.Steps(string(step.Aborting)); n > 0 {
			t.Errorf("%d aborts: the timers of one task left too little time for those of the other", n)
		}
	})
}

// TestEveryRefusedStepMeetsItsPolicy: records, timers and parked records of two tasks, due together, and the brokers refuse what some of
// them forward. Whatever else shares their transactions, each of those is one dead letter, and everything else comes out once.
func TestEveryRefusedStepMeetsItsPolicy(t *testing.T) {
	t.Parallel()
	for seed := range uint64(12 / raceSample) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			topo := topology.New("mixed")
			topo.Defaults(processor.Policies{Produce: processor.RetryInPlace(processor.DeadLetter(), 2*time.Second)})
			store := statestore.KeyValue("alarms", serde.String(), serde.String())
			var begin time.Time
			in := topology.Source(topo, "in", "in", serde.String(), serde.String())
			set := func(ctx *processor.Context[string, string], r record.Record[string, string]) error {
				if err := store.Put(ctx, r.Key, r.Value); err != nil {
					return err
				}
				switch kind, _, _ := strings.Cut(r.Value, " "); {
				case kind == "timer":
					return store.Schedule(ctx, r.Key, statestore.Timer{Name: r.Value, Clock: statestore.WallClock, At: begin.Add(time.Minute)})
				case kind == "parked" && ctx.Now().Sub(begin) < 30*time.Second:
					return errHandler
				}
				return ctx.Forward(r)
			}
			out := topology.Process(topo, "step", in, set, topology.OnFailure(processor.DelayedRetry(processor.DeadLetter(), time.Minute)),
				topology.OnTimer(store, func(ctx *processor.Context[string, string], key string, timer statestore.Timer) error {
					return ctx.Forward(record.New(key, timer.Name))
				}))
			topology.Sink(topo, "out", out, "out", serde.String(), serde.String())
			streamtest.Simulate(t, streamtest.ClusterOptions{Topology: topo, Partitions: 2, Seed: seed}, func(t *testing.T, c *streamtest.Cluster) {
				begin = time.Now()
				a := c.Start("a")
				c.AwaitTasks(2)
				refusing(c, "poison")
				poison, sent := map[string]bool{}, 0
				produce := func(kinds ...string) {
					var all []streamtest.Message
					for range 8 {
						text := fmt.Sprint(kinds[random.IntN(len(kinds))], " ", sent)
						if random.IntN(4) == 0 {
							text += " poison"
							poison[text] = true
						}
						all = append(all, streamtest.Text(fmt.Sprint("k", sent), text).On(int32(random.IntN(2))))
						sent++
					}
					c.Produce("in", all...)
				}
				produce("timer", "parked", "record")
				c.Pass(55 * time.Second)
				cut := a.FreezeAt(string(step.Poll), 1) // so that all of it is due together
				cut.Await()
				produce("record")
				c.Pass(20 * time.Second)
				cut.Thaw()
				c.Pass(5 * time.Minute)
				if !a.Running() {
					t.Fatalf("after %d aborts the process has ended: %v", a.Steps(string(step.Aborting)), a.Wait())
				}
				c.Settle()
				got := map[string]int{}
				for _, r := range c.Committed("out") {
					got[string(r.Value)]++
					if poison[string(r.Value)] || got[string(r.Value)] > 1 {
						t.Errorf("%q came out, %d times", r.Value, got[string(r.Value)])
					}
				}
				if letters := len(c.Committed("mixed-dead-letters")); letters != len(poison) || len(got) != sent-len(poison) {
					t.Errorf("%d dead letters for %d refused steps, %d outputs for the %d others", letters, len(poison), len(got), sent-len(poison))
				}
				c.CheckState()
			})
		})
	}
}

// A changelog that refuses what a record writes, for whatever reason, is a failure of that record, found by running it alone.
func TestRefusedStateMeetsTheProcessPolicy(t *testing.T) {
	t.Parallel()
	l := newLedger(ledgerOptions{process: processor.DeadLetter(), timer: processor.DeadLetter()})
	l.simulate(t, streamtest.ClusterOptions{}, func(t *testing.T, c *streamtest.Cluster) {
		a := c.Start("a")
		c.AwaitTasks(1)
		c.Broker().Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: balancesLog, Err: kerr.MessageTooLarge, Count: -1,
			When: func(req kmsg.Request) bool {
				for _, topic := range req.(*kmsg.ProduceRequest).Topics {
					for _, part := range topic.Partitions {
						if strings.Contains(string(part.Records), "poison") {
							return true
						}
					}
				}
				return false
			}})
		c.Produce("commands", account("m1", "k", "add 1"), account("m2", "poison", "add 1"), account("m3", "k", "add 1"))
		c.AwaitCommitted("events", 2)
		if letters := c.AwaitCommitted(ledgerLetters, 1); len(letters) != 1 || string(letters[0].Key) != "poison" {
			t.Fatalf("%d dead letters", len(letters))
		}
		if n := a.Steps(string(step.Aborting)); n != 2 {
			t.Errorf("%d aborts, want one of all and one of the record alone", n)
		}
		c.Settle()
		c.CheckState()
	})
}

// A changelog that refuses what the failure of a record writes, too, has nothing left to try: the application ends at once, with the
// place of the record, and goes on with it when the changelog takes it.
func TestRefusedFailureEndsTheApplication(t *testing.T) {
	t.Parallel()
	l := newLedger(ledgerOptions{process: processor.DeadLetter()})
	l.simulate(t, streamtest.ClusterOptions{}, func(t *testing.T, c *streamtest.Cluster) {
		a := c.Start("a")
		c.Produce("commands", account("m1", "k", "add 1"))
		c.AwaitCommitted("events", 1)
		refused := c.Broker().Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "ledger-commands-markers-changelog", Err: kerr.MessageTooLarge, Count: -1})
		c.Produce("commands", account("m2", "k", "add 1"))
		if err := a.Wait(); problem.CodeOf(err) != problem.ProduceFailed {
			t.Fatalf("it ended with %v", err)
		}
		if n := a.Steps(string(step.Aborting)); n != 2 {
			t.Errorf("%d aborts, want one of the record and one of its failure", n)
		}
		refused.Remove()
		a.Start()
		c.AwaitCommitted("events", 2)
		c.Settle()
		c.CheckState()
	})
}

// A record that waited in vain, and is too slow when it comes back, is refused like any other.
func TestSlowParkedRecord(t *testing.T) {
	t.Parallel()
	topo := topology.New("slow")
	topo.Defaults(processor.Policies{Process: processor.Skip()})
	runs := 0
	in := topology.Source(topo, "in", "in", serde.String(), serde.String())
	out := topology.Process(topo, "later", in, func(ctx *processor.Context[string, string], r record.Record[string, string]) error {
		if runs++; runs == 1 {
			return errHandler
		}
		<-time.After(15 * time.Second)
		return ctx.Forward(r)
	}, topology.OnFailure(processor.DelayedRetry(processor.DeadLetter(), time.Minute)))
	topology.Sink(topo, "out", out, "out", serde.String(), serde.String())
	streamtest.Simulate(t, streamtest.ClusterOptions{Topology: topo}, func(t *testing.T, c *streamtest.Cluster) {
		a := c.Start("a")
		c.AwaitTasks(1)
		told := 1 // what a broker says after its timeout, once for each slow run
		late := c.Broker().Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "out", Err: kerr.InvalidProducerEpoch, Count: -1,
			When: func(kmsg.Request) bool {
				before := told
				told = runs
				return told > before
			}})
		c.Produce("in", streamtest.Text("k", "x"))
		c.Pass(10 * time.Minute)
		if !a.Running() {
			t.Fatalf("the process has ended: %v", a.Wait())
		}
		c.Settle()
		if late.Hits() != 2 || runs != 3 || len(c.Committed("out")) != 0 {
			t.Errorf("%d requests were refused, %d runs, %d outputs", late.Hits(), runs, len(c.Committed("out")))
		}
	})
}

// A duplicate is answered with the outputs of the first run. When the broker does not take them any more, the produce policy of the
// source decides, and the marker keeps them.
func TestRefusedOutputsOfADuplicate(t *testing.T) {
	t.Parallel()
	l := newLedger(ledgerOptions{produce: processor.DeadLetter(), duplicate: dedup.ReplayOutputs})
	l.simulate(t, streamtest.ClusterOptions{}, func(t *testing.T, c *streamtest.Cluster) {
		a := c.Start("a")
		c.Produce("commands", account("m", "k", "add 7"))
		c.AwaitCommitted("events", 1)
		refused := c.Broker().Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "events", Err: kerr.PolicyViolation, Count: -1})
		c.Produce("commands", account("m", "k", "add 7"))
		c.Pass(time.Minute)
		if !a.Running() {
			t.Fatalf("the process has ended: %v", a.Wait())
		}
		if letters := c.Committed(ledgerLetters); len(letters) != 1 {
			t.Fatalf("%d dead letters", len(letters))
		}
		refused.Remove()
		c.Produce("commands", account("m", "k", "add 7"))
		c.AwaitCommitted("events", 2)
		c.Settle()
		c.CheckState()
	})
}

// What a broker refused would be refused again: a retry in place counts as exhausted, and nothing waits while a transaction is open.
func TestRefusedOutputIsNotTriedInPlace(t *testing.T) {
	t.Parallel()
	topo := topology.New("refused")
	topo.Defaults(processor.Policies{Produce: processor.RetryInPlace(processor.DelayedRetry(processor.DeadLetter(), time.Minute), time.Second, time.Second)})
	in := topology.Source(topo, "in", "in", serde.String(), serde.String())
	topology.Sink(topo, "out", in, "out", serde.String(), serde.String())
	d := streamtest.New(t, topo, streamtest.Options{Refuse: func(topic string, r *record.Raw) error {
		if topic == "out" && string(r.Value) == "bad" {
			return kerr.MessageTooLarge
		}
		return nil
	}})
	d.Pipe("in", streamtest.Text("k", "bad"), streamtest.Text("k", "good"))
	d.Commit()
	if len(d.Parked()) != 1 || len(d.Output("out")) != 1 {
		t.Fatalf("%d parked, %d outputs", len(d.Parked()), len(d.Output("out")))
	}
	d.Advance(2 * time.Minute)
	d.Commit()
	if len(d.DeadLetters()) != 1 || len(d.Parked()) != 0 || len(d.Waits()) != 0 {
		t.Errorf("%d dead letters, %d parked, %d waits", len(d.DeadLetters()), len(d.Parked()), len(d.Waits()))
	}
}
