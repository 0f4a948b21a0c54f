package verify_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/cli"
	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/internal/graph"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/internal/task"
	"github.com/oncemill/oncemill/internal/verify"
	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/statestore/pebble"
	"github.com/oncemill/oncemill/topology"
)

// ledger is an application with everything that verify looks at: a store with timers, records that wait for a retry, one
// of them at the head of a queue and one behind it, markers, and outputs.
func ledger() *topology.Topology {
	balances := statestore.KeyValue("balances", serde.String(), serde.String())
	t := topology.New("ledger")
	in := topology.Source(t, "orders", "orders", serde.String(), serde.String(),
		topology.Deduplicate(dedup.Config{ID: dedup.Header("id"), Window: time.Hour}))
	booked := topology.Process(t, "book", in, func(ctx *processor.Context[string, string], r record.Record[string, string]) error {
		if r.Value == "refused" {
			return errors.New("not today")
		}
		err := errors.Join(balances.Put(ctx, r.Key, r.Value),
			balances.Schedule(ctx, r.Key, statestore.Timer{Name: "remind", Clock: statestore.WallClock, At: ctx.Now().Add(time.Hour)}))
		if err != nil {
			return err
		}
		return ctx.Forward(r)
	}, topology.Uses(balances), topology.OnFailure(processor.DelayedRetryInOrder(processor.Stop(), time.Hour)),
		topology.OnTimer(balances, func(*processor.Context[string, string], string, statestore.Timer) error { return nil }))
	topology.Sink(t, "booked", booked, "booked", serde.String(), serde.String())
	return t
}

// ledgerOld is how old the first order is: inside the window.
const ledgerOld = 30 * time.Minute

// ledgerSite runs the ledger over five orders: an old one, two of today, one that is refused and one that waits behind it.
func ledgerSite(t *testing.T) *ledgerRun {
	s := newSite(t, ledger, 1)
	now := time.Now()
	order := func(key, value string, at time.Time) *kgo.Record {
		return &kgo.Record{Topic: "orders", Key: []byte(key), Value: []byte(value), Timestamp: at,
			Headers: []kgo.RecordHeader{{Key: "id", Value: []byte(key + value)}}}
	}
	s.produce(order("old", "1", now.Add(-ledgerOld)), order("ann", "2", now), order("bob", "3", now), order("eve", "refused", now), order("eve", "4", now))
	s.run("", 0)
	return &ledgerRun{s}
}

// ledgerRun is a ledger that has been run and is stopped.
type ledgerRun struct{ *site }

func (s *ledgerRun) store(kind statestore.Kind) *graph.Store {
	source := -1
	if kind == statestore.KindMarkers {
		source = s.plan.Subs[0].Inputs[0].Source
	}
	return s.plan.Subs[0].ByKind(kind, source)
}

// remove writes tombstones for the keys of a changelog that match, and returns how many there were.
func (s *ledgerRun) remove(changelog string, match func(key, value []byte) bool) {
	s.t.Helper()
	removed := 0
	for _, r := range s.read(changelog, 0) {
		if r.Value != nil && match(r.Key, r.Value) {
			s.forge(0, 0, changelog, r.Key, nil)
			removed++
		}
	}
	if removed == 0 {
		s.t.Fatalf("nothing in %s was there to be removed", changelog)
	}
}

// removeTimers removes those keys of timers that match.
func (s *ledgerRun) removeTimers(match func(k task.TimerKey) bool) {
	s.t.Helper()
	s.remove(s.store(statestore.KindTimers).Changelog, func(key, value []byte) bool {
		k, err := task.ReadTimerKey(key, value)
		check(s.t, err)
		return match(k)
	})
}

// removeMarker removes the marker of the input at an offset.
func (s *ledgerRun) removeMarker(offset int64) {
	s.t.Helper()
	s.remove(s.store(statestore.KindMarkers).Changelog, func(_, value []byte) bool {
		m, err := dedup.DecodeMarker(value)
		check(s.t, err)
		return m.Offset == offset
	})
}

// counter changes the number of the transaction in the committed offset.
func (s *ledgerRun) counter(by int64) {
	s.recommit(0, 0, func(_ string, _ *int64, m *task.Metadata) { m.N = uint64(int64(m.N) + by) })
}

// planted is a violation, and what must be said of it.
type planted struct {
	name        string
	plant       func(s *ledgerRun)
	args        []string // beside brokers and state
	code        problem.Code
	n           int64 // findings
	place, text string
}

