package streamtest_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/internal/step"
	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/streamtest"
	"github.com/oncemill/oncemill/topology"
)

// A broker that has just come up and does not know a topic yet answers so. That is an outage,
// no reason to end the application or to give a record up.
func TestTransientUnknownTopicOnFetch(t *testing.T) {
	t.Parallel()
	l := newLedger(ledgerOptions{})
	l.simulate(t, streamtest.ClusterOptions{}, func(t *testing.T, c *streamtest.Cluster) {
		a := c.Start("a")
		c.AwaitTasks(1)
		c.Broker().Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: "commands", Err: kerr.UnknownTopicOrPartition, Count: 1})
		c.Produce("commands", account("m", "k", "add 5"))
		c.Pass(time.Minute)
		if !a.Running() {
			t.Fatalf("the process has ended: %v", a.Wait())
		}
		l.verify(t, c, l.judge(c))
	})
}

// Nor is it one when an output is produced, however often it is said: the topic is there.
func TestTransientUnknownTopicOnProduce(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 3, 10} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			l := newLedger(ledgerOptions{produce: processor.DeadLetter()})
			l.simulate(t, streamtest.ClusterOptions{}, func(t *testing.T, c *streamtest.Cluster) {
				c.Start("a")
				c.AwaitTasks(1)
				c.Broker().Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Topic: "events", Err: kerr.UnknownTopicOrPartition, Count: n})
				c.Produce("commands", account("m", "k", "add 5"))
				c.Pass(time.Minute)
				if letters := c.Committed(ledgerLetters); len(letters) != 0 {
					t.Fatalf("a good record is a dead letter: %s", streamtest.Header(letters[0], "__streams.errors.message"))
				}
				l.verify(t, c, l.judge(c))
			})
		})
	}
}

// TestDynamicTopicFirstMetDuringAnOutage: the brokers cannot be asked for a topic. That says nothing about the record.
func TestDynamicTopicFirstMetDuringAnOutage(t *testing.T) {
	t.Parallel()
	topo := topology.New("dynamic")
	topo.Defaults(processor.Policies{Encode: processor.Skip()})
	in := topology.Source(topo, "in", "in", serde.String(), serde.String())
	topology.SinkTo(topo, "out", in, func(r record.Record[string, string]) string { return r.Value }, serde.String(), serde.String())
	o := streamtest.ClusterOptions{Topology: topo, Topics: map[string]int32{"out-1": 1, "out-2": 1}}
	streamtest.Simulate(t, o, func(t *testing.T, c *streamtest.Cluster) {
		a := c.Start("a")
		c.Produce("in", streamtest.Text("k", "out-1"))
		c.AwaitCommitted("out-1", 1)
		cut := a.CallAt(string(step.Process), 1, a.Isolate)
		c.Produce("in", streamtest.Text("k", "out-2"))
		cut.Await()
		c.Pass(30 * time.Second)
		a.Heal()
		c.Pass(2 * time.Minute)
		if !a.Running() {
			t.Fatalf("the process has ended: %v", a.Wait())
		}
		c.Settle()
		if n := len(c.Committed("out-2")); n != 1 {
			t.Fatalf("%d records in out-2: a good record was skipped for an outage", n)
		}
	})
}

// A topic of the topology that is gone is nobody's fault: the application stops, and loses nothing.
func TestSinkTopicThatIsGone(t *testing.T) {
	t.Parallel()
	l := newLedger(ledgerOptions{produce: processor.DeadLetter(), process: processor.DeadLetter()})
	l.simulate(t, streamtest.ClusterOptions{}, func(t *testing.T, c *streamtest.Cluster) {
		a := c.Start("a")
		c.Produce("commands", account("m1", "k", "add 1"))
		c.AwaitCommitted("events", 1)
		if err := c.Broker().DeleteTopic("events"); err != nil {
			t.Fatal(err)
		}
		c.Produce("commands", account("m2", "k", "add 1"))
		began := time.Now()
		if err := a.Wait(); problem.CodeOf(err) != problem.TopicMissing || !strings.Contains(err.Error(), `"events"`) {
			t.Fatalf("the process ended with %v", err)
		}
		if took := time.Since(began); took < 10*time.Second || took > time.Minute {
			t.Errorf("it was believed to be gone after %v", took)
		}
		if n := len(c.Committed(ledgerLetters)); n != 0 {
			t.Errorf("%d dead letters", n)
		}
		if err := c.Broker().CreateTopic("events", 1, nil); err != nil {
			t.Fatal(err)
		}
		a.Start()
		if got := c.AwaitCommitted("events", 1); string(got[0].Value) != "2" {
			t.Errorf("the output is %q", got[0].Value)
		}
	})
}

