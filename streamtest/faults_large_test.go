package streamtest_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/internal/step"
	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/streamtest"
	"github.com/oncemill/oncemill/topology"
)

// TestStateValueThatItsChangelogRefuses: what can fail because of one record must fail at it. A value above the limit of the
// changelog aborts every transaction for five minutes; then the application ends, and does so again after each restart.
func TestStateValueThatItsChangelogRefuses(t *testing.T) {
	t.Parallel()
	topo := topology.New("fat")
	topo.Defaults(processor.Policies{Process: processor.DeadLetter(), Encode: processor.DeadLetter(), Produce: processor.DeadLetter()})
	store := statestore.KeyValue("values", serde.String(), serde.Bytes())
	in := topology.Source(topo, "in", "in", serde.String(), serde.String())
	topology.Process(topo, "keep", in, func(ctx *processor.Context[string, []byte], r record.Record[string, string]) error {
		if r.Value == "fat" {
			return store.Put(ctx, r.Key, make([]byte, 2<<20))
		}
		return store.Put(ctx, r.Key, []byte(r.Value))
	}, topology.Uses(store))
	streamtest.Simulate(t, streamtest.ClusterOptions{Topology: topo}, func(t *testing.T, c *streamtest.Cluster) {
		a := c.Start("a")
		c.Produce("in", streamtest.Text("k0", "thin"), streamtest.Text("k1", "fat"), streamtest.Text("k2", "thin"))
		c.Pass(10 * time.Minute)
		if !a.Running() {
			t.Fatalf("the process has ended: %v", a.Wait())
		}
		c.Settle()
		if n := a.Steps(string(step.Aborting)); n != 0 {
			t.Errorf("%d aborts: it failed at its transaction, not at its record", n)
		}
		if letters := c.Committed("fat-dead-letters"); len(letters) != 1 || string(letters[0].Key) != "k1" ||
			streamtest.Header(letters[0], "__streams.errors.exception") != string(problem.StateTooLarge) {
			t.Errorf("%d dead letters", len(letters))
		}
		if got := streamtest.FreshEntries(c, store); len(got) != 2 {
			t.Errorf("%d entries", len(got))
		}
	})
}

// Timers and parked records are entries of changelogs too. What does not fit fails at its record: a timer by the process policy, a
// record that cannot wait by what comes after its delayed retry, one that cannot wait behind another by what keeps the order.
func TestTimersAndParkedRecordsThatTheirChangelogRefuses(t *testing.T) {
	t.Parallel()
	topo := topology.New("fat")
	store := statestore.KeyValue("values", serde.String(), serde.String())
	in := topology.Source(topo, "in", "in", serde.String(), serde.String())
	out := topology.Process(topo, "keep", in, func(ctx *processor.Context[string, string], r record.Record[string, string]) error {
		kind, size, _ := strings.Cut(r.Value, " ")
		n, err := strconv.Atoi(strings.TrimRight(size, "."))
		if err != nil {
			return err
		}
		if kind != "timer" {
			return errHandler
		}
		if err := store.Put(ctx, r.Key, "x"); err != nil {
			return err
		}
		for _, n := range []int{1, n} {
			if err := store.Schedule(ctx, r.Key, statestore.Timer{Name: "t", Clock: statestore.WallClock, At: ctx.Now().Add(time.Second), Payload: make([]byte, n)}); err != nil {
				if n > 1 && problem.CodeOf(err) == problem.StateTooLarge {
					return ctx.Forward(record.New(r.Key, "kept the small one"))
				}
				return err
			}
		}
		return ctx.Forward(r)
	}, topology.OnFailure(processor.DelayedRetryInOrder(processor.Skip(), time.Minute)),
		topology.OnTimer(store, func(ctx *processor.Context[string, string], key string, timer statestore.Timer) error {
			return ctx.Forward(record.New(key, fmt.Sprint("rang ", len(timer.Payload))))
		}))
	topology.Sink(topo, "out", out, "out", serde.String(), serde.String())
	d := streamtest.New(t, topo, streamtest.Options{MaxRecordBytes: 4 << 10})
	fat := "park 1" + strings.Repeat(".", 3900)
	d.Pipe("in", streamtest.Text("a", "timer 3000"), streamtest.Text("b", "timer 4000"), streamtest.Text("c", fat),
		streamtest.Text("d", "park 1"), streamtest.Text("d", fat))
	d.Commit()
	if stats := d.Stats(); stats.Skipped != 2 || len(d.Parked()) != 1 {
		t.Fatalf("%d records are skipped and %d parked", stats.Skipped, len(d.Parked()))
	}
	d.Advance(2 * time.Second)
	d.Commit()
	var got []string
	for _, r := range d.Output("out") {
		got = append(got, string(r.Key)+": "+string(r.Value))
	}
	if want := "[a: timer 3000 b: kept the small one a: rang 3000 b: rang 1]"; fmt.Sprint(got) != want {
		t.Errorf("outputs %v, want %s", got, want)
	}
}