var violations = []planted{
	{name: "timer without state",
		plant: func(s *ledgerRun) {
			s.remove(s.plan.Subs[0].Store("balances").Changelog, func(key, _ []byte) bool { return string(key) == "ann" })
		},
		code: problem.FindingState, n: 1, place: "store balances", text: `a timer is set on the key "ann", which has no state`},
	{name: "timer with its identity key only",
		plant: func(s *ledgerRun) {
			s.removeTimers(func(k task.TimerKey) bool { return k.Due && string(k.Key) == "bob" })
		},
		code: problem.FindingState, n: 1, place: "store orders-timers", text: "1 of its two keys"},
	{name: "timer with its due key only",
		plant: func(s *ledgerRun) {
			s.removeTimers(func(k task.TimerKey) bool { return !k.Due && string(k.Key) == "bob" })
		},
		code: problem.FindingState, n: 1, place: "store orders-timers", text: "1 of its two keys"},
	{name: "parked record without a timer, at the head of its queue",
		plant: func(s *ledgerRun) {
			s.removeTimers(func(k task.TimerKey) bool { return k.Store == s.store(statestore.KindParked).ID() })
		},
		code: problem.FindingState, n: 1, place: "parked records", text: "record true, timer false, place behind another in a queue false"},
	{name: "parked record that lost its place in the queue",
		plant: func(s *ledgerRun) {
			last := s.parkedNumbers()[1]
			s.remove(s.store(statestore.KindParked).Changelog, func(key, _ []byte) bool { return key[0] == 'q' && bytes.HasSuffix(key, last) })
		},
		code: problem.FindingState, n: 1, place: "parked records", text: "record true, timer false, place behind another in a queue false"},
	{name: "parked record that is gone",
		plant: func(s *ledgerRun) {
			last := s.parkedNumbers()[1]
			s.remove(s.store(statestore.KindParked).Changelog, func(key, _ []byte) bool { return key[0] == 'p' && bytes.HasSuffix(key, last) })
		},
		code: problem.FindingState, n: 1, place: "parked records", text: "record false, timer false, place behind another in a queue true"},
	{name: "parked record whose marker says that it was processed",
		plant: func(s *ledgerRun) {
			changelog := s.store(statestore.KindMarkers).Changelog
			for _, r := range s.read(changelog, 0) {
				if m, err := dedup.DecodeMarker(r.Value); err == nil && m.Offset == 3 {
					s.forge(0, 0, changelog, r.Key, outcomeOf(r.Value, dedup.Applied))
				}
			}
		},
		code: problem.FindingMarker, n: 1, place: "orders/0@3", text: "waits for a retry, and its marker does not say so"},
	{name: "missing marker within the window",
		plant: func(s *ledgerRun) { s.removeMarker(1) },
		code:  problem.FindingMarker, n: 1, place: "orders/0@1", text: "has no marker: a duplicate of it would be processed again"},
	{name: "missing marker, from --since on",
		plant: func(s *ledgerRun) { s.removeMarker(0); s.removeMarker(2) }, args: []string{"--since", (ledgerOld / 2).String()},
		code: problem.FindingMarker, n: 1, place: "orders/0@2", text: "has no marker"},
	{name: "missing markers, without --since",
		plant: func(s *ledgerRun) { s.removeMarker(0); s.removeMarker(2) },
		code:  problem.FindingMarker, n: 2, place: "orders/0@", text: "has no marker"},
	{name: "store unequal to its changelog",
		plant: func(s *ledgerRun) { damage(s.site, s.dir, "balances") },
		code:  problem.FindingState, n: 2, place: "store balances, key", text: "the changelog has nothing, the store "},
	{name: "counter too high",
		plant: func(s *ledgerRun) { s.counter(+1) },
		code:  problem.FindingCounter, n: 1, place: "task orders_0, checkpoint record", text: "the committed offsets are of"},
	{name: "counter too low",
		plant: func(s *ledgerRun) { s.counter(-1) },
		code:  problem.FindingCounter, n: 2, place: "task orders_0, state", text: "the committed offsets are of"},
	{name: "doubled output id",
		plant: func(s *ledgerRun) {
			copied := s.read("booked", 0)[1]
			s.produce(&kgo.Record{Topic: "booked", Key: copied.Key, Value: copied.Value, Headers: copied.Headers})
		},
		code: problem.FindingDoubled, n: 1, place: "booked/0@", text: "is that of booked/0@1 as well"},
	{name: "output whose cause is a timer that nobody has",
		plant: func(s *ledgerRun) {
			s.produce(&kgo.Record{Topic: "booked", Headers: []kgo.RecordHeader{{Key: record.HeaderID, Value: []byte(strings.Repeat("5a", 16))},
				{Key: record.HeaderCause, Value: []byte("timer:nobody/ann/remind/1")}}})
		},
		code: problem.FindingGhost, n: 1, place: "booked/0@", text: "no store of the topology has it"},
	{name: "stream time of the committed offsets",
		plant: func(s *ledgerRun) {
			s.recommit(0, 0, func(_ string, _ *int64, m *task.Metadata) { m.StreamTime-- })
		},
		code: problem.FindingCounter, n: 2, place: "task orders_0, checkpoint record", text: "its stream time is"},
	{name: "offset behind the end of the input",
		plant: func(s *ledgerRun) {
			s.recommit(0, 0, func(topic string, at *int64, _ *task.Metadata) {
				if topic == "orders" {
					*at += 1000
				}
			})
		},
		code: problem.FindingCounter, n: 3, place: "orders/0, committed offset", text: "lies behind the end of the topic"},
	{name: "state that includes more of a changelog than there is",
		plant: func(s *ledgerRun) {
			s.position(func(at *statestore.Position) { at.Logs[0].Next += 1000 })
		},
		code: problem.FindingCounter, n: 1, place: "task orders_0, state", text: "the topic ends at"},
	{name: "changelog that ends before the committed offsets",
		plant: func(s *ledgerRun) {
			s.recommit(0, 0, func(_ string, _ *int64, m *task.Metadata) { m.Logs[0].End += 1000 })
		},
		code: problem.FindingCounter, n: 1, place: "-changelog/0", text: "the committed offsets cover it up to"},
	{name: "state ahead of the committed offsets",
		plant: func(s *ledgerRun) { s.position(func(at *statestore.Position) { at.N++ }) },
		code:  problem.FindingCounter, n: 1, place: "task orders_0, state", text: "it is of transaction"},
	{name: "state with keys and without a position",
		plant: func(s *ledgerRun) { s.losePosition() },
		code:  problem.FindingState, n: 5, place: "task orders_0, store", text: "and the task no position"},
}

