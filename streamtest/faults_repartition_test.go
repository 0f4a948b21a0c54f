package streamtest_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/internal/step"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/streamtest"
)

const byProductTopic = "sales-by-product-repartition"

// line is a line of an order: a customer buys products.
func line(id, customer, products string) streamtest.Message {
	return streamtest.Text(customer, products).With(idName, id)
}

// judge counts products over the committed lines, of each id in each partition the first.
func (s *sales) judge(c *streamtest.Cluster) (units map[string]int64, lines int) {
	units, seen := map[string]int64{}, map[string]bool{}
	for _, r := range c.Committed("lines") {
		id := fmt.Sprint(r.Partition, "/", streamtest.Header(r, idName))
		if seen[id] {
			continue
		}
		seen[id] = true
		for product := range strings.FieldsSeq(string(r.Value)) {
			units[product]++
		}
	}
	return units, len(seen)
}

// verify waits until both sub-topologies have nothing left, and holds what readers see against the judge: totals 1, 2, ... of
// each product, the units in a fresh reader, one marker for each line, and ids that occur once.
func (s *sales) verify(t *testing.T, c *streamtest.Cluster) {
	t.Helper()
	c.Settle()
	want, lines := s.judge(c)
	last, ids := map[string]int64{}, map[string]bool{}
	for _, r := range c.Committed("totals") {
		n, err := serde.Int64().Decode(r.Value)
		if id := streamtest.Header(r, record.HeaderID); err != nil || n != last[string(r.Key)]+1 || ids[id] || len(id) != 32 {
			t.Fatalf("total %d (%v) of %s, with the id %q, comes after %d", n, err, r.Key, id, last[string(r.Key)])
		} else {
			ids[id] = true
		}
		last[string(r.Key)] = n
	}
	kept := map[string]int64{}
	for _, e := range streamtest.FreshEntries(c, s.units) {
		kept[e.Key] = e.Value
	}
	if !maps.Equal(last, want) || !maps.Equal(kept, want) {
		t.Fatalf("totals %v, units %v in a fresh reader, want %v", last, kept, want)
	}
	if n := len(c.Markers()); n != lines {
		t.Fatalf("%d markers for %d lines", n, lines)
	}
	c.CheckState()
}

// TestKillBetweenTwoSubTopologies: what the first one sent is committed, the second one has seen nothing of it.
func TestKillBetweenTwoSubTopologies(t *testing.T) {
	t.Parallel()
	for _, lost := range losses {
		t.Run(fmt.Sprintf("%d%%", lost), func(t *testing.T) {
			s := newSales()
			streamtest.Simulate(t, streamtest.ClusterOptions{Topology: s.topo}, func(t *testing.T, c *streamtest.Cluster) {
				a := c.Start("a")
				c.AwaitTasks(2)
				crash := a.CrashAt(string(step.Process), 3, lost)
				c.Produce("lines", line("l0", "c", "p0 p1"), line("l1", "c", "p1 p2"))
				crash.Await()
				splits, counts := s.runs()
				if sent, totals := len(c.Committed(byProductTopic)), len(c.Committed("totals")); sent == 0 || totals > 0 || counts > 0 {
					t.Fatalf("%d records are committed in between, %d totals behind, %d runs: the crash was elsewhere", sent, totals, counts)
				}
				if sent := len(c.Committed(byProductTopic)); sent != 2*splits {
					t.Fatalf("%d records of %d lines", sent, splits)
				}
				a.Start()
				c.Produce("lines", line("l1", "c", "p1 p2"), line("l2", "c", "p0"))
				s.verify(t, c)
				if splits, counts := s.runs(); splits != 3 || counts != 5 {
					t.Fatalf("%d lines were split, %d units counted; want 3 and 5: nothing of them ran twice", splits, counts)
				}
			})
		})
	}
}

