package verify_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/internal/verify"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/topology"
)

// agedSite is a ledger of which retention has removed the beginning of the input and of the output, and compaction all of the changelogs
// but the last record of each key, tombstones included.
func agedSite(t *testing.T) *ledgerRun {
	s := ledgerSite(t)
	s.again(&kgo.Record{Topic: "orders", Key: []byte("ann"), Value: []byte("5"), Timestamp: time.Now(), Headers: []kgo.RecordHeader{{Key: "id", Value: []byte("ann5")}}})
	zero := "0"
	for _, in := range s.plan.Internal {
		altered, err := s.admin.AlterTopicConfigs(s.ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "delete.retention.ms", Value: &zero}}, in.Name)
		check(t, err)
		for _, a := range altered {
			check(t, a.Err)
		}
	}
	before := len(s.read(s.plan.Subs[0].Store("balances").Changelog, 0))
	s.broker.Cluster().Compact()
	if after := len(s.read(s.plan.Subs[0].Store("balances").Changelog, 0)); after >= before {
		t.Fatalf("%d records of %d are left: nothing was compacted", after, before)
	}
	check(t, s.broker.Cluster().DeleteRecords("orders", 0, 2))
	check(t, s.broker.Cluster().DeleteRecords("booked", 0, s.read("booked", 0)[1].Offset))
	return s
}

// again runs the application once more, over one more record.
func (s *ledgerRun) again(r *kgo.Record) {
	s.t.Helper()
	s.produce(r)
	s.run("", 0)
}

// What was removed is not judged, and nothing is found because of it. What is left is.
func TestRetentionAndCompactionHideNothingOfWhatIsLeft(t *testing.T) {
	t.Parallel()
	s := agedSite(t)
	report := s.verify(s.dir, true)
	s.clean(report, verify.CheckIDs, verify.CheckCauses, verify.CheckPositions, verify.CheckState, verify.CheckTimers, verify.CheckMarkers, verify.CheckOrphans)
	for name, why := range map[string]string{verify.CheckOrphans: "the input no longer has the record", verify.CheckCauses: "the input no longer has the record",
		verify.CheckTasks: "the beginning of the input was removed"} {
		if c := checkOf(t, report, name); c.Skipped == 0 || c.Reasons[0].Why != why {
			t.Errorf("%+v, want some that were not judged: %s", c, why)
		}
	}
	for _, v := range []struct {
		name  string
		plant func(s *ledgerRun)
		code  problem.Code
		place string
	}{
		{"doubled", func(s *ledgerRun) {
			r := s.read("booked", 0)[0]
			s.produce(&kgo.Record{Topic: "booked", Key: r.Key, Value: r.Value, Headers: r.Headers})
		}, problem.FindingDoubled, "booked/0@"},
		{"ghost", func(s *ledgerRun) {
			id := kgo.RecordHeader{Key: record.HeaderID, Value: fmt.Appendf(nil, "%032x", 7)}
			s.produce(&kgo.Record{Topic: "booked", Headers: []kgo.RecordHeader{id, {Key: record.HeaderCause, Value: []byte("orders/0@1000")}}})
		}, problem.FindingGhost, "booked/0@"},
		{"missing marker", func(s *ledgerRun) { s.removeMarker(2) }, problem.FindingMarker, "orders/0@2"},
		{"store", func(s *ledgerRun) { damage(s.site, s.dir, "balances") }, problem.FindingState, "store balances"},
	} {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			s := agedSite(t)
			v.plant(s)
			report := s.verify(s.dir, false)
			if len(report.Counts) != 1 || report.Counts[v.code] == 0 {
				t.Fatalf("want %s alone: %s", v.code, show(report))
			}
			s.in(t).foundAt(report, v.code, v.place)
		})
	}
}

// A task without state is run again from the middle of its input: of what was made before, nothing can be said.
func TestExecuteBeginsWhereTheInputDoes(t *testing.T) {
	t.Parallel()
	s := newSite(t, func() *topology.Topology {
		topo := topology.New("copy")
		topology.Sink(topo, "copied", topology.Source(topo, "words", "words", serde.String(), serde.String()), "copied", serde.String(), serde.String())
		return topo
	}, 1)
	for i := range 5 {
		s.produce(&kgo.Record{Topic: "words", Key: fmt.Append(nil, i), Value: []byte("x")})
	}
	s.run("", 0)
	check(t, s.broker.Cluster().DeleteRecords("words", 0, 2))
	report := s.verify("", true)
	s.clean(report, verify.CheckRerun)
	if c := checkOf(t, report, verify.CheckRerun); c.Checked != 3 || c.Skipped != 2 || c.Reasons[0].Why != "the input no longer has the record" {
		t.Errorf("%+v, want 3 outputs compared, and 2 not judged", c)
	}
}
