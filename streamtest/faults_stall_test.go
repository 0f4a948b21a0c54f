package streamtest_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/internal/step"
	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/streamtest"
	"github.com/oncemill/oncemill/topology"
)

// A changelog that lost its end while it is restored is read anew, up to the end that it has.
func TestChangelogThatLosesItsEndDuringARestore(t *testing.T) {
	t.Parallel()
	said := &warnings{}
	play(t, with(func(cfg *oncemill.Config) { cfg.Logger = slog.New(said) }), func(s *scene) {
		s.a.Kill(100)
		s.a.LoseDisk()
		frozen := s.a.FreezeAt(string(step.ListEnds), 1)
		s.a.Start()
		frozen.Await()
		end := s.c.Broker().PartitionInfo(balancesLog, 0).HighWatermark
		// the old leader answers with an end that the next one does not have
		done := false
		onEach(s.c, func(list *kmsg.ListOffsetsRequest) kmsg.Response {
			if done || len(list.Topics) == 0 || list.Topics[0].Partitions[0].Timestamp != -1 {
				return nil
			}
			resp := listed(list, func(topic string, of kmsg.ListOffsetsRequestTopicPartition) int64 {
				if topic == balancesLog {
					done = true
					return end + 2
				}
				return s.c.Broker().PartitionInfo(topic, of.Partition).HighWatermark
			})
			if !done {
				return nil
			}
			return resp
		})
		frozen.Thaw()
		s.c.Pass(2 * time.Minute)
		if said.count("has lost its end") != 1 || !done {
			s.t.Errorf("the warnings are %q", said.text)
		}
		s.goesOn("o")
	})
}

// A topic that is deleted while a task is restored ends the application, as one does that is deleted while the task runs.
func TestTopicThatIsDeletedDuringARestore(t *testing.T) {
	t.Parallel()
	for _, topic := range []string{balancesLog, "commands"} {
		t.Run(topic, func(t *testing.T) {
			play(t, setting{}, func(s *scene) {
				s.a.Kill(100)
				s.a.LoseDisk()
				frozen := s.a.FreezeAt(string(step.ListEnds), 1)
				s.a.Start()
				frozen.Await()
				if _, err := kadm.NewClient(s.c.NewClient()).DeleteTopics(context.Background(), topic); err != nil {
					s.t.Fatal(err)
				}
				frozen.Thaw()
				s.c.Pass(2 * time.Minute)
				if s.a.Running() {
					t.Fatalf("it waits for ever, with %+v", s.a.Tasks())
				}
				s.wantRefused(problem.TopicMissing, topic)
			})
		})
	}
}

// Somebody adds a partition to the only input of a running application with state: the task of it does not run, which is said; the
// others do.
func TestPartitionAddedToTheOnlyInputOfState(t *testing.T) {
	t.Parallel()
	said := &warnings{}
	b := newBurst()
	o := streamtest.ClusterOptions{Topology: b.topo, Configure: configure(func(cfg *oncemill.Config) { cfg.Logger = slog.New(said) })}
	streamtest.Simulate(t, o, func(t *testing.T, c *streamtest.Cluster) {
		a := c.Start("a")
		c.AwaitTasks(1)
		if _, err := kadm.NewClient(c.NewClient()).CreatePartitions(context.Background(), 1, "in"); err != nil {
			t.Fatal(err)
		}
		c.Pass(6 * time.Minute) // until the group has seen it
		c.Produce("in", streamtest.Text("x", "1").On(1), streamtest.Text("y", "1").On(0))
		c.Pass(4 * time.Minute)
		if n := len(c.Committed("out")); n != 1 || !a.Running() {
			t.Errorf("%d outputs, want that of partition 0", n)
		}
		if n := said.count("a task does not run: partitions were added"); n == 0 || n > 3 {
			t.Errorf("%d warnings: %q", n, said.text)
		}
		if err := a.Stop(); err != nil {
			t.Fatal(err)
		}
		a.Start()
		if err := a.Wait(); problem.CodeOf(err) != problem.PartitionsChanged { // the cure says that it names them
			t.Errorf("the next start ended with %v", err)
		}
	})
}

