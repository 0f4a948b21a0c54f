package verify_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/internal/verify"
	"github.com/oncemill/oncemill/internal/verify/kafkalog"
	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/streamtest"
	"github.com/oncemill/oncemill/topology"
)

// busy has everything that an application deletes or writes again while it runs: markers that expire within two minutes, a
// repartition topic, timers that are set anew, records that wait for a retry.
func busy() *topology.Topology {
	totals := statestore.KeyValue("totals", serde.String(), serde.String())
	seen := statestore.KeyValue("seen", serde.String(), serde.String())
	t := topology.New("busy")
	in := topology.Source(t, "orders", "orders", serde.String(), serde.String(),
		topology.Deduplicate(dedup.Config{ID: dedup.Header("id"), Window: 90 * time.Second}))
	added := topology.Process(t, "add", in, func(ctx *processor.Context[string, string], r record.Record[string, string]) error {
		if r.Value == "early" && ctx.Now().Before(r.Timestamp.Add(4*time.Second)) {
			return errors.New("too early")
		}
		err := errors.Join(totals.Put(ctx, r.Key, r.Value),
			totals.Schedule(ctx, r.Key, statestore.Timer{Name: "close", Clock: statestore.WallClock, At: ctx.Now().Add(time.Minute)}))
		if err != nil {
			return err
		}
		return ctx.Forward(r)
	}, topology.Uses(totals), topology.OnFailure(processor.DelayedRetryInOrder(processor.DeadLetter(), 3*time.Second, 3*time.Second)),
		topology.OnTimer(totals, func(ctx *processor.Context[string, string], key string, _ statestore.Timer) error {
			return errors.Join(totals.Delete(ctx, key), ctx.Forward(record.New(key, "closed")))
		}))
	moved := topology.Repartition(t, "by-key", added, serde.String(), serde.String())
	noted := topology.Process(t, "note", moved, func(ctx *processor.Context[string, string], r record.Record[string, string]) error {
		if err := seen.Put(ctx, r.Key, r.Value); err != nil {
			return err
		}
		return ctx.Forward(r)
	}, topology.Uses(seen))
	topology.Sink(t, "noted", noted, "noted", serde.String(), serde.String())
	return t
}

// slowLog takes its time before each read and in the middle of it, so that the application goes on meanwhile. Only a read that
// goes on where another one ended is quick.
type slowLog struct {
	verify.Log
	pass    func()
	ends    map[string]int64
	removed map[string]int // reads whose records were removed meanwhile, by topic
}

func (l *slowLog) Read(ctx context.Context, topic string, partition int32, from, to int64, fn func(*record.Raw) error) error {
	name := place(topic, partition)
	quick := l.ends[name] == from
	l.ends[name] = to
	if !quick {
		l.pass()
	}
	n := 0
	err := l.Log.Read(ctx, topic, partition, from, to, func(raw *record.Raw) error {
		if n++; n == 20 && !quick {
			l.pass()
		}
		return fn(raw)
	})
	if problem.CodeOf(err) == problem.OffsetOutOfRange {
		l.removed[topic]++
	}
	return err
}

// Beside an application under load, whose members come, go and die, which deletes what it no longer needs, and whose changelogs are
// compacted: nothing is found, and each check still judges something. Then one violation of each kind that topics alone show.
func TestVerifyBesideABusyApplicationFindsWhatIsThereOnly(t *testing.T) {
	t.Parallel()
	streamtest.Simulate(t, streamtest.ClusterOptions{Topology: busy(), Partitions: 2,
		Configure: func(_ string, cfg *oncemill.Config) { cfg.CommitInterval = 100 * time.Millisecond },
	}, func(t *testing.T, c *streamtest.Cluster) {
		ctx, cancel := context.WithCancel(t.Context())
		load := make(chan struct{})
		go func() {
			defer close(load)
			for n := 0; ctx.Err() == nil; n++ {
				m := n - n%9/8 // every ninth is a copy
				value := "paid"
				if m%17 == 3 {
					value = "early"
				}
				c.Produce("orders", streamtest.Text(fmt.Sprint("k", m%500), value).With("id", fmt.Sprint(m)))
				c.Pass(60 * time.Millisecond)
			}
		}()
		a, b := c.Start("a"), c.Start("b")
		c.Start("stays") // and deletes what is no longer needed, which takes half a minute
		c.Pass(2 * time.Minute)
		act := 0
		members := func() {
			switch act++; act % 6 {
			case 1:
				b.Kill(50)
			case 3:
				b.Start()
			case 4:
				must(t, a.Stop())
			case 5:
				a.Start()
			}
		}
		plan, err := busy().Build()
		must(t, err)
		log := &slowLog{Log: kafkalog.New(c.NewClient(kafkalog.Options()...), 0), ends: map[string]int64{}, removed: map[string]int{}, pass: func() {
			members()
			c.Pass(4 * time.Second)
			c.Broker().Compact()
		}}
		reasons := map[string]int64{}
		for round := range 2 {
			report, err := verify.Run(t.Context(), verify.Config{Plan: plan, Log: log, Dir: t.TempDir()})
			if must(t, err); !report.Clean() {
				t.Fatalf("round %d: %s", round, show(report))
			}
			for _, check := range report.Checks {
				t.Logf("%-30s %6d checked %6d not judged %s", check.Name, check.Checked, check.Skipped, check.Why())
				if check.Checked == 0 && check.Name != verify.CheckState {
					t.Errorf("round %d: %s: nothing was judged", round, check.Name)
				}
				for _, r := range check.Reasons {
					reasons[r.Why] += r.Count
				}
			}
		}
		for _, why := range []string{"written again while it was read", "the input no longer has the record", "outside the window, or a duplicate of what is"} {
			if reasons[why] == 0 {
				t.Errorf("%q never happened: the load shows less than it should", why)
			}
		}
		for _, topic := range []string{"busy-by-key-repartition", "busy-orders-markers-changelog"} {
			if log.removed[topic] == 0 {
				t.Errorf("nothing of %s was removed while it was read, only of %v", topic, log.removed)
			}
		}
		cancel()
		<-load
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
