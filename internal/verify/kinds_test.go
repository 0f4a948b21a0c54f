package verify_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/cli"
	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/internal/task"
	"github.com/oncemill/oncemill/internal/verify"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/statestore"
)

// kind is a kind of violation that verify claims to see, planted by editing topics, offsets or the store from outside.
type kind struct {
	name string
	site func(t *testing.T) *ledgerRun
	// plant returns the id or key that decides whether a sample sees it; nil: each sample does.
	plant   func(s *ledgerRun) []byte
	execute bool // only a second run shows it
	code    problem.Code
	check   string
	place   string
	// ageless violations are of the present state: --since leaves none of them out.
	ageless bool
	// has and wants are both values, where there are two.
	has, wants string
}

// counted is an application that counted five words, and is stopped.
func counted(t *testing.T) *ledgerRun {
	return &ledgerRun{counterSite(t, false, false, "a", "b", "c", "d", "e")}
}

var kinds = []kind{
	{name: "lost", site: counted, execute: true, code: problem.FindingLost, check: verify.CheckRerun, place: "counted/0",
		plant: func(s *ledgerRun) []byte {
			return s.rewrite("counted", func(all []*kgo.Record) ([]*kgo.Record, *kgo.Record) { return slices.Delete(all, 2, 3), all[2] })
		}},
	{name: "doubled", site: counted, code: problem.FindingDoubled, check: verify.CheckIDs, place: "counted/0@",
		plant: func(s *ledgerRun) []byte {
			r := s.read("counted", 0)[1]
			s.produce(&kgo.Record{Topic: r.Topic, Key: r.Key, Value: r.Value, Headers: r.Headers})
			return idOf(r)
		}},
	{name: "ghost", site: counted, code: problem.FindingGhost, check: verify.CheckCauses, place: "counted/0@",
		plant: func(s *ledgerRun) []byte {
			r := s.read("counted", 0)[1]
			r.Headers = []kgo.RecordHeader{{Key: record.HeaderID, Value: []byte(strings.Repeat("5a", 16))}, {Key: record.HeaderCause, Value: []byte("words/0@1000")}}
			s.produce(&kgo.Record{Topic: r.Topic, Key: r.Key, Value: r.Value, Headers: r.Headers})
			return idOf(r)
		}},
	{name: "ghost of a record that was not there", site: counted, execute: true, code: problem.FindingGhost, check: verify.CheckRerun, place: "counted/0@",
		plant: func(s *ledgerRun) []byte {
			r := s.read("counted", 0)[1]
			r.Headers = slices.Clone(r.Headers)
			for i, h := range r.Headers {
				if h.Key == record.HeaderID {
					r.Headers[i].Value = []byte(strings.Repeat("5a", 16))
				}
			}
			s.produce(&kgo.Record{Topic: r.Topic, Key: r.Key, Value: r.Value, Headers: r.Headers})
			return idOf(r)
		}},
	{name: "wrong version", site: counted, execute: true, code: problem.FindingGhost, check: verify.CheckRerun, place: "counted/0@",
		has: `"\a\a\a\a\a\a\a\a"`, wants: `"\x00\x00\x00\x00\x00\x00\x00\x01"`,
		plant: func(s *ledgerRun) []byte {
			return s.rewrite("counted", func(all []*kgo.Record) ([]*kgo.Record, *kgo.Record) {
				all[2].Value = bytes.Repeat([]byte{7}, len(all[2].Value))
				return all, all[2]
			})
		}},
	{name: "marker without state", site: counted, execute: true, code: problem.FindingState, check: verify.CheckRerunKeys, place: "store counts, key", ageless: true,
		plant: func(s *ledgerRun) []byte {
			s.erase("counts", []byte("b"))
			return []byte("b")
		}},
	{name: "state without marker", site: counted, code: problem.FindingMarker, check: verify.CheckMarkers, place: "words/0@1",
		plant: func(s *ledgerRun) []byte {
			st := s.store(statestore.KindMarkers)
			for _, r := range s.read(st.Changelog, 0) {
				if m, err := dedup.DecodeMarker(r.Value); err == nil && m.Offset == 1 {
					s.erase(st.Name, r.Key)
					return r.Key[8:]
				}
			}
			s.t.Fatal("there is no such marker")
			return nil
		}},
	{name: "marker without its input", site: counted, code: problem.FindingMarker, check: verify.CheckOrphans, place: "-markers-changelog/0@",
		plant: func(s *ledgerRun) []byte {
			st := s.store(statestore.KindMarkers)
			r := s.read(st.Changelog, 0)[1]
			key := slices.Concat(r.Key[:8], bytes.Repeat([]byte{9}, 16))
			s.forge(0, 0, st.Changelog, key, r.Value)
			s.edit(func(held *statestore.Task) error {
				return held.ApplyRestored(s.plan.Subs[0].Store(st.Name).Declaration, key, r.Value, false)
			})
			return key[8:]
		}},
	{name: "timer without state", site: ledgerSite, code: problem.FindingState, check: verify.CheckTimers, place: "store balances", ageless: true,
		plant: func(s *ledgerRun) []byte {
			s.erase("balances", []byte("ann"))
			return []byte("ann")
		}},
	{name: "position behind", site: counted, code: problem.FindingCounter, check: verify.CheckPositions, place: "task words_0, state", ageless: true,
		plant: func(s *ledgerRun) []byte {
			s.position(func(at *statestore.Position) {
				at.Inputs = slices.Clone(at.Inputs)
				at.Inputs[0].Next--
			})
			return nil
		}},
	{name: "counter behind", site: counted, code: problem.FindingCounter, check: verify.CheckPositions, place: "task words_0, checkpoint record", ageless: true,
		plant: func(s *ledgerRun) []byte {
			s.recommit(0, 0, func(_ string, _ *int64, m *task.Metadata) { m.N++ })
			return nil
		}},
	{name: "store unequal to its changelog", site: counted, code: problem.FindingState, check: verify.CheckState, place: `store counts, key "b"`, ageless: true,
		has: `"\a\a\a\a\a\a\a\a"`, wants: `"\x00\x00\x00\x00\x00\x00\x00\x01"`,
		plant: func(s *ledgerRun) []byte {
			s.edit(func(held *statestore.Task) error {
				return held.ApplyRestored(s.plan.Subs[0].Store("counts").Declaration, []byte("b"), bytes.Repeat([]byte{7}, 8), false)
			})
			return []byte("b")
		}},
}

