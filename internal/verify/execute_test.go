package verify_test

import (
	"fmt"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/cli"
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

// checkOf is a line of a report.
func checkOf(t *testing.T, r *verify.Report, name string) *verify.Check {
	t.Helper()
	for _, c := range r.Checks {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("no check %q", name)
	return nil
}

// Timers that wait in both runs, and of which none can have fired, change nothing: what is wrong is a finding.
func TestExecuteJudgesTasksWhoseTimersWait(t *testing.T) {
	t.Parallel()
	s := counterSite(t, false, true, "a", "b")
	s.clean(s.verify(s.dir, true), verify.CheckTimers, verify.CheckRerun, verify.CheckRerunKeys)
	s = counterSite(t, true, true, "a", "lost")
	s.finds(s.verify(s.dir, true), problem.FindingLost, 1)
}

// alarms counts words, and makes an output of each after a pause; a word that comes again sets its timer anew. Only the clock
// knows whether it had fired before.
func alarms(pause time.Duration, faulty *atomic.Bool) func() *topology.Topology {
	return func() *topology.Topology {
		counts := statestore.KeyValue("counts", serde.String(), serde.Int64())
		t := topology.New("alarms")
		in := topology.Source(t, "words", "words", serde.String(), serde.String())
		out := topology.Process(t, "count", in, func(ctx *processor.Context[string, int64], r record.Record[string, string]) error {
			n, _, err := counts.Get(ctx, r.Key)
			if err == nil {
				err = counts.Put(ctx, r.Key, n+1)
			}
			if err == nil {
				err = counts.Schedule(ctx, r.Key, statestore.Timer{Name: "later", Clock: statestore.WallClock, At: ctx.Now().Add(pause)})
			}
			if err != nil || faulty.Load() {
				return err
			}
			return ctx.Forward(record.New(r.Key, n+1))
		}, topology.OnTimer(counts, func(ctx *processor.Context[string, int64], key string, _ statestore.Timer) error {
			return ctx.Forward(record.New(key, int64(-1)))
		}))
		topology.Sink(t, "counted", out, "counted", serde.String(), serde.Int64())
		return t
	}
}

// What both runs made is right, whatever the clock did; what differs proves nothing where the clock had a say.
func TestExecuteComparesWhatItCanWhereTheClockHadASay(t *testing.T) {
	t.Parallel()
	var faulty atomic.Bool
	s := newSite(t, alarms(time.Millisecond, &faulty), 1)
	s.produce(&kgo.Record{Topic: "words", Key: []byte("a"), Value: []byte("x")}, &kgo.Record{Topic: "words", Key: []byte("b"), Value: []byte("x")})
	s.runUntil(func() bool { return len(s.read("counted", 0)) == 4 })
	s.clean(s.verify(s.dir, true), verify.CheckRerun, verify.CheckRerunKeys)
	if c := checkOf(t, s.verify(s.dir, true), verify.CheckRerun); c.Checked != 4 || c.Skipped != 0 {
		t.Errorf("all timers have fired: %+v, want 4 outputs compared", c)
	}

	faulty.Store(true) // it makes no outputs, and sets the timer of a key anew
	s = newSite(t, alarms(time.Hour, &faulty), 1)
	s.produce(&kgo.Record{Topic: "words", Key: []byte("a"), Value: []byte("x")}, &kgo.Record{Topic: "words", Key: []byte("a"), Value: []byte("x")})
	s.run("", 0)
	faulty.Store(false)
	s.clean(s.verify(s.dir, true), verify.CheckRerunKeys)
	if c := checkOf(t, s.verify(s.dir, true), verify.CheckRerun); c.Checked != 0 || c.Skipped != 2 || !strings.Contains(c.Why(), "timers of the wall clock") {
		t.Errorf("the first timer may have fired: %+v, want 2 outputs not judged", c)
	}
	if code, _, talk := s.verb("--execute"); code != cli.ExitOK || !strings.Contains(talk, "WARN  "+verify.CheckRerun+": nothing was judged") {
		t.Errorf("exit code %d, and nobody is warned:\n%s", code, talk)
	}
}

// A timestamp far ahead counts as the time at which the record was processed, which is in no topic.
func TestExecuteDoesNotJudgeATimestampAheadOfTheClock(t *testing.T) {
	t.Parallel()
	s := newSite(t, counter(new(atomic.Bool), false), 1)
	for i, ahead := range []time.Duration{0, 10 * time.Hour, 0} {
		s.produce(&kgo.Record{Topic: "words", Key: []byte("k"), Value: []byte("x"), Timestamp: time.Now().Add(ahead),
			Headers: []kgo.RecordHeader{{Key: "id", Value: fmt.Append(nil, i)}}})
	}
	s.run("", 0)
	report := s.verify(s.dir, true)
	s.clean(report, verify.CheckRerun, verify.CheckRerunKeys)
	if c := checkOf(t, report, verify.CheckRerunKeys); c.Skipped == 0 || !strings.Contains(c.Why(), "ahead of the clock") {
		t.Errorf("%+v: the markers lie in buckets that the clock chose", c)
	}
	if c := checkOf(t, report, verify.CheckRerun); c.Checked != 3 || c.Skipped != 0 {
		t.Errorf("%+v: the outputs are equal", c)
	}
}

// The partition of an output belongs to it.
func TestExecuteFindsAnOutputInAnotherPartition(t *testing.T) {
	t.Parallel()
	s := newSite(t, counter(new(atomic.Bool), false), 2)
	s.produce(&kgo.Record{Topic: "words", Key: []byte("k"), Value: []byte("x"), Headers: []kgo.RecordHeader{{Key: "id", Value: []byte("1")}}})
	s.run("", 0)
	for p := range int32(2) {
		for _, made := range s.read("counted", p) {
			check(t, s.broker.Cluster().DeleteRecords("counted", p, made.Offset+1))
			s.produce(&kgo.Record{Topic: "counted", Partition: 1 - p, Key: made.Key, Value: made.Value, Headers: made.Headers})
			s.finds(s.verify(s.dir, true), problem.FindingGhost, 1)
			return
		}
	}
	t.Fatal("there is no output")
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

// A task that is not run again is counted where tasks are, and its outputs where outputs are: the numbers add up.
func TestExecuteCountsTasksAndOutputsThatWereNotRun(t *testing.T) {
	t.Parallel()
	s := newSite(t, func() *topology.Topology {
		topo := topology.New("both")
		in := topology.Source(topo, "words", "words", serde.String(), serde.String(), topology.AlsoTopics("names"),
			topology.Deduplicate(dedup.Config{ID: dedup.Header("id"), Window: time.Hour}))
		topology.Sink(topo, "counted", in, "counted", serde.String(), serde.String())
		return topo
	}, 2)
	for i := range 20 {
		for _, topic := range []string{"words", "names"} {
			s.produce(&kgo.Record{Topic: topic, Partition: int32(i % 2), Key: fmt.Append(nil, i), Value: []byte("x"),
				Headers: []kgo.RecordHeader{{Key: "id", Value: fmt.Append(nil, topic, i)}}})
		}
	}
	s.run("", 0)
	report := s.verify(s.dir, true)
	for name, want := range map[string]verify.Check{
		verify.CheckTasks: {Skipped: 2, Reasons: []verify.Reason{{Why: "several inputs: their order is not in the topics", Count: 2}}},
		verify.CheckRerun: {Skipped: 40, Reasons: []verify.Reason{{Why: "of tasks that were not run again", Count: 40}}},
		verify.CheckIDs:   {Checked: 40},
	} {
		if want.Name = name; !reflect.DeepEqual(*checkOf(t, report, name), want) {
			t.Errorf("%+v, want %+v", *checkOf(t, report, name), want)
		}
	}
}