// position changes the position of the state.
func (s *ledgerRun) position(change func(at *statestore.Position)) {
	s.t.Helper()
	state, err := oncemill.OpenState(s.dir, s.plan.App)
	check(s.t, err)
	sub := s.plan.Subs[0]
	held, err := state.DB.Acquire(statestore.TaskID{SubTopology: sub.Name}, sub.Declarations())
	check(s.t, err)
	at, ok := held.Position()
	if !ok {
		s.t.Fatal("the task has no position")
	}
	at.Logs = slices.Clone(at.Logs)
	change(&at)
	held.SetPosition(at)
	ticket := state.DB.Checkpoint(held)
	<-ticket.Done()
	check(s.t, errors.Join(ticket.Err(), held.Tick()))
	held.Release()
	check(s.t, state.Close())
}

// losePosition takes the position away and leaves the keys: it lies under store 0, in front of all others.
func (s *ledgerRun) losePosition() {
	s.t.Helper()
	engine, err := pebble.Open(pebble.Config{Dir: filepath.Join(s.dir, "pebble")})
	check(s.t, err)
	lower := binary.BigEndian.AppendUint32(nil, statestore.NameID(s.plan.Subs[0].Name))
	lower = binary.BigEndian.AppendUint32(lower, 0) // the partition
	upper := binary.BigEndian.AppendUint32(slices.Clone(lower), 1)
	check(s.t, errors.Join(engine.Excise(s.ctx, lower, upper), engine.Close()))
}

// parkedNumbers are the numbers of the parked records, as they end their keys.
func (s *ledgerRun) parkedNumbers() [][]byte {
	s.t.Helper()
	var numbers [][]byte
	for _, r := range s.read(s.store(statestore.KindParked).Changelog, 0) {
		if r.Key[0] == 'p' {
			numbers = append(numbers, r.Key[1:])
		}
	}
	slices.SortFunc(numbers, bytes.Compare)
	if len(numbers) != 2 {
		s.t.Fatalf("%d records are parked, want two", len(numbers))
	}
	return numbers
}

// outcomeOf changes the outcome of a marker, the low three bits of its second byte.
func outcomeOf(marker []byte, o dedup.Outcome) []byte {
	b := slices.Clone(marker)
	b[1] = b[1]&^7 | byte(o)
	return b
}