// idOf is the output id of a record, as samples see it.
func idOf(r *kgo.Record) []byte {
	var id []byte
	for _, h := range r.Headers {
		if h.Key == record.HeaderID {
			_, _ = fmt.Sscanf(string(h.Value), "%x", &id)
		}
	}
	return id
}

// rewrite makes a topic anew, with what change makes of its records. It returns the id of the record that change names.
func (s *ledgerRun) rewrite(topic string, change func(all []*kgo.Record) ([]*kgo.Record, *kgo.Record)) []byte {
	s.t.Helper()
	all := s.read(topic, 0)
	var id []byte
	for i, r := range all {
		all[i] = &kgo.Record{Topic: topic, Key: r.Key, Value: r.Value, Headers: r.Headers, Timestamp: r.Timestamp}
	}
	left, named := change(slices.Clone(all))
	id = idOf(named)
	deleted, err := s.admin.DeleteTopics(s.ctx, topic)
	check(s.t, errors.Join(err, deleted.Error()))
	made, err := s.admin.CreateTopics(s.ctx, 1, 1, nil, topic)
	check(s.t, errors.Join(err, made.Error()))
	s.client.PurgeTopicsFromClient(topic)
	s.produce(left...)
	return id
}

// edit changes the store on the disk.
func (s *ledgerRun) edit(change func(held *statestore.Task) error) {
	s.t.Helper()
	state, err := oncemill.OpenState(s.dir, s.plan.App)
	check(s.t, err)
	sub := s.plan.Subs[0]
	held, err := state.DB.Acquire(statestore.TaskID{SubTopology: sub.Name}, sub.Declarations())
	check(s.t, err)
	at, _ := held.Position()
	check(s.t, change(held))
	held.SetPosition(at)
	ticket := state.DB.Checkpoint(held)
	<-ticket.Done()
	check(s.t, errors.Join(ticket.Err(), held.Tick()))
	held.Release()
	check(s.t, state.Close())
}

