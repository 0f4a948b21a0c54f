package streamtest_test

import (
	"context"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/streamtest"
	"github.com/oncemill/oncemill/topology"
)

// Somebody adds a partition to one of the inputs of a task, while the application runs: it ends with what it would be refused with
// at its next start, instead of standing still.
func TestPartitionAddedToOneInputOfARunningApplication(t *testing.T) {
	t.Parallel()
	play(t, setting{}, func(s *scene) {
		if _, err := kadm.NewClient(s.c.NewClient()).CreatePartitions(context.Background(), 1, "commands"); err != nil {
			s.t.Fatal(err)
		}
		s.c.Pass(15 * time.Minute)
		if s.a.Running() {
			s.t.Fatalf("it runs, with %+v", s.a.Tasks())
		}
		s.wantRefused(problem.NotCopartitioned, "has 2 partitions")
	})
}

func passing() *topology.Topology {
	topo := topology.New("pass")
	topology.Sink(topo, "out", topology.Source(topo, "in", "in", serde.String(), serde.String()), "out", serde.String(), serde.String())
	return topo
}

// What is written to a partition that is added while the application runs comes after the start.
func TestStartFromLatestOfAPartitionThatIsAdded(t *testing.T) {
	t.Parallel()
	o := streamtest.ClusterOptions{Topology: passing(), Configure: configure(startLatest)}
	streamtest.Simulate(t, o, func(t *testing.T, c *streamtest.Cluster) {
		c.Start("a")
		c.AwaitTasks(1)
		admin := kadm.NewClient(c.NewClient())
		for _, topic := range []string{"in", "out"} {
			if _, err := admin.CreatePartitions(context.Background(), 1, topic); err != nil {
				t.Fatal(err)
			}
		}
		c.Pass(time.Second)
		c.Produce("in", streamtest.Text("k", "one").On(1))
		c.Pass(15 * time.Minute)
		c.Produce("in", streamtest.Text("k", "two").On(1))
		if out := c.AwaitCommitted("out", 2); string(out[0].Value) != "one" {
			t.Fatalf("%q came first", out[0].Value)
		}
	})
}

// A transaction is open when the task starts from the latest record: what it holds becomes visible after the start.
func TestStartFromLatestBehindAnOpenTransaction(t *testing.T) {
	t.Parallel()
	o := streamtest.ClusterOptions{Topology: passing(), Configure: configure(startLatest)}
	streamtest.Simulate(t, o, func(t *testing.T, c *streamtest.Cluster) {
		c.Produce("in", streamtest.Text("k", "before"))
		producer := c.NewClient(kgo.TransactionalID("other"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
		if err := producer.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if err := producer.ProduceSync(t.Context(), &kgo.Record{Topic: "in", Key: []byte("k"), Value: []byte("open")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		c.Start("a")
		c.AwaitTasks(1)
		c.Pass(5 * time.Second)
		if err := producer.EndTransaction(t.Context(), kgo.TryCommit); err != nil {
			t.Fatal(err)
		}
		if out := c.AwaitCommitted("out", 1); string(out[0].Value) != "open" {
			t.Errorf("%q came through", out[0].Value)
		}
	})
}

// The input lost its end in an unclean election and has grown beyond the position since: the history of its leader epochs says so.
func TestInputThatLostItsEndAndHasGrownAgain(t *testing.T) {
	t.Parallel()
	playStopped(t, setting{}, func(s *scene, _ *kadm.Client) {
		s.send(adds("new", "k", 4)...) // in the real log the first of them lies at offset 2, below the position
		s.c.MoveLeaders()
		onEach(s.c, func(epochs *kmsg.OffsetForLeaderEpochRequest) kmsg.Response {
			if epochs.Topics[0].Topic != "commands" {
				return nil
			}
			return epochsEnd(epochs, 2)
		})
	}, func(s *scene) {
		s.c.Pass(time.Minute)
		if s.a.Running() {
			s.t.Fatal("the input was read on, as if it were the log that was processed")
		}
		s.wantRefused(problem.InputTruncated, "has records up to 2")
	})
}
