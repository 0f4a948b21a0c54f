package verify_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/internal/verify"
	"github.com/oncemill/oncemill/internal/verify/kafkalog"
	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/streamtest"
)

// siteOf sees a cluster in virtual time as a site.
func siteOf(t *testing.T, c *streamtest.Cluster, faulty *atomic.Bool) *site {
	s := &site{t: t, ctx: t.Context(), topo: counter(faulty, false), client: c.NewClient(kgo.RecordPartitioner(kgo.ManualPartitioner())),
		log: kafkalog.New(c.NewClient(kafkalog.Options()...), 0)}
	s.admin = kadm.NewClient(s.client)
	var err error
	s.plan, err = s.topo().Build()
	check(t, err)
	return s
}

// The counter runs over a word whose timestamp lies 70 minutes ahead, which is too far, so that it counts as one of the clock, and then
// over a word every five minutes until stream time has passed it by: the marker of the word has expired since, and its timestamp says
// that it has not. Among the markers that are live, one that is missing is found all the same.
func TestTimestampAheadOfTheClockIsRecognisedAfterStreamTimePassedIt(t *testing.T) {
	t.Parallel()
	var faulty atomic.Bool
	streamtest.Simulate(t, streamtest.ClusterOptions{Topology: counter(&faulty, false)()}, func(t *testing.T, c *streamtest.Cluster) {
		a := c.Start("a")
		words := int64(0)
		word := func(at time.Time) {
			c.Produce("words", streamtest.Text("k", "x").With("id", fmt.Sprint(words)).At(at))
			words++
		}
		word(time.Now())
		word(time.Now().Add(70 * time.Minute))
		for n := range 21 {
			word(time.Now())
			c.Pass(5 * time.Minute)
			if n == 16 { // stream time has passed it, and its marker is still there
				word(time.Now())
				c.Settle()
				s := siteOf(t, c, &faulty)
				s.clean(s.verify("", true), verify.CheckMarkers, verify.CheckRerun, verify.CheckRerunKeys)
			}
		}
		c.Settle()
		must(t, a.Stop())
		c.Pass(2 * time.Minute) // the group forgets the member
		s := siteOf(t, c, &faulty)
		report := s.verify("", true)
		s.clean(report, verify.CheckMarkers, verify.CheckRerun, verify.CheckRerunKeys)
		markers := checkOf(t, report, verify.CheckMarkers)
		if len(markers.Reasons) != 2 || markers.Reasons[1] != (verify.Reason{Why: "the timestamp was ahead of the clock", Count: 1}) || markers.Checked+markers.Skipped != words {
			t.Errorf("%+v, want one of %d words ahead of the clock", markers, words)
		}
		log := s.plan.Subs[0].ByKind(statestore.KindMarkers, s.plan.Subs[0].Inputs[0].Source).Changelog
		for _, r := range c.Committed(log) {
			if m, err := dedup.DecodeMarker(r.Value); err == nil && m.Offset == words-3 {
				s.forge(0, 0, log, r.Key, nil)
			}
		}
		report = s.verify("", false)
		s.finds(report, problem.FindingMarker, 1)
		if want := fmt.Sprintf("words/0@%d", words-3); report.Findings[0].Place != want {
			t.Errorf("found at %s, want %s", report.Findings[0].Place, want)
		}
	})
}