// A topic that a record names, and that is gone, is the fault of the records that name it: of those whose outputs were on their way it
// meets the produce policy, of later ones the encode policy. When it comes back, it is used again.
func TestDynamicTopicThatIsGone(t *testing.T) {
	t.Parallel()
	topo := topology.New("dynamic")
	topo.Defaults(processor.Policies{Produce: processor.DeadLetter(), Encode: processor.DeadLetter()})
	in := topology.Source(topo, "in", "in", serde.String(), serde.String())
	topology.SinkTo(topo, "out", in, func(r record.Record[string, string]) string { return r.Value }, serde.String(), serde.String())
	o := streamtest.ClusterOptions{Topology: topo, Topics: map[string]int32{"out-1": 1, "out-2": 1}}
	streamtest.Simulate(t, o, func(t *testing.T, c *streamtest.Cluster) {
		a := c.Start("a")
		c.Produce("in", streamtest.Text("k", "out-1"), streamtest.Text("k", "out-2"))
		c.AwaitCommitted("out-2", 1)
		if err := c.Broker().DeleteTopic("out-1"); err != nil {
			t.Fatal(err)
		}
		cut := a.FreezeAt(string(step.Poll), 1)
		c.Produce("in", streamtest.Text("k", "out-1"), streamtest.Text("k", "out-2"), streamtest.Text("k", "out-1"))
		cut.Await()
		cut.Thaw()
		c.AwaitCommitted("out-2", 2)
		c.Produce("in", streamtest.Text("k", "out-1"))
		letters := c.AwaitCommitted("dynamic-dead-letters", 3)
		for i, want := range []problem.Code{problem.ProduceFailed, problem.ProduceFailed, problem.UnknownTopic} {
			if got := streamtest.Header(letters[i], "__streams.errors.exception"); got != string(want) {
				t.Errorf("dead letter %d says %s, want %s", i, got, want)
			}
		}
		if err := c.Broker().CreateTopic("out-1", 3, nil); err != nil {
			t.Fatal(err)
		}
		c.Pass(10 * time.Second) // the client remembers for five that it was not there
		c.Produce("in", streamtest.Text("k", "out-1"))
		c.AwaitCommitted("out-1", 1)
		if !a.Running() {
			t.Fatalf("the process has ended: %v", a.Wait())
		}
	})
}

// A sink topic that was deleted and made again under a running application is written on; the client alone would hold on to the old one.
func TestSinkTopicThatIsMadeAgain(t *testing.T) {
	t.Parallel()
	l := newLedger(ledgerOptions{produce: processor.DeadLetter()})
	l.simulate(t, streamtest.ClusterOptions{}, func(t *testing.T, c *streamtest.Cluster) {
		a := c.Start("a")
		c.Produce("commands", account("m1", "k", "add 1"))
		c.AwaitCommitted("events", 1)
		c.Recreate("events")
		c.Produce("commands", account("m2", "k", "add 1"))
		c.Pass(2 * time.Minute)
		if !a.Running() {
			t.Fatalf("the process has ended: %v", a.Wait())
		}
		c.Settle()
		if got := c.Committed("events"); len(got) != 1 || string(got[0].Value) != "2" {
			t.Errorf("%d events", len(got))
		}
	})
}

// A changelog that was made again is empty: the application stops before it writes on as if nothing had happened.
func TestChangelogThatIsMadeAgainStops(t *testing.T) {
	t.Parallel()
	l := newLedger(ledgerOptions{process: processor.DeadLetter()})
	l.simulate(t, streamtest.ClusterOptions{}, func(t *testing.T, c *streamtest.Cluster) {
		a := c.Start("a")
		c.Produce("commands", account("m1", "k", "add 1"))
		c.AwaitCommitted("events", 1)
		c.Recreate(balancesLog)
		c.Produce("commands", account("m2", "k", "add 1"))
		if err := a.Wait(); problem.CodeOf(err) != problem.TopicRecreated || !strings.Contains(err.Error(), balancesLog) {
			t.Fatalf("the process ended with %v", err)
		}
	})
}
