package verify_test

import (
	"context"
	"slices"
	"testing"

	"github.com/oncemill/oncemill/internal/graph"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/internal/task"
	"github.com/oncemill/oncemill/internal/verify"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/statestore"
)

// compactedLog is a log of which compaction has removed the record of a key below the cut, because the application has written the
// key again since.
type compactedLog struct {
	verify.Log
	topic string
	gone  func(key []byte) bool
	again bool // the later record is there
	cut   int64
	later *record.Raw
}

func (l *compactedLog) Topics(ctx context.Context, names []string) (map[string]verify.Topic, error) {
	topics, err := l.Log.Topics(ctx, names)
	if topic, ok := topics[l.topic]; ok && l.cut == 0 {
		l.cut = topic.Ends[0]
	} else if ok && l.again {
		topic.Ends = slices.Clone(topic.Ends)
		topic.Ends[0] = l.cut + 1
		topics[l.topic] = topic
	}
	return topics, err
}

func (l *compactedLog) Read(ctx context.Context, topic string, partition int32, from, to int64, fn func(*record.Raw) error) error {
	if topic != l.topic {
		return l.Log.Read(ctx, topic, partition, from, to, fn)
	}
	if from >= to {
		return nil
	}
	if from == l.cut {
		return fn(l.later)
	}
	return l.Log.Read(ctx, topic, partition, from, to, func(raw *record.Raw) error {
		if !l.gone(raw.Key) {
			return fn(raw)
		}
		again := *raw
		again.Offset, again.Key, again.Value = l.cut, slices.Clone(raw.Key), slices.Clone(raw.Value)
		l.later = &again
		return nil
	})
}

// A key that is missing because it was written again while verify read is no finding; one that is missing is.
func TestWhatWasWrittenAgainIsNotMissing(t *testing.T) {
	t.Parallel()
	s := ledgerSite(t)
	timers, parked, balances := s.store(statestore.KindTimers), s.store(statestore.KindParked), s.plan.Subs[0].Store("balances")
	timer := func(due bool) func(key []byte) bool {
		var wanted []byte
		for _, r := range s.read(timers.Changelog, 0) {
			k, err := task.ReadTimerKey(r.Key, r.Value)
			if check(t, err); k.Due == due && string(k.Key) == "ann" {
				wanted = r.Key
			}
		}
		return func(key []byte) bool { return string(key) == string(wanted) }
	}
	numbers := s.parkedNumbers()
	for _, c := range []struct {
		name  string
		store *graph.Store
		gone  func(key []byte) bool
	}{
		{"due key", timers, timer(true)},
		{"identity key", timers, timer(false)},
		{"key that a timer is set on", balances, func(key []byte) bool { return string(key) == "ann" }},
		{"parked record", parked, func(key []byte) bool { return key[0] == 'p' && string(key[1:]) == string(numbers[1]) }},
		{"place in a queue", parked, func(key []byte) bool { return key[0] == 'q' && string(key[17:]) == string(numbers[1]) }},
		{"head of a queue", parked, func(key []byte) bool { return key[0] == 'q' && string(key[17:]) == string(numbers[0]) }},
		{"checkpoint record", s.store(statestore.KindTask), func([]byte) bool { return true }},
	} {
		for _, again := range []bool{true, false} {
			log := &compactedLog{Log: s.log, topic: c.store.Changelog, gone: c.gone, again: again}
			report, err := verify.Run(s.ctx, verify.Config{Plan: s.plan, Log: log, Dir: t.TempDir()})
			if check(t, err); log.later == nil {
				t.Fatalf("%s: nothing was removed", c.name)
			}
			if report.Clean() != again {
				t.Errorf("%s, written again %t: %s", c.name, again, show(report))
			}
			skipped := int64(0)
			for _, check := range report.Checks {
				for _, r := range check.Reasons {
					if r.Why == "written again while it was read" {
						skipped += r.Count
					}
				}
			}
			if (skipped > 0) != again {
				t.Errorf("%s, written again %t: %d were not judged for that", c.name, again, skipped)
			}
		}
	}
}

// expiringLog is a log of which the application has deleted markers after the cut.
type expiringLog struct {
	verify.Log
	topic string
	asked bool
}

func (l *expiringLog) Topics(ctx context.Context, names []string) (map[string]verify.Topic, error) {
	topics, err := l.Log.Topics(ctx, names)
	if topic, ok := topics[l.topic]; ok && !l.asked {
		l.asked = true
		topic.Starts = []int64{0}
		topics[l.topic] = topic
	}
	return topics, err
}

// Markers that expired while verify read are not demanded; those that were deleted before are.
func TestMarkersThatExpiredMeanwhileAreNotMissing(t *testing.T) {
	t.Parallel()
	s := ledgerSite(t)
	markers := s.store(statestore.KindMarkers).Changelog
	all := s.read(markers, 0)
	bucket := func(i int) string { return string(all[i].Key[:8]) }
	if bucket(0) == bucket(1) {
		t.Fatal("the old order and the next one have one bucket: the test shows nothing")
	}
	for _, c := range []struct {
		upTo    int64
		missing int64
	}{{all[1].Offset, 1}, {all[len(all)-1].Offset + 1, 5}} {
		check(t, s.broker.Cluster().DeleteRecords(markers, 0, c.upTo))
		report, err := verify.Run(s.ctx, verify.Config{Plan: s.plan, Log: &expiringLog{Log: s.log, topic: markers}, Dir: t.TempDir()})
		if check(t, err); !report.Clean() {
			t.Errorf("deleted up to %d meanwhile: %s", c.upTo, show(report))
		}
		if c := checkOf(t, report, verify.CheckMarkers); c.Checked+c.Skipped != 5 || c.Skipped == 0 {
			t.Errorf("%+v", c)
		}
		if report := s.verify("", false); report.Counts[problem.FindingMarker] < c.missing {
			t.Errorf("deleted up to %d before: %s", c.upTo, show(report))
		}
	}
}
