package streamtest_test

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

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

// simulateWith is simulate with other settings, on partitions.
func (h *hoard) simulateWith(t *testing.T, partitions int32, set func(*oncemill.Config), test func(t *testing.T, c *streamtest.Cluster)) {
	t.Helper()
	o := streamtest.ClusterOptions{Topology: h.topo, Partitions: partitions, Configure: configure(func(cfg *oncemill.Config) {
		cfg.MemoryBudget = 16 << 20
		set(cfg)
	})}
	streamtest.Simulate(t, o, test)
}

// TestDiskThatIsSlowerThanTheInput: the budget is used up by a checkpoint that is being written. The application waits for it,
// however long that takes, and stays in the group meanwhile.
func TestDiskThatIsSlowerThanTheInput(t *testing.T) {
	t.Parallel()
	for _, slow := range []time.Duration{5 * time.Second, 2 * time.Hour / raceSample} {
		t.Run(slow.String(), func(t *testing.T) {
			h := newHoard()
			h.simulateWith(t, 1, func(*oncemill.Config) {}, func(t *testing.T, c *streamtest.Cluster) {
				const n = 400
				a := c.Start("a")
				c.AwaitTasks(1)
				frozen := a.FreezeAt(string(step.Ingest), 1)
				h.send(c, 0, n)
				frozen.Await()
				c.Pass(slow)
				if !a.Running() {
					t.Fatalf("the process has ended: %v", a.Wait())
				}
				if got := a.Steps(string(step.Aborting)); got > 1 {
					t.Errorf("%d transactions were given up, want at most the one that found no room", got)
				}
				frozen.Thaw()
				h.verify(t, c, n)
			})
		})
	}
}

// TestBudgetHeldByAnotherWorker: one worker is idle, and its delta fills the budget that another one needs.
func TestBudgetHeldByAnotherWorker(t *testing.T) {
	t.Parallel()
	h := newHoard()
	h.simulateWith(t, 2, func(cfg *oncemill.Config) { cfg.Workers = 2 }, func(t *testing.T, c *streamtest.Cluster) {
		const n = 300
		a := c.Start("a")
		c.AwaitTasks(2)
		h.sendOn(c, 0, 0, 60)
		c.Settle()
		h.sendOn(c, 1, 60, n)
		c.Settle()
		if !a.Running() {
			t.Fatalf("the process has ended: %v", a.Wait())
		}
		h.verify(t, c, n)
	})
}

// TestWorkersShareTheMemoryBudget: the transaction of each worker fits the budget, those of all of them do not.
func TestWorkersShareTheMemoryBudget(t *testing.T) {
	t.Parallel()
	for i, workers := range []int{8, 1} {
		if !sampled(i) {
			continue
		}
		t.Run(fmt.Sprint(workers), func(t *testing.T) {
			h := newHoard()
			h.simulateWith(t, 8, func(cfg *oncemill.Config) {
				cfg.Workers, cfg.CommitBytes, cfg.CommitInterval = workers, 4<<20, 2*time.Second
			}, func(t *testing.T, c *streamtest.Cluster) {
				const n = 800
				h.send(c, 0, n)
				c.Start("a")
				h.verify(t, c, n)
			})
		})
	}
}

// TestRebalanceWhileATransactionWaitsForRoom: the group does not wait for the disk. The transaction is given up before the patience of
// the group ends, and its records are processed when there is room.
func TestRebalanceWhileATransactionWaitsForRoom(t *testing.T) {
	t.Parallel()
	h := newHoard()
	h.simulateWith(t, 2, func(cfg *oncemill.Config) { cfg.TransactionTimeout = 10 * time.Minute }, func(t *testing.T, c *streamtest.Cluster) {
		const n = 400
		a := c.Start("a")
		c.AwaitTasks(2)
		frozen := a.FreezeAt(string(step.Ingest), 1)
		h.send(c, 0, n)
		frozen.Await()
		c.Pass(20 * time.Second)
		began := time.Now()
		b := c.Start("b")
		c.Until("b to have a task", func() bool { return len(b.Tasks()) > 0 || time.Since(began) > 9*time.Minute })
		if took := time.Since(began); took > 15*time.Second {
			t.Errorf("the rebalance took %v", took)
		}
		frozen.Thaw()
		h.verify(t, c, n)
	})
}

// TestCleanStopWhileATransactionWaitsForRoom does not wait for it as long as the broker would.
func TestCleanStopWhileATransactionWaitsForRoom(t *testing.T) {
	t.Parallel()
	h := newHoard()
	h.simulateWith(t, 1, func(cfg *oncemill.Config) { cfg.TransactionTimeout = 10 * time.Minute }, func(t *testing.T, c *streamtest.Cluster) {
		const n = 400
		a := c.Start("a")
		c.AwaitTasks(1)
		a.FailWrites(syscall.ENOSPC)
		h.send(c, 0, n)
		c.Pass(20 * time.Second)
		if err := a.Stop(); err != nil && problem.CodeOf(err) != problem.StoreIO { // of the engine, which closes its files
			t.Fatal(err)
		}
		a.FailWrites(nil)
		a.Start()
		h.verify(t, c, n)
	})
}

// burst writes as many values of hoardBytes as a record says, and confirms it.
type burst struct {
	topo  *topology.Topology
	store *statestore.KeyValueStore[string, []byte]
}

