package streamtest_test

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/internal/step"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/streamtest"
	"github.com/oncemill/oncemill/topology"
)

// moveOffset commits an offset as kafka-consumer-groups --reset-offsets does.
func (s *scene) moveOffset(admin *kadm.Client, to int64) {
	s.t.Helper()
	s.resetOffset(admin, "commands", to)
}

func (s *scene) resetOffset(admin *kadm.Client, topic string, to int64) {
	s.t.Helper()
	offsets := kadm.Offsets{}
	offsets.Add(kadm.Offset{Topic: topic, At: to, LeaderEpoch: -1})
	if err := admin.CommitAllOffsets(context.Background(), "ledger", offsets); err != nil {
		s.t.Fatal(err)
	}
}

// forgetOffsets deletes the group and with it all committed offsets.
func (s *scene) forgetOffsets(admin *kadm.Client) {
	s.t.Helper()
	if _, err := admin.DeleteGroups(context.Background(), "ledger"); err != nil {
		s.t.Fatal(err)
	}
}

// The records that the state includes are redeliveries.
func TestS46OffsetMovedBack(t *testing.T) {
	t.Parallel()
	playStopped(t, setting{}, func(s *scene, admin *kadm.Client) {
		s.moveOffset(admin, 0)
	}, func(s *scene) {
		s.goesOn("after")
		s.ranOnce("m0", "m1", "m2", "after")
	})
}

// The state comes from the changelogs first, and includes the records all the same.
func TestS46OffsetMovedBackAndDiskLost(t *testing.T) {
	t.Parallel()
	playStopped(t, setting{}, func(s *scene, admin *kadm.Client) {
		s.moveOffset(admin, 1)
		s.a.LoseDisk()
	}, func(s *scene) {
		s.goesOn("after")
		s.ranOnce("m0", "m1", "m2", "after")
	})
}

func TestOffsetMovedBeyondIsRefused(t *testing.T) {
	t.Parallel()
	playStopped(t, setting{}, func(s *scene, admin *kadm.Client) {
		s.send(adds("skipped", "k", 2)...)
		s.moveOffset(admin, 5)
	}, func(s *scene) {
		s.wantRefused(problem.OffsetAhead, "AcceptSkip")
		if got := len(s.c.Committed("events")); got != 3 {
			s.t.Fatalf("%d outputs", got)
		}
	})
}

func TestOffsetMovedBeyondIsAcceptedOnPurpose(t *testing.T) {
	t.Parallel()
	skip := with(func(cfg *oncemill.Config) { cfg.AcceptSkip = true })
	playStopped(t, skip, func(s *scene, admin *kadm.Client) {
		s.send(adds("skipped", "k", 2)...)
		s.moveOffset(admin, 5)
	}, func(s *scene) {
		s.send(account("after", "k", "add 1"))
		out := s.c.AwaitCommitted("events", 4)
		s.c.Settle()
		s.c.CheckState()
		s.wantRunsOf(s.t, "skipped0", 0)
		if string(out[3].Value) != "4" {
			s.t.Fatalf("the last output is %q", out[3].Value)
		}
		s.a.Restart(100)
		s.send(account("again", "k", "add 1"))
		s.c.AwaitCommitted("events", 5)
		s.c.Settle()
		s.c.CheckState()
		s.ranOnce("after", "again")
	})
}

// TestOffsetsPutBackWithTheirMetadata: a tool puts back offsets that it saved before a timer fired; the positions in the input are the same.
// What is committed looks like a part of a transaction, so the state is refused, with brokers of every protocol. Offsets without metadata,
// as the cure sets them, let the state go on.
func TestOffsetsPutBackWithTheirMetadata(t *testing.T) {
	t.Parallel()
	for name, old := range protocols {
		t.Run(name, func(t *testing.T) {
			play(t, setting{cluster: streamtest.ClusterOptions{OldTransactions: old}}, func(s *scene) {
				s.goesOn("n0")
				s.send(account("r", "k", "remind x 20"))
				s.c.AwaitCommitted("events", 5)
				admin := kadm.NewClient(s.c.NewClient())
				saved, err := admin.FetchOffsets(context.Background(), "ledger")
				if err != nil {
					t.Fatal(err)
				}
				s.c.AwaitCommitted("events", 6) // the timer
				s.stop(s.a)
				s.c.Pass(2 * oncemill.DefaultSessionTimeout)
				if err := admin.CommitAllOffsets(context.Background(), "ledger", saved.Offsets()); err != nil {
					t.Fatal(err)
				}
				s.a.Start()
				s.wantRefused(problem.InvariantBroken, "--to-offset 5")
				s.c.Pass(2 * oncemill.DefaultSessionTimeout)
				s.obeyResets(admin, s.a.Wait())
				s.a.Start()
				s.send(account("n1", "other", "add 1"))
				s.c.Settle()
				j := s.judge(s.c)
				j.ring("k", "x")
				s.verify(t, s.c, j)
				s.ranOnce("m0", "m1", "m2", "n0", "r", "n1")
			})
		})
	}
}