// erase removes a key from a changelog and from the store on the disk, so that these two agree.
func (s *ledgerRun) erase(store string, key []byte) {
	s.t.Helper()
	st := s.plan.Subs[0].Store(store)
	s.forge(0, 0, st.Changelog, key, nil)
	s.edit(func(held *statestore.Task) error { return held.ApplyRestored(st.Declaration, key, nil, true) })
}

// fractions are a sample that has an id and one that has not.
func fractions(t *testing.T, id []byte) (in, out string) {
	for of := uint64(2); of < 100 && (in == "" || out == ""); of++ {
		if most := (verify.Sample{Take: of - 1, Of: of}); most.Has(id) {
			in = most.String()
		}
		if least := (verify.Sample{Take: 1, Of: of}); !least.Has(id) {
			out = least.String()
		}
	}
	if in == "" || out == "" {
		t.Fatalf("all samples have %x, or none: in %q, out %q", id, in, out)
	}
	return in, out
}

// Each kind alone: found once, by its own check, in its place, with its bytes and what to do, and nothing beside it. A sample sees it
// if it has its id or key, and --since if it is new or has no age.
func TestEachKindOfViolationIsFoundOnceInItsPlace(t *testing.T) {
	t.Parallel()
	t.Cleanup(func() { // after all of them
		if !t.Failed() {
			fmt.Printf("proof: verify: %d kinds of violations, each planted alone and found once in its place\n", len(kinds))
		}
	})
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			s := k.site(t)
			args := []string{"--state", s.dir}
			if k.execute {
				args = append(args, "--execute")
			}
			if code, report, _ := s.verb(args...); code != cli.ExitOK {
				t.Fatalf("before: exit code %d: %s", code, show(report))
			}
			id := k.plant(s)
			finds := func(want bool, more ...string) {
				t.Helper()
				code, report, talk := s.verb(append(slices.Clone(args), more...)...)
				if !want {
					if code != cli.ExitOK || len(report.Counts) > 0 {
						t.Errorf("%v: exit code %d, want nothing: %s", more, code, show(report))
					}
					return
				}
				if code != cli.ExitFinding || len(report.Counts) != 1 || report.Counts[k.code] != 1 {
					t.Fatalf("%v: exit code %d, want one %s: %s", more, code, k.code, show(report))
				}
				f := report.Findings[0]
				if f.Check != k.check || !strings.Contains(f.Place, k.place) || len(f.Records) == 0 || f.Records[0].Topic == "" || f.Next == "" ||
					f.Key == "" && f.Has == "" && f.Wants == "" {
					t.Errorf("%v: want it by %q at %q, with records, bytes and what to do: %+v", more, k.check, k.place, f)
				}
				if k.has != "" && (f.Has != k.has || f.Wants != k.wants) {
					t.Errorf("%v: there is %s, should be %s; want %s and %s", more, f.Has, f.Wants, k.has, k.wants)
				}
				for _, says := range []string{f.Text, f.Next, f.Records[0].String()} {
					if !strings.Contains(talk, says) {
						t.Errorf("%v: a person is not told %q:\n%s", more, says, talk)
					}
				}
			}
			finds(true)
			finds(true, "--since", "1h")
			finds(k.ageless, "--since", time.Now().Add(time.Hour).Format(time.RFC3339))
			if id == nil {
				finds(true, "--sample", "1/1000000")
				return
			}
			in, out := fractions(t, id)
			finds(true, "--sample", in)
			finds(false, "--sample", out)
		})
	}
}
