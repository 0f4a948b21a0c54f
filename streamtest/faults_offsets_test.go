package streamtest_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/streamtest"
)

// afterwards runs three records, stops the process cleanly, lets the group forget it, lets an operator do something, and starts
// the process again.
func afterwards(t *testing.T, l *ledger, o streamtest.ClusterOptions, operator func(t *testing.T, c *streamtest.Cluster, admin *kadm.Client), then func(t *testing.T, c *streamtest.Cluster, a *streamtest.Process)) {
	t.Helper()
	l.simulate(t, o, func(t *testing.T, c *streamtest.Cluster) {
		a := c.Start("a")
		c.Produce("commands", adds("m", "k", 3)...)
		c.AwaitCommitted("events", 3)
		c.Settle()
		if err := a.Stop(); err != nil {
			t.Fatal(err)
		}
		c.Pass(2 * oncemill.DefaultSessionTimeout)
		operator(t, c, kadm.NewClient(c.NewClient()))
		a.Start()
		then(t, c, a)
	})
}

// moveOffset commits an offset as kafka-consumer-groups --reset-offsets does.
func moveOffset(t *testing.T, admin *kadm.Client, to int64) {
	t.Helper()
	offsets := kadm.Offsets{}
	offsets.Add(kadm.Offset{Topic: "commands", At: to, LeaderEpoch: -1})
	if err := admin.CommitAllOffsets(context.Background(), "ledger", offsets); err != nil {
		t.Fatal(err)
	}
}

// wantRefused demands that the process ends with a code, and that the cure names what it must.
func wantRefused(t *testing.T, a *streamtest.Process, code problem.Code, cure string) {
	t.Helper()
	err := a.Wait()
	if !errors.Is(err, &problem.Error{Code: code}) || !strings.Contains(err.Error(), cure) {
		t.Fatalf("Run returned %v, want %s with %q", err, code, cure)
	}
}

// TestOffsetMovedBack: S46. The records that the state includes are redeliveries.
func TestOffsetMovedBack(t *testing.T) {
	l := newLedger(ledgerOptions{})
	afterwards(t, l, streamtest.ClusterOptions{}, func(t *testing.T, c *streamtest.Cluster, admin *kadm.Client) {
		moveOffset(t, admin, 0)
	}, func(t *testing.T, c *streamtest.Cluster, a *streamtest.Process) {
		c.Produce("commands", account("after", "k", "add 1"))
		c.AwaitCommitted("events", 4)
		l.verify(t, c, l.judge(c))
		for _, id := range []string{"m0", "m1", "m2", "after"} {
			l.wantRunsOf(t, id, 1)
		}
	})
}

// TestOffsetMovedBackAndDiskLost: the state comes from the changelogs first, and includes the records all the same.
func TestOffsetMovedBackAndDiskLost(t *testing.T) {
	l := newLedger(ledgerOptions{})
	afterwards(t, l, streamtest.ClusterOptions{}, func(t *testing.T, c *streamtest.Cluster, admin *kadm.Client) {
		moveOffset(t, admin, 1)
		c.Process("a").LoseDisk()
	}, func(t *testing.T, c *streamtest.Cluster, a *streamtest.Process) {
		c.Produce("commands", account("after", "k", "add 1"))
		c.AwaitCommitted("events", 4)
		l.verify(t, c, l.judge(c))
		l.wantRunsOf(t, "m1", 1)
	})
}

func TestOffsetMovedBeyondIsRefused(t *testing.T) {
	l := newLedger(ledgerOptions{})
	afterwards(t, l, streamtest.ClusterOptions{}, func(t *testing.T, c *streamtest.Cluster, admin *kadm.Client) {
		c.Produce("commands", adds("skipped", "k", 2)...)
		moveOffset(t, admin, 5)
	}, func(t *testing.T, c *streamtest.Cluster, a *streamtest.Process) {
		wantRefused(t, a, problem.OffsetAhead, "AcceptSkip")
		if got := len(c.Committed("events")); got != 3 {
			t.Fatalf("%d outputs", got)
		}
	})
}