// Restores that stand still say so, and keep no other restore of the worker from beginning.
func TestRestoresThatStandStillKeepNoOthers(t *testing.T) {
	t.Parallel()
	for key, wait := range map[kmsg.Key]time.Duration{kmsg.ListOffsets: time.Minute, kmsg.Fetch: 15 * time.Second} {
		t.Run(key.Name(), func(t *testing.T) {
			const n = 24 / min(raceSample, 2) // of each; 8 run at once, in any order
			said := &warnings{}
			o := streamtest.ClusterOptions{Topology: twoStates(), Partitions: n, Configure: configure(func(cfg *oncemill.Config) { cfg.Logger = slog.New(said) })}
			streamtest.Simulate(t, o, func(t *testing.T, c *streamtest.Cluster) {
				a := c.Start("a")
				c.AwaitTasks(2 * n)
				send := func(topic, key string) {
					for p := range int32(n) {
						c.Produce(topic, streamtest.Text(key, "v").On(p))
					}
				}
				send("first", "k")
				send("second", "k")
				c.AwaitCommitted("out-one", n)
				c.AwaitCommitted("out-other", n)
				c.Settle()
				a.Kill(100)
				a.LoseDisk()
				// One broker is away: it leads what the first sub-topology reads.
				slowFetches(c)
				f := c.Broker().Fault(kfake.Fault{Keys: []kmsg.Key{key}, Topic: "two-one-changelog", Err: kerr.LeaderNotAvailable, Count: -1})
				a.Start()
				send("second", "l")
				c.Pass(wait)
				if got := len(c.Committed("out-other")); got != 2*n {
					t.Errorf("%d outputs, want %d: the other sub-topology has all that it needs", got, 2*n)
				}
				if got := said.count("waits for what it needs") + said.count("does not answer; waiting"); got < 8 {
					t.Errorf("%d warnings: %q", got, said.text)
				}
				f.Remove()
				c.AwaitTasks(2 * n)
			})
		})
	}
}

// twoStates is a topology of two sub-topologies, each with a store.
func twoStates() *topology.Topology {
	topo := topology.New("two")
	count := func(name, from string) {
		store := statestore.KeyValue(name, serde.String(), serde.Int64())
		in := topology.Source(topo, from, from, serde.String(), serde.String())
		out := topology.Process(topo, "p"+name, in, func(ctx *processor.Context[string, string], r record.Record[string, string]) error {
			if err := store.Put(ctx, r.Key, 1); err != nil {
				return err
			}
			return ctx.Forward(r)
		}, topology.Uses(store))
		topology.Sink(topo, "out"+name, out, "out-"+name, serde.String(), serde.String())
	}
	count("one", "first")
	count("other", "second")
	return topo
}

// A transaction that is open in a changelog is waited for, and that is said.
func TestTransactionThatIsOpenInAChangelogIsWaitedFor(t *testing.T) {
	t.Parallel()
	said := &warnings{}
	play(t, with(func(cfg *oncemill.Config) { cfg.Logger = slog.New(said) }), func(s *scene) {
		s.a.Kill(100)
		s.a.LoseDisk()
		other := s.c.NewClient(kgo.TransactionalID("other"), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.TransactionTimeout(10*time.Minute))
		if err := other.BeginTransaction(); err != nil {
			s.t.Fatal(err)
		}
		if err := other.ProduceSync(s.t.Context(), &kgo.Record{Topic: balancesLog, Key: []byte("k"), Value: []byte("v")}).FirstErr(); err != nil {
			s.t.Fatal(err)
		}
		s.a.Start()
		s.c.Pass(time.Minute)
		if n := said.count("waits for what it needs"); n != 1 || s.a.Steps(string(step.RestoreDone)) != 1 {
			s.t.Errorf("%d warnings: %q", n, said.text)
		}
		if err := other.EndTransaction(s.t.Context(), kgo.TryAbort); err != nil {
			s.t.Fatal(err)
		}
		s.goesOn("o")
	})
}
