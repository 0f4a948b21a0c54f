package streamtest_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/internal/step"
	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/streamtest"
	"github.com/oncemill/oncemill/topology"
)

// TestAClientThatSkipsABatchForEver: brokers without transaction.version 2. One produce request is under way, the next one waits until a
// further partition is added to the transaction, and the line breaks. The client goes back to the batch of the first request, then adding
// the partition fails and it goes back to the batch of the second: it never sends the first again, and neither a flush nor an abort of its
// own comes to an end. The transaction's time bounds the flush, and then the client is replaced at once; also when the group has taken
// the task away meanwhile.
func TestAClientThatSkipsABatchForEver(t *testing.T) {
	t.Parallel()
	for _, broken := range []struct {
		name string
		lost bool // the task is given away before the commit is due
		// within is how long after the line is whole again everything is committed: what is left until the commit or a heartbeat, the
		// transaction's time once, and a commit of what is run again.
		within time.Duration
	}{{"commit", false, 20 * time.Second}, {"task given away", true, 20 * time.Second}} {
		t.Run(broken.name, func(t *testing.T) {
			o := streamtest.ClusterOptions{
				Topology:        twoWays(),
				OldTransactions: true,
				Configure: configure(func(cfg *oncemill.Config) {
					cfg.CommitInterval, cfg.TransactionTimeout = 4*time.Second, 10*time.Second
				}),
			}
			streamtest.Simulate(t, o, func(t *testing.T, c *streamtest.Cluster) {
				a := c.Start("a")
				c.Produce("in", streamtest.Text("k", "left"), streamtest.Text("k", "right"))
				c.AwaitCommitted("left", 1)
				c.AwaitCommitted("right", 1)
				c.Settle()

				held, release := map[int16]bool{}, make(chan struct{})
				hold := func(req kmsg.Request) {
					if held[req.Key()] {
						return
					}
					held[req.Key()] = true
					c.Broker().SleepControl(func() { <-release })
				}
				watchEach(c, func(req *kmsg.ProduceRequest) {
					if req.TransactionID != nil { // not of the test itself
						hold(req)
					}
				})
				c.Produce("in", streamtest.Text("k", "left"))
				c.Pass(500 * time.Millisecond) // the broker has the request, and does not answer
				watchEach(c, func(req *kmsg.AddPartitionsToTxnRequest) { hold(req) })
				c.Produce("in", streamtest.Text("k", "left"), streamtest.Text("k", "right"))
				c.Pass(200 * time.Millisecond)
				a.Isolate()
				c.Pass(300 * time.Millisecond)
				close(release)
				a.Heal()
				if broken.lost {
					c.RefuseProcesses(kmsg.Heartbeat, kerr.UnknownMemberID, 1)
				}
				c.Pass(broken.within)
				if len(held) != 2 {
					t.Fatalf("requests that were held: %v, not one to produce and one to add partitions", held)
				}
				if n := a.Steps(string(step.Aborting)); n == 0 {
					t.Fatal("nothing was aborted: the client did not get stuck")
				}
				if left, right := len(c.Committed("left")), len(c.Committed("right")); left != 3 || right != 2 {
					t.Fatalf("%v after the line was whole again %d and %d records are committed, not 3 and 2", broken.within, left, right)
				}
			})
		})
	}
}

// TestACoordinatorThatNeverEndsATransaction: to each EndTxn it answers that the transaction before has not ended, for which the client asks
// again without a bound. After the transaction's time the outcome counts as unknown, and is found.
func TestACoordinatorThatNeverEndsATransaction(t *testing.T) {
	t.Parallel()
	l := newLedger(ledgerOptions{})
	l.simulate(t, streamtest.ClusterOptions{}, func(t *testing.T, c *streamtest.Cluster) {
		a := c.Start("a")
		c.Produce("commands", adds("m", "k", 3)...)
		c.AwaitCommitted("events", 3)
		fault := c.RefuseProcesses(kmsg.EndTxn, kerr.ConcurrentTransactions, -1)
		c.Produce("commands", account("n", "k", "add 1"))
		c.Pass(15 * time.Second)
		fault.Remove()
		if n := a.Steps(string(step.Resolve)); n != 1 || fault.Hits() < 10 {
			t.Fatalf("%d transactions were resolved, %d answers refused", n, fault.Hits())
		}
		c.AwaitCommitted("events", 4)
		l.verify(t, c, l.judge(c))
		l.wantRunsOf(t, "n", 2)
	})
}