func TestOffsetMovedBeyondIsAcceptedOnPurpose(t *testing.T) {
	l := newLedger(ledgerOptions{})
	skip := func(cfg *oncemill.Config) { cfg.AcceptSkip = true }
	afterwards(t, l, streamtest.ClusterOptions{Configure: configure(skip)}, func(t *testing.T, c *streamtest.Cluster, admin *kadm.Client) {
		c.Produce("commands", adds("skipped", "k", 2)...)
		moveOffset(t, admin, 5)
	}, func(t *testing.T, c *streamtest.Cluster, a *streamtest.Process) {
		c.Produce("commands", account("after", "k", "add 1"))
		out := c.AwaitCommitted("events", 4)
		c.Settle()
		c.CheckState()
		l.wantRunsOf(t, "skipped0", 0)
		l.wantRunsOf(t, "after", 1)
		if string(out[3].Value) != "4" {
			t.Fatalf("the last output is %q", out[3].Value)
		}
		a.Restart(100)
		c.Produce("commands", account("again", "k", "add 1"))
		c.AwaitCommitted("events", 5)
		c.Settle()
		c.CheckState()
		l.wantRunsOf(t, "after", 1)
	})
}

// TestOffsetMissing: S47. State without an offset is refused, with the offset to set; never "earliest".
func TestOffsetMissing(t *testing.T) {
	l := newLedger(ledgerOptions{})
	afterwards(t, l, streamtest.ClusterOptions{}, func(t *testing.T, c *streamtest.Cluster, admin *kadm.Client) {
		if _, err := admin.DeleteGroups(context.Background(), "ledger"); err != nil {
			t.Fatal(err)
		}
	}, func(t *testing.T, c *streamtest.Cluster, a *streamtest.Process) {
		wantRefused(t, a, problem.OffsetMissing, "--to-offset 3")
		l.wantRunsOf(t, "m0", 1)
	})
}

// TestOffsetMissingAndDiskLost: the changelogs tell that there is state.
func TestOffsetMissingAndDiskLost(t *testing.T) {
	l := newLedger(ledgerOptions{})
	afterwards(t, l, streamtest.ClusterOptions{}, func(t *testing.T, c *streamtest.Cluster, admin *kadm.Client) {
		c.Process("a").LoseDisk()
		if _, err := admin.DeleteGroups(context.Background(), "ledger"); err != nil {
			t.Fatal(err)
		}
	}, func(t *testing.T, c *streamtest.Cluster, a *streamtest.Process) {
		wantRefused(t, a, problem.OffsetMissing, "--to-offset 3")
		l.wantRunsOf(t, "m0", 1)
	})
}

// TestOffsetOutOfRange: records that nobody has processed are gone from the input.
func TestOffsetOutOfRange(t *testing.T) {
	l := newLedger(ledgerOptions{})
	afterwards(t, l, streamtest.ClusterOptions{}, func(t *testing.T, c *streamtest.Cluster, admin *kadm.Client) {
		c.Produce("commands", adds("gone", "k", 2)...)
		if err := c.Broker().DeleteRecords("commands", 0, 4); err != nil {
			t.Fatal(err)
		}
	}, func(t *testing.T, c *streamtest.Cluster, a *streamtest.Process) {
		wantRefused(t, a, problem.OffsetOutOfRange, "1 records are gone")
		l.wantRunsOf(t, "gone1", 0)
	})
}

// TestOffsetOutOfRangeWhileRunning: the same, while the task reads.
func TestOffsetOutOfRangeWhileRunning(t *testing.T) {
	l := newLedger(ledgerOptions{})
	l.simulate(t, streamtest.ClusterOptions{}, func(t *testing.T, c *streamtest.Cluster) {
		a := c.Start("a")
		c.Produce("commands", adds("m", "k", 3)...)
		c.AwaitCommitted("events", 3)
		a.Isolate()
		c.Produce("commands", adds("gone", "k", 2)...)
		if err := c.Broker().DeleteRecords("commands", 0, 4); err != nil {
			t.Fatal(err)
		}
		a.Heal()
		wantRefused(t, a, problem.OffsetOutOfRange, "commands/0")
		l.wantRunsOf(t, "gone1", 0)
	})
}

