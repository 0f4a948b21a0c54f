package verify_test

import (
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/examples/retail"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/internal/step"
	"github.com/oncemill/oncemill/internal/task"
	"github.com/oncemill/oncemill/internal/verify"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/topology"
)

// retailSite runs the demo's job over some thousand order lines, with lines sent again and poison, through a crash in the
// middle of a commit.
func retailSite(t *testing.T, lines int, crash bool) (*site, retail.Topics) {
	topics := retail.TopicsOf("shop")
	s := newSite(t, func() *topology.Topology { return retail.Job(retail.JobOptions{App: "shop"}) }, 3)
	reader, err := retail.Embedded()
	check(t, err)
	all, err := reader.ReadAll()
	check(t, err)
	feed, err := retail.NewFeed(all[:lines], retail.FeedConfig{Seed: 7})
	check(t, err)
	producer, err := kgo.NewClient(kgo.SeedBrokers(s.broker.Addrs()...), kgo.DefaultProduceTopic(topics.Input))
	check(t, err)
	defer producer.Close()
	for m, err := range feed.Messages() {
		check(t, err)
		r := &kgo.Record{Key: m.Key, Value: m.Value}
		for _, h := range m.Headers {
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
		}
		producer.Produce(s.ctx, r, func(_ *kgo.Record, err error) {
			if err != nil {
				t.Error(err)
			}
		})
	}
	check(t, producer.Flush(s.ctx))
	if crash {
		s.run(step.EndTxn, 2)
		s.run(step.Confirmed, 2)
	}
	s.run("", 0)
	return s, topics
}

func TestCleanRunOfTheRetailJobThroughCrashesReportsNothing(t *testing.T) {
	t.Parallel()
	s, _ := retailSite(t, 5000, true)
	report := s.verify(s.dir, true)
	s.clean(report, verify.CheckIDs, verify.CheckCauses, verify.CheckPositions, verify.CheckState, verify.CheckMarkers, verify.CheckOrphans,
		verify.CheckRerun, verify.CheckRerunKeys)
	for _, c := range report.Checks {
		if c.Name == verify.CheckMarkers && c.Checked < 5000 {
			t.Errorf("%d inputs were checked for their markers, the feed had more than 5000", c.Checked)
		}
		if c.Name == verify.CheckRerun && c.Skipped > 0 {
			t.Errorf("%d outputs were not compared: %s", c.Skipped, c.Why())
		}
	}
	s.clean(s.verify("", false), verify.CheckIDs, verify.CheckMarkers)
}

// TestPlantedViolationsAreFound plants one kind after the other on one broker, each on top of the ones before.
func TestPlantedViolationsAreFound(t *testing.T) {
	t.Parallel()
	s, topics := retailSite(t, 400, false)
	s.clean(s.verify(s.dir, false), verify.CheckState)

	t.Run("store unequal to changelog", func(t *testing.T) {
		s := s.in(t)
		dir := s.copyState()
		damage(s, dir, retail.StoreOrders)
		s.finds(s.verify(dir, false), problem.FindingState, 2)
	})
	t.Run("state directory in use", func(t *testing.T) {
		s := s.in(t)
		state, err := oncemill.OpenState(s.dir, "shop")
		check(t, err)
		defer func() { check(t, state.Close()) }()
		if _, err := oncemill.OpenState(s.dir, "shop"); problem.CodeOf(err) != problem.DirectoryInUse {
			t.Errorf("opened twice: %v", err)
		}
	})
	t.Run("doubled output", func(t *testing.T) {
		s := s.in(t)
		copied := s.read(topics.Accepted, 0)[3]
		s.produce(&kgo.Record{Topic: topics.Accepted, Partition: 1, Key: copied.Key, Value: copied.Value, Headers: copied.Headers})
		s.finds(s.verify(s.dir, false), problem.FindingDoubled, 1)
	})

	ghosts, _ := retailSite(t, 300, false)
	t.Run("ghost outputs", func(t *testing.T) {
		s := ghosts.in(t)
		id := kgo.RecordHeader{Key: record.HeaderID, Value: []byte(strings.Repeat("5a", 16))}
		other := kgo.RecordHeader{Key: record.HeaderID, Value: []byte(strings.Repeat("5b", 16))}
		s.produce(
			&kgo.Record{Topic: topics.Gifts, Key: []byte("by hand")},
			&kgo.Record{Topic: topics.Gifts, Headers: []kgo.RecordHeader{id, {Key: record.HeaderCause, Value: []byte(topics.Input + "/0@100000")}}},
			&kgo.Record{Topic: topics.Gifts, Headers: []kgo.RecordHeader{other, {Key: record.HeaderCause, Value: []byte("elsewhere/0@1")}}})
		s.finds(s.verify(s.dir, false), problem.FindingGhost, 3)
	})
}