var resets = regexp.MustCompile(`--to-offset (\d+) --group ledger --topic ([^ :]+):0 --execute`)

// obeyResets does what the cure of an error says.
func (s *scene) obeyResets(admin *kadm.Client, err error) {
	s.t.Helper()
	commands := resets.FindAllStringSubmatch(err.Error(), -1)
	if len(commands) != 2 {
		s.t.Errorf("the cure has commands for %d inputs, want the topic and the replays", len(commands))
	}
	for _, c := range commands {
		to, err := strconv.ParseInt(c[1], 10, 64)
		if err != nil {
			s.t.Fatal(err)
		}
		s.resetOffset(admin, c[2], to)
	}
}

// State without an offset is refused, with the offset to set; never "earliest".
func TestS47OffsetMissing(t *testing.T) {
	t.Parallel()
	playStopped(t, setting{}, (*scene).forgetOffsets, func(s *scene) {
		s.wantRefused(problem.OffsetMissing, "--to-offset 3")
		s.ranOnce("m0", "m1", "m2")
	})
}

// The changelogs tell that there is state.
func TestS47OffsetMissingAndDiskLost(t *testing.T) {
	t.Parallel()
	playStopped(t, setting{}, func(s *scene, admin *kadm.Client) {
		s.a.LoseDisk()
		s.forgetOffsets(admin)
	}, func(s *scene) {
		s.wantRefused(problem.OffsetMissing, "--to-offset 3")
		s.ranOnce("m0", "m1", "m2")
	})
}

// loseInput deletes two records of the input that nobody has processed, but for the second.
func (s *scene) loseInput() {
	s.t.Helper()
	s.send(adds("gone", "k", 2)...)
	if err := s.c.Broker().DeleteRecords("commands", 0, 4); err != nil {
		s.t.Fatal(err)
	}
}

// TestOffsetOutOfRange: records that nobody has processed are gone from the input.
func TestOffsetOutOfRange(t *testing.T) {
	t.Parallel()
	playStopped(t, setting{}, func(s *scene, _ *kadm.Client) { s.loseInput() }, func(s *scene) {
		s.wantRefused(problem.OffsetOutOfRange, "1 records are gone")
		s.wantRunsOf(s.t, "gone1", 0)
	})
}

// TestOffsetOutOfRangeWhileRunning: the same, while the task reads.
func TestOffsetOutOfRangeWhileRunning(t *testing.T) {
	t.Parallel()
	play(t, setting{}, func(s *scene) {
		s.a.Isolate()
		s.loseInput()
		s.a.Heal()
		s.wantRefused(problem.OffsetOutOfRange, "commands/0")
		s.wantRunsOf(s.t, "gone1", 0)
	})
}

// TestInputTruncated: the input ends before the position: an unclean election lost records that were processed.
func TestInputTruncated(t *testing.T) {
	t.Parallel()
	playStopped(t, setting{}, func(s *scene, _ *kadm.Client) { shortened(s.c, "commands", 2) }, func(s *scene) {
		s.wantRefused(problem.InputTruncated, "commands/0")
		s.ranOnce("m0", "m1", "m2")
	})
}

// Where an input ends at this moment is as fleeting as under StartLatest: it is committed before what lies behind it is read. Else a
// crash would bring the position back that the input does not have, and when it has grown beyond it, records would be skipped.
func TestAcceptedEndOfATruncatedInputIsCommittedFirst(t *testing.T) {
	t.Parallel()
	var frozen *streamtest.StepHook
	accept := with(func(cfg *oncemill.Config) { cfg.AcceptRecreated = []string{"commands"} })
	playStopped(t, accept, func(s *scene, _ *kadm.Client) {
		shortened(s.c, "commands", 2)
		frozen = s.a.FreezeAt(string(step.Process), 1)
	}, func(s *scene) {
		frozen.Await()
		if at := s.c.Commits("commands")[0]; at.Offset != 2 {
			s.t.Errorf("the committed position is %+v before the first record, want 2", at)
		}
		frozen.Thaw()
		s.goesOn("n")
		s.ranOnce("m0", "m1", "m2", "n")
	})
}