// TestInputTruncated: the input ends before the position: an unclean election lost records that were processed.
func TestInputTruncated(t *testing.T) {
	l := newLedger(ledgerOptions{})
	afterwards(t, l, streamtest.ClusterOptions{}, func(t *testing.T, c *streamtest.Cluster, admin *kadm.Client) {
		shortened(c, "commands", 2)
	}, func(t *testing.T, c *streamtest.Cluster, a *streamtest.Process) {
		wantRefused(t, a, problem.InputTruncated, "commands/0")
	})
}

// shortened makes the brokers report an end of a topic, as after an election that lost its last records. The other inputs of
// its task are empty.
func shortened(c *streamtest.Cluster, topic string, end int64) {
	c.Broker().ControlKey(int16(kmsg.ListOffsets), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.Broker().KeepControl()
		list := req.(*kmsg.ListOffsetsRequest)
		resp, hit := list.ResponseKind().(*kmsg.ListOffsetsResponse), false
		for _, asked := range list.Topics {
			t := kmsg.NewListOffsetsResponseTopic()
			t.Topic = asked.Topic
			p := kmsg.NewListOffsetsResponseTopicPartition()
			p.Partition = asked.Partitions[0].Partition
			if asked.Topic == topic && asked.Partitions[0].Timestamp == -1 {
				p.Offset, hit = end, true
			}
			t.Partitions = append(t.Partitions, p)
			resp.Topics = append(resp.Topics, t)
		}
		return resp, nil, hit
	})
}

// TestInputRecreated: S48. Another topic of the same name is refused, and on purpose read from its beginning.
func TestInputRecreated(t *testing.T) {
	recreate := func(t *testing.T, c *streamtest.Cluster, _ *kadm.Client) {
		c.Recreate("commands")
		c.Produce("commands", account("m0", "k", "add 1"), account("n0", "k", "add 1"))
	}
	t.Run("refused", func(t *testing.T) {
		l := newLedger(ledgerOptions{})
		afterwards(t, l, streamtest.ClusterOptions{}, recreate, func(t *testing.T, c *streamtest.Cluster, a *streamtest.Process) {
			wantRefused(t, a, problem.TopicRecreated, "AcceptRecreated")
			l.wantRunsOf(t, "n0", 0)
		})
	})
	t.Run("accepted", func(t *testing.T) {
		l := newLedger(ledgerOptions{})
		accept := func(cfg *oncemill.Config) { cfg.AcceptRecreated = []string{"commands"} }
		afterwards(t, l, streamtest.ClusterOptions{Configure: configure(accept)}, recreate, func(t *testing.T, c *streamtest.Cluster, a *streamtest.Process) {
			c.AwaitCommitted("events", 4)
			c.Settle()
			c.CheckState()
			l.wantRunsOf(t, "m0", 1) // its marker lives: the same message under the same id
			l.wantRunsOf(t, "n0", 1) // at offset 1, below the old position: no redelivery
		})
	})
}

// TestPartitionsChanged: S49.
func TestPartitionsChanged(t *testing.T) {
	l := newLedger(ledgerOptions{})
	afterwards(t, l, streamtest.ClusterOptions{}, func(t *testing.T, c *streamtest.Cluster, admin *kadm.Client) {
		if _, err := admin.CreatePartitions(context.Background(), 1, "commands"); err != nil {
			t.Fatal(err)
		}
	}, func(t *testing.T, c *streamtest.Cluster, a *streamtest.Process) {
		wantRefused(t, a, problem.PartitionsChanged, "ledger-balances-changelog")
	})
}

// TestStartFrom: a task without any state begins where StartFrom says.
func TestStartFrom(t *testing.T) {
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
	l := newLedger(ledgerOptions{})
	l.simulate(t, streamtest.ClusterOptions{}, func(t *testing.T, c *streamtest.Cluster) {
		a := c.Start("a")
		c.Produce("commands", adds("m", "k", 3)...)
		c.AwaitCommitted("events", 3)
		c.Settle()
		replay, ok := c.Commits("ledger-commands-replay")[0]
		if !ok || replay.Offset != 0 || replay.N == 0 {
			t.Fatalf("the position of the empty input is %+v, %v", replay, ok)
		}
		a.Restart(100)
		c.Produce("commands", account("after", "k", "add 1"))
		c.AwaitCommitted("events", 4)
		l.verify(t, c, l.judge(c))
	})
}