// TestAProducerThatBeginsAnewWithinATransaction: the broker refuses a batch as one of an old epoch, and says that the topic has lost what
// the client wrote to it before. The client takes a new epoch, which aborts what it has sent so far in the transaction, and goes on. What
// is left must not be committed without the rest.
func TestAProducerThatBeginsAnewWithinATransaction(t *testing.T) {
	t.Parallel()
	o := streamtest.ClusterOptions{
		Topology:  twoWays(),
		Configure: configure(func(cfg *oncemill.Config) { cfg.CommitInterval = 2 * time.Second }),
	}
	streamtest.Simulate(t, o, func(t *testing.T, c *streamtest.Cluster) {
		a := c.Start("a")
		c.Produce("in", streamtest.Text("k", "left 1"), streamtest.Text("k", "right 1"))
		c.AwaitCommitted("left", 1)
		c.AwaitCommitted("right", 1)
		c.Settle()

		c.Produce("in", streamtest.Text("k", "right 2"))
		c.Pass(500 * time.Millisecond)
		if n := len(c.Uncommitted("right")); n != 2 {
			t.Fatalf("%d records are on the right, not one that is not committed beside the other", n)
		}
		refused := false
		onEach(c, func(p *kmsg.ProduceRequest) kmsg.Response {
			if p.TransactionID == nil || refused {
				return nil
			}
			refused = true
			return produced(p, func(_ kmsg.ProduceRequestTopic, out *kmsg.ProduceResponseTopicPartition) {
				out.ErrorCode, out.LogStartOffset = kerr.InvalidProducerEpoch.Code, 100
			})
		})
		c.Produce("in", streamtest.Text("k", "left 2"))
		c.Pass(10 * time.Second)
		if !refused || a.Steps(string(step.Aborting)) != 1 {
			t.Fatalf("a batch refused: %v, %d transactions aborted", refused, a.Steps(string(step.Aborting)))
		}
		for _, way := range []string{"left", "right"} {
			var got []string
			for _, r := range c.Committed(way) {
				got = append(got, string(r.Value))
			}
			if want := []string{way + " 1", way + " 2"}; !slices.Equal(got, want) {
				t.Errorf("committed on the %s: %q, not %q", way, got, want)
			}
		}
	})
}

// twoWays forwards each record to the topic that its value names, so that a transaction gets its partitions one after the other.
func twoWays() *topology.Topology {
	topo := topology.New("ways")
	in := topology.Source(topo, "in", "in", serde.String(), serde.String())
	for _, way := range []string{"left", "right"} {
		out := topology.Process(topo, "to-"+way, in, func(ctx *processor.Context[string, string], r record.Record[string, string]) error {
			if strings.HasPrefix(r.Value, way) {
				return ctx.Forward(r)
			}
			return nil
		})
		topology.Sink(topo, way, out, way, serde.String(), serde.String())
	}
	return topo
}

// TestACoordinatorThatNeverEndsAnAbort: to each EndTxn that aborts it answers that the transaction before has not ended, for which the client
// asks again without a bound. After the transaction's time the producer is initialised again, which ends the transaction.
func TestACoordinatorThatNeverEndsAnAbort(t *testing.T) {
	t.Parallel()
	l := newLedger(ledgerOptions{})
	l.simulate(t, streamtest.ClusterOptions{}, func(t *testing.T, c *streamtest.Cluster) {
		a := c.Start("a")
		c.Produce("commands", adds("m", "k", 3)...)
		c.AwaitCommitted("events", 3)
		fault := c.Broker().Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.EndTxn}, Err: kerr.ConcurrentTransactions, Count: -1,
			When: func(req kmsg.Request) bool { return !req.(*kmsg.EndTxnRequest).Commit }})
		refused := c.RefuseProcesses(kmsg.TxnOffsetCommit, kerr.InvalidTxnState, 1)
		c.Produce("commands", account("n", "k", "add 1"))
		began := time.Now()
		c.AwaitCommitted("events", 4)
		if took := time.Since(began); took > 30*time.Second {
			t.Errorf("it took %v", took)
		}
		if n := a.Steps(string(step.AbortTxn)); n != 1 || refused.Hits() != 1 || fault.Hits() < 10 {
			t.Fatalf("%d transactions were aborted, %d commits and %d aborts refused", n, refused.Hits(), fault.Hits())
		}
		l.verify(t, c, l.judge(c))
		l.wantRunsOf(t, "n", 2)
	})
}