// through are faults in the middle of the work of two sub-topologies, on two partitions each. Each proves that it struck.
var through = []struct {
	name   string
	strike func(t *testing.T, c *streamtest.Cluster, a *streamtest.Process)
}{
	{"killed, disk lost", func(_ *testing.T, _ *streamtest.Cluster, a *streamtest.Process) { a.RestartWithoutDisk() }},
	{"stopped", func(t *testing.T, c *streamtest.Cluster, a *streamtest.Process) {
		if err := a.Stop(); err != nil {
			t.Fatal(err)
		}
		c.Start("b")
	}},
	{"table damaged", func(t *testing.T, c *streamtest.Cluster, a *streamtest.Process) {
		if err := a.Stop(); err != nil {
			t.Fatal(err)
		}
		if a.DamageDisk() == 0 {
			t.Fatal("there is no table to damage")
		}
		a.Start()
	}},
	{"commit executed, answer lost", func(t *testing.T, c *streamtest.Cluster, a *streamtest.Process) { unanswered(c, a, false) }},
	{"commit lost", func(t *testing.T, c *streamtest.Cluster, a *streamtest.Process) { unanswered(c, a, true) }},
	{"offsets refused", func(t *testing.T, c *streamtest.Cluster, a *streamtest.Process) {
		struck(c, c.Refuse(kmsg.TxnOffsetCommit, kerr.RebalanceInProgress, 1))
	}},
	{"outputs refused", func(t *testing.T, c *streamtest.Cluster, a *streamtest.Process) {
		struck(c, c.Refuse(kmsg.Produce, kerr.InvalidProducerEpoch, 1))
	}},
	{"zombie", func(t *testing.T, c *streamtest.Cluster, a *streamtest.Process) {
		frozen := a.FreezeAt(string(step.CommitOffsets), 1)
		c.Produce("lines", line("zombie", "c0", "p0 p1"))
		frozen.Await()
		a.Isolate()
		b := c.Start("b")
		c.Until("b to have all tasks", func() bool { return b.Steps(string(step.Start)) == 4 })
		a.Heal()
		frozen.Thaw()
	}},
	{"second process joins and leaves", func(t *testing.T, c *streamtest.Cluster, a *streamtest.Process) {
		b := c.Start("b")
		c.Until("b to have tasks", func() bool { return b.Steps(string(step.Start)) == 2 })
		if err := b.Stop(); err != nil {
			t.Fatal(err)
		}
	}},
	{"leaders and coordinators moved", func(t *testing.T, c *streamtest.Cluster, a *streamtest.Process) {
		c.MoveLeaders()
		c.MoveCoordinators()
	}},
}

// unanswered loses EndTxn, or its answer, until the worker resolves the outcome.
func unanswered(c *streamtest.Cluster, a *streamtest.Process, request bool) {
	loss := c.Lose(streamtest.Loss{Key: kmsg.EndTxn, Request: request, Times: -1})
	resolved := a.CallAt(string(step.Resolve), 1, loss.Remove)
	c.Produce("lines", line("unanswered", "c1", "p1 p2"))
	resolved.Await()
}

// struck gives a fault something to strike, and waits until it did.
func struck(c *streamtest.Cluster, fault interface{ Hits() int }) {
	c.Produce("lines", line("struck", "c1", "p1 p2"))
	c.Until("the fault to strike", func() bool { return fault.Hits() == 1 })
}

func TestTwoSubTopologiesUnderEveryFault(t *testing.T) {
	t.Parallel()
	for _, f := range through {
		t.Run(f.name, func(t *testing.T) {
			s := newSales()
			o := streamtest.ClusterOptions{Topology: s.topo, Partitions: 2, Brokers: 3, Configure: configure(func(cfg *oncemill.Config) {
				cfg.SessionTimeout = 10 * time.Second
			})}
			streamtest.Simulate(t, o, func(t *testing.T, c *streamtest.Cluster) {
				a := c.Start("a")
				c.AwaitTasks(4)
				some := func(prefix string) {
					for i := range 8 {
						c.Produce("lines", line(fmt.Sprint(prefix, i), fmt.Sprint("c", i%4), fmt.Sprintf("p%d p%d", i%3, i%5)))
						c.Pass(30 * time.Millisecond)
					}
				}
				some("before")
				c.AwaitCommitted("totals", 1)
				f.strike(t, c, a)
				some("before") // copies
				some("after")
				s.verify(t, c)
				c.Pass(time.Minute)
				s.verify(t, c)
			})
		})
	}
}
