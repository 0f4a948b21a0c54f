package verify_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/internal/verify"
	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/topology"
)

// counter counts words, and does to three of them what must not be: a handler that is not a function of record and state
// cannot be told from a lost, a ghost and a wrong output. faulty switches it on, for the run of the application alone.
func counter(faulty *atomic.Bool, timers bool) func() *topology.Topology {
	return func() *topology.Topology {
		counts := statestore.KeyValue("counts", serde.String(), serde.Int64())
		t := topology.New("counter")
		in := topology.Source(t, "words", "words", serde.String(), serde.String(),
			topology.Deduplicate(dedup.Config{ID: dedup.Header("id"), Window: time.Hour}))
		options := []topology.ProcessOption{topology.Uses(counts)}
		if timers {
			options = append(options, topology.OnTimer(counts, func(*processor.Context[string, int64], string, statestore.Timer) error { return nil }))
		}
		out := topology.Process(t, "count", in, func(ctx *processor.Context[string, int64], r record.Record[string, string]) error {
			n, _, err := counts.Get(ctx, r.Key)
			if err != nil {
				return err
			}
			n++
			if faulty.Load() && r.Key == "wrong" {
				n += 100
			}
			if err := counts.Put(ctx, r.Key, n); err != nil {
				return err
			}
			if timers {
				if err := counts.Schedule(ctx, r.Key, statestore.Timer{Name: "later", Clock: statestore.WallClock, At: ctx.Now().Add(time.Hour)}); err != nil {
					return err
				}
			}
			switch {
			case faulty.Load() && r.Key == "lost":
				return nil
			case faulty.Load() && r.Key == "ghost":
				if err := ctx.Forward(record.New(r.Key, n)); err != nil {
					return err
				}
			}
			return ctx.Forward(record.New(r.Key, n))
		}, options...)
		topology.Sink(t, "counted", out, "counted", serde.String(), serde.Int64())
		return t
	}
}

func counterSite(t *testing.T, faulty bool, timers bool, keys ...string) *site {
	var switched atomic.Bool
	s := newSite(t, counter(&switched, timers), 1)
	for i, key := range keys {
		s.produce(&kgo.Record{Topic: "words", Key: []byte(key), Value: []byte("x"), Headers: []kgo.RecordHeader{{Key: "id", Value: fmt.Append(nil, i)}}})
	}
	switched.Store(faulty)
	s.run("", 0)
	switched.Store(false)
	return s
}

func TestExecuteFindsLostGhostAndWrongOutputs(t *testing.T) {
	t.Parallel()
	s := counterSite(t, true, false, "right", "lost", "ghost", "wrong", "right")
	s.clean(s.verify(s.dir, false), verify.CheckIDs, verify.CheckMarkers) // nothing of it can be seen without
	report := s.verify(s.dir, true)
	want := map[problem.Code]int64{problem.FindingLost: 1, problem.FindingGhost: 2, problem.FindingState: 1}
	if fmt.Sprint(report.Counts) != fmt.Sprint(want) {
		t.Fatalf("want %v: %s", want, show(report))
	}
}

func TestExecuteComparesDuplicatesAndRecordsWithoutIDs(t *testing.T) {
	t.Parallel()
	s := newSite(t, counter(new(atomic.Bool), false), 2)
	for i, id := range []string{"a", "b", "a", "", "c", "b"} {
		r := &kgo.Record{Topic: "words", Partition: int32(i % 2), Key: []byte("k"), Value: []byte("x")}
		if id != "" {
			r.Headers = []kgo.RecordHeader{{Key: "id", Value: []byte(id)}}
		}
		s.produce(r)
	}
	s.run("", 0)
	s.clean(s.verify(s.dir, true), verify.CheckRerun, verify.CheckRerunKeys)
}

func TestExecuteSaysWhatItCannotRepeat(t *testing.T) {
	t.Parallel()
	s := counterSite(t, false, true, "a", "b")
	report := s.verify(s.dir, true)
	s.clean(report, verify.CheckTimers)
	for _, c := range report.Checks {
		if c.Name == verify.CheckRerun && c.Skipped == 0 {
			t.Error("timers of the wall clock were compared")
		}
	}
}

func TestSharedTopicsAcceptOutputsOfOtherApplications(t *testing.T) {
	t.Parallel()
	s := counterSite(t, true, false, "ghost", "right")
	s.shared = true
	s.produce(&kgo.Record{Topic: "counted", Key: []byte("by hand")})
	s.clean(s.verify("", true), verify.CheckRerun)
	s.shared = false
	if report := s.verify("", true); report.Counts[problem.FindingGhost] != 2 {
		t.Errorf("not shared: %s", show(report))
	}
}