// in is the site seen by a subtest.
func (s *site) in(t *testing.T) *site {
	c := *s
	c.t = t
	return &c
}

// damage changes one key of a store and adds another, behind the changelog's back.
func damage(s *site, dir, store string) {
	s.t.Helper()
	state, err := oncemill.OpenState(dir, s.plan.App)
	check(s.t, err)
	sub := s.plan.Subs[0]
	held, err := state.DB.Acquire(statestore.TaskID{SubTopology: sub.Name, Partition: 0}, sub.Declarations())
	check(s.t, err)
	decl := sub.Store(store).Declaration
	it := held.View(decl).Iterate(nil, nil, false)
	if !it.Next() {
		s.t.Fatal("the store is empty")
	}
	key := slices.Clone(it.Key())
	it.Close()
	check(s.t, held.ApplyRestored(decl, key, []byte(`{"invoice":"forged"}`), false))
	check(s.t, held.ApplyRestored(decl, []byte("a key of nobody"), []byte("x"), false))
	at, _ := held.Position()
	held.SetPosition(at)
	ticket := state.DB.Checkpoint(held)
	<-ticket.Done()
	check(s.t, errors.Join(ticket.Err(), held.Tick()))
	held.Release()
	check(s.t, state.Close())
}

func TestPlantedMarkersAreFound(t *testing.T) {
	t.Parallel()
	s, topics := retailSite(t, 300, false)
	sub := s.plan.Subs[0]
	markers := sub.ByKind(statestore.KindMarkers, sub.Inputs[0].Source).Changelog
	logged := s.read(markers, 0)
	t.Run("marker of another input", func(t *testing.T) {
		s := s.in(t)
		first := logged[0]
		key := slices.Clone(first.Key)
		key[20] ^= 1 // another id, same place
		s.forge(0, 0, markers, key, first.Value)
		s.finds(s.verify("", false), problem.FindingMarker, 1)
	})
	t.Run("marker missing", func(t *testing.T) {
		s := s.in(t)
		s.forge(0, 0, markers, logged[len(logged)-1].Key, nil)
		report := s.verify("", false)
		missing := 0 // the input, and every copy of it
		for _, f := range report.Findings {
			if f.Code == problem.FindingMarker && strings.HasPrefix(f.Place, topics.Input+"/0@") && strings.Contains(f.Text, "no marker") {
				missing++
			}
		}
		if missing == 0 {
			t.Error("nothing is missing")
		}
		s.finds(report, problem.FindingMarker, int64(1+missing))
	})
	t.Run("marker of an input that was not processed", func(t *testing.T) {
		s := s.in(t)
		before := s.verify("", false).Counts[problem.FindingMarker]
		s.forge(0, 0, markers, slices.Concat(logged[1].Key[:8], []byte(strings.Repeat("z", 16))), markerAt(logged[1].Value, 1<<20))
		s.finds(s.verify("", false), problem.FindingMarker, before+1)
	})
}

// markerAt changes the offset of a marker, which is its last number.
func markerAt(value []byte, offset uint64) []byte {
	b := slices.Clone(value[:14]) // version, what, topic, body
	for ; offset >= 0x80; offset >>= 7 {
		b = append(b, byte(offset)|0x80)
	}
	return append(b, byte(offset))
}