// shortened makes the brokers report an end of a topic, as after an election that lost its last records. The other inputs of
// its task are empty.
func shortened(c *streamtest.Cluster, topic string, end int64) {
	onEach(c, func(list *kmsg.ListOffsetsRequest) kmsg.Response {
		hit := false
		resp := listed(list, func(t string, of kmsg.ListOffsetsRequestTopicPartition) int64 {
			if t != topic || of.Timestamp != -1 {
				return 0
			}
			hit = true
			return end
		})
		if !hit {
			return nil
		}
		return resp
	})
}

// Another topic of the same name is refused, and on purpose read from its beginning.
func TestS48InputRecreated(t *testing.T) {
	t.Parallel()
	recreate := func(s *scene, _ *kadm.Client) {
		s.c.Recreate("commands")
		s.send(account("m0", "k", "add 1"), account("n0", "k", "add 1"))
	}
	t.Run("refused", func(t *testing.T) {
		playStopped(t, setting{}, recreate, func(s *scene) {
			s.wantRefused(problem.TopicRecreated, "AcceptRecreated")
			s.wantRunsOf(s.t, "n0", 0)
		})
	})
	t.Run("accepted", func(t *testing.T) {
		accept := with(func(cfg *oncemill.Config) { cfg.AcceptRecreated = []string{"commands"} })
		playStopped(t, accept, recreate, func(s *scene) {
			out := s.c.AwaitCommitted("events", 4)
			s.c.Settle()
			s.c.CheckState()
			s.ranOnce("m0", "n0") // m0 is the same message under the same id; n0, at offset 1, no redelivery
			if e := streamtest.FreshEntries(s.c, s.balances); len(out) != 4 || len(e) != 1 || e[0].Value != 4 {
				s.t.Fatalf("%d outputs, balances %v", len(out), e)
			}
		})
	})
}

func TestS49PartitionsChanged(t *testing.T) {
	t.Parallel()
	playStopped(t, setting{}, func(s *scene, admin *kadm.Client) {
		if _, err := admin.CreatePartitions(context.Background(), 1, "commands"); err != nil {
			s.t.Fatal(err)
		}
	}, func(s *scene) {
		s.wantRefused(problem.PartitionsChanged, "ledger-balances-changelog")
		s.ranOnce("m0", "m1", "m2")
		s.c.CheckState()
	})
}

// TestStartFrom: a task without any state begins where StartFrom says.
func TestStartFrom(t *testing.T) {
	t.Parallel()
	for from, want := range map[oncemill.StartFrom]int{oncemill.StartEarliest: 3, oncemill.StartLatest: 1} {
		l := newLedger(ledgerOptions{})
		o := streamtest.ClusterOptions{Configure: configure(func(cfg *oncemill.Config) { cfg.StartFrom = from })}
		l.simulate(t, o, func(t *testing.T, c *streamtest.Cluster) {
			c.Produce("commands", adds("before", "k", 2)...)
			c.Start("a")
			c.AwaitTasks(1)
			c.Produce("commands", account("after", "k", "add 1"))
			c.AwaitCommitted("events", want)
			c.Pass(time.Minute)
			if got := len(c.Committed("events")); got != want {
				t.Fatalf("StartFrom %d: %d outputs, want %d", from, got, want)
			}
		})
	}
}

// TestSourceThatStaysEmpty: its position is committed with the first transaction of the task, so that a position that is
// missing later means that it was lost.
func TestSourceThatStaysEmpty(t *testing.T) {
	t.Parallel()
	play(t, setting{}, func(s *scene) {
		replay, ok := s.c.Commits("ledger-commands-replay")[0]
		if !ok || replay.Offset != 0 || replay.N == 0 {
			s.t.Fatalf("the position of the empty input is %+v, %v", replay, ok)
		}
		s.a.Restart(100)
		s.goesOn("after")
		s.ranOnce("m0", "m1", "m2", "after")
	})
}

// Where a task starts under StartLatest is committed before the first record: what arrives while the application runs is processed,
// also when it crashes before it has committed anything else.
func TestStartFromLatestLosesNothingAfterTheStart(t *testing.T) {
	t.Parallel()
	for _, lost := range []bool{false, true} {
		t.Run(fmt.Sprintf("disk lost %v", lost), func(t *testing.T) {
			l := newLedger(ledgerOptions{})
			l.simulate(t, streamtest.ClusterOptions{Configure: configure(startLatest)}, func(t *testing.T, c *streamtest.Cluster) {
				s := &scene{ledger: l, t: t, c: c, a: c.Start("a")}
				c.AwaitTasks(1)
				crash := s.a.CrashAt(string(step.EndTxn), 1, 0)
				s.send(account("m", "k", "add 1"))
				crash.Await()
				if lost {
					s.a.LoseDisk()
				}
				s.a.Start()
				c.AwaitTasks(1)
				s.goesOn("n")
				s.wantRunsOf(t, "m", 2)
				s.ranOnce("n")
			})
		})
	}
}