// TestVerifyFindsWhatIsPlantedWithAnExample: each violation alone, by the verb as an application's binary has it.
func TestVerifyFindsWhatIsPlantedWithAnExample(t *testing.T) {
	t.Parallel()
	for _, v := range violations {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			s := ledgerSite(t)
			v.plant(s)
			code, report, talk := s.verb(append(v.args, "--state", s.dir)...)
			if code != cli.ExitFinding || len(report.Counts) != 1 || report.Counts[v.code] != v.n {
				t.Fatalf("exit code %d, want %d and %d of %s: %s", code, cli.ExitFinding, v.n, v.code, show(report))
			}
			if !slices.ContainsFunc(report.Findings, func(f verify.Finding) bool {
				return f.Code == v.code && strings.Contains(f.Place, v.place) && strings.Contains(f.Text, v.text)
			}) {
				t.Errorf("no example says %q at %q: %s", v.text, v.place, show(report))
			}
			if first := report.Findings[0]; !strings.Contains(talk, fmt.Sprintf("%s %s", first.Code, first.Place)) {
				t.Errorf("the example is not shown to a person:\n%s", talk)
			}
		})
	}
}

// The negative control: every check looks at something, and finds nothing, also with --since and with markers that it excuses.
func TestVerifyFindsNothingWhereNothingIsPlanted(t *testing.T) {
	t.Parallel()
	s := ledgerSite(t)
	for _, args := range [][]string{{"--state", s.dir}, {"--state", s.dir, "--execute"}, {"--since", "1h"}} {
		code, report, talk := s.verb(args...)
		if code != cli.ExitOK || len(report.Findings) > 0 {
			t.Errorf("%v: exit code %d: %s\n%s", args, code, show(report), talk)
		}
		for _, c := range report.Checks {
			if stateless := c.Name == verify.CheckState && args[0] == "--since"; c.Checked == 0 && !stateless {
				t.Errorf("%v: %s: nothing was checked", args, c.Name)
			}
			if strings.HasSuffix(c.Name, "when run again") && c.Skipped > 0 { // timers wait, and none has fired
				t.Errorf("%v: %s: %d not judged: %s", args, c.Name, c.Skipped, c.Why())
			}
		}
	}
	s.removeMarker(0)
	code, report, _ := s.verb("--since", (ledgerOld / 2).String())
	if code != cli.ExitOK || len(report.Findings) > 0 {
		t.Errorf("the marker of an input before --since: exit code %d: %s", code, show(report))
	}
	for _, c := range report.Checks {
		if c.Name == verify.CheckMarkers && (c.Skipped != 1 || c.Checked != 4) {
			t.Errorf("%s: %d checked, %d not judged, want 4 and 1", c.Name, c.Checked, c.Skipped)
		}
	}
}

// What only a second run can see, by the verb.
func TestVerifyExecuteFindsALostOutputWithAnExample(t *testing.T) {
	t.Parallel()
	s := counterSite(t, true, false, "right", "lost")
	code, report, talk := s.verb("--execute")
	if code != cli.ExitFinding || report.Counts[problem.FindingLost] != 1 || !strings.Contains(talk, string(problem.FindingLost)) {
		t.Errorf("exit code %d: %s\n%s", code, show(report), talk)
	}
	if code, report, _ = counterSite(t, false, false, "right", "lost").verb("--execute"); code != cli.ExitOK {
		t.Errorf("the negative control: exit code %d: %s", code, show(report))
	}
}

// verb runs "verify ARGS" as the binary of the application has it.
func (s *site) verb(args ...string) (code int, report *verify.Report, talk string) {
	s.t.Helper()
	code, out, talk := s.rawVerb(args...)
	var envelope struct{ Data verify.Report }
	if err := json.Unmarshal([]byte(out), &envelope); err != nil {
		s.t.Fatalf("exit code %d, %v\n%s%s", code, err, out, talk)
	}
	return code, &envelope.Data, talk
}

func (s *site) rawVerb(args ...string) (code int, out, talk string) {
	s.t.Helper()
	var stdout, stderr bytes.Buffer
	job := cli.Job{Name: s.plan.App, Topology: func() (*topology.Topology, error) { return s.topo(), nil }}
	env := &cli.Env{Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr, Getenv: func(string) string { return "" }, Dir: s.t.TempDir(),
		Now: time.Now, App: &cli.App{Name: s.plan.App, Jobs: []cli.Job{job}}}
	code = cli.Run(s.ctx, env, append([]string{"verify", "-B", s.broker.Addrs()[0], "-o", "json", "--no-progress"}, args...)...)
	return code, stdout.String(), stderr.String()
}
