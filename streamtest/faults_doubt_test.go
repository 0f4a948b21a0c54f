package streamtest_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/internal/step"
	"github.com/oncemill/oncemill/streamtest"
)

// One partition whose leader is away, and of which the client says that it has lost records, keeps neither the others nor a stop
// waiting.
func TestPartitionThatCannotBeAskedKeepsNothingElse(t *testing.T) {
	t.Parallel()
	said := &warnings{}
	o := streamtest.ClusterOptions{Topology: passing(), Partitions: 2, Configure: configure(func(cfg *oncemill.Config) { cfg.Logger = slog.New(said) })}
	streamtest.Simulate(t, o, func(t *testing.T, c *streamtest.Cluster) {
		a, away := unasked(c)
		c.Produce("in", streamtest.Text("k", "z").On(1))
		c.Pass(3 * time.Minute)
		if got := c.Committed("out"); len(got) != 3 {
			t.Errorf("%d outputs, want 3: partition 1 stands still", len(got))
		}
		if n := said.count("its leader does not answer"); n != 1 {
			t.Errorf("%d warnings in 3 minutes: %q", n, said.text)
		}
		if err := a.Stop(); err != nil {
			t.Errorf("a clean stop: %v", err)
		}
		away.Remove()
	})
}

// unasked starts an application of two partitions: the client is told that the position in the first one is out of range, and its leader
// cannot be asked until the fault is removed.
func unasked(c *streamtest.Cluster) (*streamtest.Process, *kfake.FaultHandle) {
	a := c.Start("a")
	c.AwaitTasks(2)
	c.Produce("in", streamtest.Text("k", "x").On(0), streamtest.Text("k", "y").On(1))
	c.AwaitCommitted("out", 2)
	c.Settle()
	c.Broker().Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: "in", Partitions: []int32{0}, Err: kerr.OffsetOutOfRange, Count: 1})
	away := c.Broker().Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.ListOffsets}, Topic: "in", Partitions: []int32{0}, Err: kerr.NotLeaderForPartition, Count: -1})
	c.Until("the leader to be asked", func() bool { return away.Hits() > 0 })
	return a, away
}

// A partition of which the client says that it has lost records is not read before its leader has answered, also after a rollback, and
// then goes on where it was.
func TestPartitionThatCannotBeAskedGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	streamtest.Simulate(t, streamtest.ClusterOptions{Topology: passing(), Partitions: 2}, func(t *testing.T, c *streamtest.Cluster) {
		a, away := unasked(c)
		f := c.Lose(streamtest.Loss{Key: kmsg.EndTxn, Request: true, Times: -1})
		c.Produce("in", streamtest.Text("k", "late").On(0), streamtest.Text("k", "z").On(1))
		c.Until("the transaction to be resolved", func() bool { return a.Steps(string(step.Resolve)) > 0 })
		f.Remove()
		c.Pass(time.Minute)
		if got := c.Committed("out"); len(got) != 3 || string(got[2].Value) == "late" {
			t.Fatalf("%d outputs, want 3: nothing of partition 0", len(got))
		}
		away.Remove()
		c.Pass(time.Minute)
		values := map[string]int{}
		for _, r := range c.Committed("out") {
			values[string(r.Value)]++
		}
		if len(values) != 4 || values["late"] != 1 || values["z"] != 1 || !a.Running() {
			t.Errorf("the outputs are %v", values)
		}
	})
}

// What was lost is refused as soon as the leader can be asked, and by nobody before.
func TestPartitionThatHasLostRecordsIsRefusedWhenItsLeaderAnswers(t *testing.T) {
	t.Parallel()
	streamtest.Simulate(t, streamtest.ClusterOptions{Topology: passing(), Partitions: 2}, func(t *testing.T, c *streamtest.Cluster) {
		a, away := unasked(c)
		c.Produce("in", streamtest.Text("k", "lost").On(0), streamtest.Text("k", "next").On(0))
		if err := c.Broker().DeleteRecords("in", 0, 2); err != nil {
			t.Fatal(err)
		}
		c.Pass(time.Minute)
		if !a.Running() {
			t.Fatalf("it ended before anybody knew: %v", a.Wait())
		}
		away.Remove()
		if err := a.Wait(); problem.CodeOf(err) != problem.OffsetOutOfRange {
			t.Errorf("it ended with %v", err)
		}
	})
}

// A topic that is gone is nobody's leader's: the application says so instead of asking for ever.
func TestPartitionWhoseTopicIsGoneWhenItIsAsked(t *testing.T) {
	t.Parallel()
	streamtest.Simulate(t, streamtest.ClusterOptions{Topology: passing(), Partitions: 2}, func(t *testing.T, c *streamtest.Cluster) {
		a, away := unasked(c)
		away.Remove()
		c.Broker().Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.ListOffsets}, Topic: "in", Partitions: []int32{0}, Err: kerr.UnknownTopicOrPartition, Count: -1})
		c.Pass(2 * time.Minute)
		if a.Running() {
			t.Fatal("it asks for ever")
		}
		if err := a.Wait(); problem.CodeOf(err) != problem.TopicMissing {
			t.Errorf("it ended with %v", err)
		}
	})
}