func startLatest(cfg *oncemill.Config) { cfg.StartFrom = oncemill.StartLatest }

// One input has an offset, the other has none: that one begins at its end, once and for all. There is no state, so the offsets are
// all that is known.
func TestStartFromLatestOfAnInputWithoutAnOffset(t *testing.T) {
	t.Parallel()
	topo := topology.New("pass")
	older := topology.Source(topo, "old", "old", serde.String(), serde.String())
	newer := topology.Source(topo, "new", "new", serde.String(), serde.String())
	topology.Sink(topo, "out", topology.Merge(topo, "both", older, newer), "out", serde.String(), serde.String())
	o := streamtest.ClusterOptions{Topology: topo, Configure: configure(startLatest)}
	streamtest.Simulate(t, o, func(t *testing.T, c *streamtest.Cluster) {
		for _, topic := range []string{"old", "new"} {
			c.Produce(topic, streamtest.Text("k", topic+" first"), streamtest.Text("k", topic+" second"))
		}
		offsets := kadm.Offsets{}
		offsets.Add(kadm.Offset{Topic: "old", At: 1, LeaderEpoch: -1})
		if err := kadm.NewClient(c.NewClient()).CommitAllOffsets(context.Background(), "pass", offsets); err != nil {
			t.Fatal(err)
		}
		a := c.Start("a")
		c.AwaitTasks(1)
		crash := a.CrashAt(string(step.EndTxn), 1, 0)
		for _, topic := range []string{"old", "new"} {
			c.Produce(topic, streamtest.Text("k", topic+" third"))
		}
		crash.Await()
		a.Start()
		c.AwaitTasks(1)
		c.Settle()
		var got []string
		for _, r := range c.Committed("out") {
			got = append(got, string(r.Value))
		}
		slices.Sort(got)
		if want := []string{"new third", "old second", "old third"}; !slices.Equal(got, want) {
			t.Errorf("outputs %q, want %q", got, want)
		}
	})
}

// A start that could not be committed is not used: nothing is read before it is durable.
func TestStartFromLatestWaitsUntilTheStartIsCommitted(t *testing.T) {
	t.Parallel()
	l := newLedger(ledgerOptions{})
	l.simulate(t, streamtest.ClusterOptions{Configure: configure(startLatest)}, func(t *testing.T, c *streamtest.Cluster) {
		s := &scene{ledger: l, t: t, c: c, a: c.Start("a")}
		refused := c.Broker().Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.TxnOffsetCommit}, Err: kerr.CoordinatorLoadInProgress, Count: -1})
		s.c.Until("an abort", func() bool { return s.a.Steps(string(step.Aborting)) > 1 })
		s.send(account("m", "k", "add 1"))
		s.c.Pass(10 * time.Second)
		if s.runs("m") != 0 {
			t.Fatal("a record was processed before its start was durable")
		}
		refused.Remove()
		s.goesOn("n")
		s.ranOnce("m", "n")
	})
}

// An answer without the partition is no committed offset 0.
func TestOffsetFetchThatOmitsAPartition(t *testing.T) {
	t.Parallel()
	topo := topology.New("pass")
	in := topology.Source(topo, "in", "in", serde.String(), serde.String())
	topology.Sink(topo, "out", in, "out", serde.String(), serde.String())
	streamtest.Simulate(t, streamtest.ClusterOptions{Topology: topo}, func(t *testing.T, c *streamtest.Cluster) {
		a := c.Start("a")
		c.Produce("in", streamtest.Text("k", "x"), streamtest.Text("l", "y"))
		c.AwaitCommitted("out", 2)
		c.Settle()
		if err := a.Stop(); err != nil {
			t.Fatal(err)
		}
		fetching, omitted := a.CallAt(string(step.FetchOffsets), 1, func() {}), 0
		onEach(c, func(req *kmsg.OffsetFetchRequest) kmsg.Response {
			if !fetching.Reached() || omitted > 0 || req.Groups[0].MemberID != nil { // the group client asks, too
				return nil
			}
			omitted++
			resp := req.ResponseKind().(*kmsg.OffsetFetchResponse)
			g := kmsg.NewOffsetFetchResponseGroup()
			g.Group = "pass"
			resp.Groups = append(resp.Groups, g)
			return resp
		})
		a.Start()
		c.Pass(time.Minute)
		if omitted == 0 {
			t.Fatal("nothing was omitted")
		}
		if n := len(c.Committed("out")); n != 2 {
			t.Fatalf("%d outputs of 2 records", n)
		}
	})
}