func newBurst() *burst {
	b := &burst{topo: topology.New("burst"), store: statestore.KeyValue("values", serde.String(), serde.Bytes())}
	in := topology.Source(b.topo, "in", "in", serde.String(), serde.String())
	done := topology.Process(b.topo, "burst", in, func(ctx *processor.Context[string, string], r record.Record[string, string]) error {
		n, err := strconv.Atoi(r.Value)
		if err != nil {
			return err
		}
		for i := range n {
			if err := b.store.Put(ctx, fmt.Sprintf("%s/%03d", r.Key, i), make([]byte, hoardBytes)); err != nil {
				return err
			}
		}
		return ctx.Forward(record.New(r.Key, r.Value))
	}, topology.Uses(b.store))
	topology.Sink(b.topo, "out", done, "out", serde.String(), serde.String())
	return b
}

func (b *burst) simulate(t *testing.T, workers int, test func(t *testing.T, c *streamtest.Cluster)) {
	t.Helper()
	o := streamtest.ClusterOptions{Topology: b.topo, Partitions: int32(workers), Configure: configure(func(cfg *oncemill.Config) {
		cfg.MemoryBudget, cfg.Workers, cfg.TransactionTimeout = 16<<20, workers, time.Minute
	})}
	streamtest.Simulate(t, o, test)
}

// TestTwoRecordsThatFitTheBudgetOnlyAlone: of two workers, each with what its record wrote, one gives its transaction up, at once,
// and processes the record again when the other one is done.
func TestTwoRecordsThatFitTheBudgetOnlyAlone(t *testing.T) {
	t.Parallel()
	b := newBurst()
	b.simulate(t, 2, func(t *testing.T, c *streamtest.Cluster) {
		a := c.Start("a")
		c.AwaitTasks(2)
		frozen := a.FreezeAt(string(step.Reserve), 1)
		c.Produce("in", streamtest.Text("x", "75").On(0), streamtest.Text("y", "75").On(1))
		frozen.Await()
		c.Pass(time.Second) // the other one has no room
		began := time.Now()
		frozen.Thaw()
		c.AwaitCommitted("out", 2)
		c.Settle()
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("it took %v", took)
		}
		if got := a.Steps(string(step.Aborting)); got != 1 {
			t.Errorf("%d transactions were given up, want one", got)
		}
		if got := streamtest.FreshEntries(c, b.store); len(got) != 150 || len(c.Committed("out")) != 2 {
			t.Fatalf("%d values, %d outputs", len(got), len(c.Committed("out")))
		}
		c.CheckState()
	})
}

// TestRecordsOfOneTransactionThatFitTheBudgetOnlyAlone are processed one by one.
func TestRecordsOfOneTransactionThatFitTheBudgetOnlyAlone(t *testing.T) {
	t.Parallel()
	b := newBurst()
	b.simulate(t, 1, func(t *testing.T, c *streamtest.Cluster) {
		c.Produce("in", streamtest.Text("x", "30"), streamtest.Text("y", "75"), streamtest.Text("z", "75"))
		a := c.Start("a")
		c.AwaitCommitted("out", 3)
		c.Settle()
		if a.Steps(string(step.Aborting)) == 0 {
			t.Fatal("all of them fitted")
		}
		if got := streamtest.FreshEntries(c, b.store); len(got) != 180 || len(c.Committed("out")) != 3 {
			t.Fatalf("%d values, %d outputs", len(got), len(c.Committed("out")))
		}
		c.CheckState()
	})
}

// TestARecordThatDoesNotFitTheBudget ends the application, and what came before it stays committed.
func TestARecordThatDoesNotFitTheBudget(t *testing.T) {
	t.Parallel()
	b := newBurst()
	b.simulate(t, 1, func(t *testing.T, c *streamtest.Cluster) {
		c.Produce("in", streamtest.Text("x", "30"), streamtest.Text("y", "150"))
		a := c.Start("a")
		if err := a.Wait(); problem.CodeOf(err) != problem.MemoryBudgetTooSmall {
			t.Fatal(err)
		}
		c.Pass(2 * time.Minute)
		if got := c.Committed("out"); len(got) != 1 || string(got[0].Key) != "x" {
			t.Fatalf("%d outputs", len(got))
		}
	})
}

// warnings keeps the messages that a person should see.
type warnings struct {
	slog.Handler
	mu   sync.Mutex
	text []string
}

func (w *warnings) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }

func (w *warnings) WithAttrs([]slog.Attr) slog.Handler { return w }

func (w *warnings) Handle(_ context.Context, r slog.Record) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text = append(w.text, r.Message)
	return nil
}

func (w *warnings) count(part string) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, text := range w.text {
		if strings.Contains(text, part) {
			n++
		}
	}
	return n
}

// TestCleanStopOnAFullDisk: everything committed is in Kafka, so the stop is soon, also when the budget is used up. It says what the
// next start has to do, which does it.
func TestCleanStopOnAFullDisk(t *testing.T) {
	t.Parallel()
	for _, n := range []int{20, 400} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			h, said := newHoard(), &warnings{}
			h.simulateWith(t, 1, func(cfg *oncemill.Config) { cfg.Logger = slog.New(said) }, func(t *testing.T, c *streamtest.Cluster) {
				a := c.Start("a")
				c.AwaitTasks(1)
				a.FailWrites(syscall.ENOSPC)
				h.send(c, 0, n)
				c.Pass(time.Minute)
				began := time.Now()
				if err := a.Stop(); err != nil && problem.CodeOf(err) != problem.StoreIO { // of the engine, which closes its files
					t.Fatal(err)
				}
				if took := time.Since(began); took > 15*time.Second {
					t.Errorf("it took %v", took)
				}
				if said.count("the next start replays") != 1 {
					t.Errorf("the warnings are %q", said.text)
				}
				a.FailWrites(nil)
				a.Start()
				h.verify(t, c, n)
				if err := a.Stop(); err != nil || said.count("the next start replays") != 1 {
					t.Errorf("%v; a stop on a disk with room said %q", err, said.text)
				}
			})
		})
	}
}