func TestPositionsThatDisagreeAreFound(t *testing.T) {
	t.Parallel()
	s, topics := retailSite(t, 200, false)
	t.Run("counter of one input", func(t *testing.T) {
		s := s.in(t)
		s.recommit(0, 0, func(topic string, _ *int64, m *task.Metadata) {
			if topic == topics.Input {
				m.N++
			}
		})
		report := s.verify(s.dir, false)
		// The inputs disagree, and the checkpoint record is behind the larger counter.
		s.finds(report, problem.FindingCounter, 2)
	})
	t.Run("moved offset", func(t *testing.T) {
		s := s.in(t)
		s.recommit(0, 0, func(topic string, at *int64, m *task.Metadata) {
			if topic == topics.Input {
				m.N--
				*at--
			}
		})
		report := s.verify(s.dir, false)
		if report.Counts[problem.FindingCounter] != 2 { // checkpoint record and state
			t.Errorf("%s", show(report))
		}
	})
	t.Run("changelog beyond the offsets", func(t *testing.T) {
		s := s.in(t)
		s.recommit(0, 1, func(_ string, _ *int64, m *task.Metadata) { m.N += 0 })
		s.produce(&kgo.Record{Topic: s.plan.Subs[0].Store(retail.StoreOrders).Changelog, Partition: 1, Key: []byte("k"), Value: []byte("v")})
		report := s.verify("", false)
		if !slices.ContainsFunc(report.Findings, func(f verify.Finding) bool {
			return f.Code == problem.FindingCounter && strings.Contains(f.Text, "cover its changelog")
		}) {
			t.Errorf("%s", show(report))
		}
	})
	t.Run("offset of one input only", func(t *testing.T) {
		s := s.in(t)
		group := kadm.TopicsSet{}
		group.Add(s.plan.Subs[0].Inputs[1].Topic, 2)
		resp, err := s.admin.DeleteOffsets(s.ctx, s.plan.App, group)
		check(t, errors.Join(err, resp.Error()))
		s.says(s.verify(s.dir, false), problem.FindingCounter, "it is -1, that of "+topics.Input+" is")
	})
}

// says demands an example.
func (s *site) says(r *verify.Report, code problem.Code, text string) {
	s.t.Helper()
	if !slices.ContainsFunc(r.Findings, func(f verify.Finding) bool { return f.Code == code && strings.Contains(f.Text, text) }) {
		s.t.Errorf("no example of %s says %q: %s", code, text, show(r))
	}
}

func TestOffsetsThatAreNotOursOrGoneAreFound(t *testing.T) {
	t.Parallel()
	s := counterSite(t, false, false, "a")
	inputs := s.plan.Subs[0].Inputs
	foreign, gone := kadm.Offsets{}, kadm.TopicsSet{}
	for _, in := range inputs {
		foreign.Add(kadm.Offset{Topic: in.Topic, At: 1, LeaderEpoch: -1, Metadata: "by hand"})
		gone.Add(in.Topic, 0)
	}
	resp, err := s.admin.CommitOffsets(s.ctx, s.plan.App, foreign)
	check(t, errors.Join(err, resp.Error()))
	s.says(s.verify(s.dir, false), problem.FindingCounter, `was not committed by the application: its metadata is "by hand"`)
	deleted, err := s.admin.DeleteOffsets(s.ctx, s.plan.App, gone)
	check(t, errors.Join(err, deleted.Error()))
	s.says(s.verify(s.dir, false), problem.FindingCounter, "there is none, but state of transaction")
}

// A conflict has the marker of its refusal; that of the first copy, which has another body, does not stand for it.
func TestRefusalWithoutItsMarkerIsFound(t *testing.T) {
	t.Parallel()
	s := newSite(t, counter(new(atomic.Bool), false), 1)
	now := time.Now()
	for _, value := range []string{"x", "y"} {
		s.produce(&kgo.Record{Topic: "words", Key: []byte("k"), Value: []byte(value), Timestamp: now, Headers: []kgo.RecordHeader{{Key: "id", Value: []byte("1")}}})
	}
	s.run("", 0)
	s.clean(s.verify(s.dir, false), verify.CheckMarkers)
	(&ledgerRun{s}).removeMarker(1)
	s.finds(s.verify("", false), problem.FindingMarker, 1)
}
