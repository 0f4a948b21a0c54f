package dedup

import (
	"errors"
	"strings"
	"testing"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/record"
)

func TestOutputsAreKeptOnlyWhereTheyCanBeReplayed(t *testing.T) {
	for _, policy := range []Policy{DropDuplicate, ReplayOutputs, DeadLetterDuplicate} {
		for o := Applied; o <= Parked; o++ {
			k := newMiniTask(t, Config{OnDuplicate: policy})
			k.handle = func(*record.Raw) (Outcome, []Output) { return o, []Output{gift("g")} }
			k.feed(confirm.raw())
			d, err := k.guard.Check(confirm.again(1, 0).raw(), FromSource, k.time)
			if err != nil {
				t.Fatal(err)
			}
			if want := policy == ReplayOutputs && (o == Applied || o == Rejected); d.Marker.Recorded() != want {
				t.Errorf("policy %s, outcome %s: recorded %t, want %t", policy, o, d.Marker.Recorded(), want)
			}
		}
	}
}

func TestTooManyOutputsFailTheirRecordAlone(t *testing.T) {
	k := newMiniTask(t, Config{OnDuplicate: ReplayOutputs, MaxRecordedBytes: 200})
	large := []Output{{Topic: "t", Value: make([]byte, 200)}}
	r := confirm.raw()
	d, err := k.guard.Check(r, FromSource, testStart)
	if err != nil {
		t.Fatal(err)
	}
	if err := k.guard.Record(&d, r, testStart, Applied, large); problem.CodeOf(err) != problem.OutputTooLarge {
		t.Fatalf("error %v, want %s", err, problem.OutputTooLarge)
	}
	if len(k.store.entries) != 0 {
		t.Fatal("a marker was written all the same")
	}
	if err := k.guard.Record(&d, r, testStart, DeadLettered, large); err != nil {
		t.Fatal(err)
	}
	k.time = testStart
	k.want(k.feed(confirm.again(1, 0).raw()), Duplicate, Drop)
}

type failingMarkers struct{ get, put error }

func (f failingMarkers) Get([]byte) ([]byte, bool, error) { return nil, false, f.get }
func (f failingMarkers) Put(_, _ []byte) error            { return f.put }

func TestErrorsOfTheStoreComeThrough(t *testing.T) {
	broken := errors.New("disk")
	records := map[Origin][]*record.Raw{
		FromSource: {confirm.raw(), message{value: "no id"}.raw()},
		FromReplay: {confirm.replay("1", ""), confirm.replay("x", ""), message{value: "no id"}.replay("1", "")},
		FromParked: {confirm.raw()},
	}
	for from, list := range records {
		for _, r := range list {
			g := newTestGuard(t, Config{ID: Header("id"), Window: testWindow}, failingMarkers{get: broken})
			if _, err := g.Check(r, from, testStart); !errors.Is(err, broken) || !strings.Contains(err.Error(), "commands") {
				t.Errorf("origin %d: %v, want the store's error with the source", from, err)
			}
		}
	}
	g := newTestGuard(t, Config{ID: Header("id"), Window: testWindow}, failingMarkers{put: broken})
	d, err := g.Check(confirm.raw(), FromSource, testStart)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Record(&d, confirm.raw(), testStart, Applied, nil); !errors.Is(err, broken) {
		t.Errorf("Record: %v", err)
	}
}

func TestRecordRefusesWhatCannotBe(t *testing.T) {
	k := newMiniTask(t, Config{})
	missing := message{value: "v"}.raw()
	d, _ := k.guard.Check(missing, FromSource, testStart)
	for _, o := range []Outcome{0, Applied, Skipped, Parked, 6} {
		if err := k.guard.Record(&d, missing, testStart, o, nil); problem.CodeOf(err) != problem.InvariantBroken {
			t.Errorf("outcome %d for a refused record: %v, want %s", o, err, problem.InvariantBroken)
		}
	}
	ok, _ := k.guard.Check(confirm.raw(), FromSource, testStart)
	for _, o := range []Outcome{0, 6, 255} {
		if err := k.guard.Record(&ok, confirm.raw(), testStart, o, nil); problem.CodeOf(err) != problem.InvariantBroken {
			t.Errorf("outcome %d: %v", o, err)
		}
	}
	if len(k.store.entries) != 0 {
		t.Fatal("something was written")
	}
}

// Dead letters of one message are told apart by the position of the copy; a re-run gives the same id.
func TestDeadLettersHaveIDsOfTheirOwn(t *testing.T) {
	k := newMiniTask(t, Config{OnDuplicate: DeadLetterDuplicate})
	k.feed(confirm.raw())
	conflict := confirm.again(1, 0)
	conflict.value = "another"
	seen := map[Cause]string{}
	for name, r := range map[string]*record.Raw{"duplicate": confirm.again(2, 0).raw(), "duplicate again": confirm.again(3, 0).raw(), "conflict": conflict.raw()} {
		d, err := k.guard.Check(r, FromSource, k.time)
		if err != nil || d.Action != Quarantine {
			t.Fatalf("%s: %s, %v", name, d.Action, err)
		}
		cause := k.guard.Cause(&d, r)
		if other, taken := seen[cause]; taken {
			t.Errorf("%s and %s have one dead letter id", name, other)
		}
		if seen[cause] = name; cause != k.guard.LetterCause(r) {
			t.Errorf("%s: a re-run gives another id", name)
		}
	}
	d, err := k.guard.Check(confirm.again(9, 0).replay("1", "true"), FromReplay, k.time+100_000)
	if err != nil || d.Action != Run {
		t.Fatalf("%s, %v", d.Action, err)
	}
	if replay := confirm.again(9, 0).replay("1", "true"); k.guard.Cause(&d, replay) != CauseOfMessage("shop", "commands", "", []byte("p1")) {
		t.Error("the outputs of a replay are not those of its message")
	}
}
