package dedup

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/record"
)

var confirm = message{id: "p1", key: "order-7", value: "ConfirmPayment"}

func (m message) again(offset, at int64) message {
	m.offset, m.at = offset, at
	return m
}

func gift(value string) Output {
	return Output{Topic: "gifts", Partition: 2, TimestampMillis: testStart, ID: [16]byte{9}, Key: nil, Value: []byte(value),
		Headers: []record.Header{{Key: "trace", Value: []byte("t")}, {Key: "null"}}}
}

func TestS6DuplicateAtANewOffsetIsDropped(t *testing.T) {
	k := newMiniTask(t, Config{})
	k.want(k.feed(confirm.raw()), New, Run)
	k.want(k.feed(confirm.again(9, 40).raw()), Duplicate, Drop)
	k.counts(1, 0)
}

func TestS6DuplicateReplaysTheRecordedBytes(t *testing.T) {
	k := newMiniTask(t, Config{OnDuplicate: ReplayOutputs})
	gifts := 0
	k.handle = func(*record.Raw) (Outcome, []Output) {
		gifts++
		return Applied, []Output{gift(fmt.Sprint("gift ", gifts)), {Topic: "empty", Value: []byte{}}}
	}
	k.feed(confirm.raw())
	k.want(k.feed(confirm.again(9, 40).raw()), Duplicate, Replay)
	k.counts(1, 0)
	if len(k.sent) != 4 || !reflect.DeepEqual(k.sent[:2], k.sent[2:]) {
		t.Fatalf("sent %+v, want the same two outputs twice", k.sent)
	}
}

func TestS6RedeliveryReplaysNothing(t *testing.T) {
	k := newMiniTask(t, Config{OnDuplicate: ReplayOutputs})
	k.handle = func(*record.Raw) (Outcome, []Output) { return Applied, []Output{gift("g")} }
	k.feed(confirm.raw())
	k.want(k.feed(confirm.raw()), Redelivery, Drop)
	if len(k.sent) != 1 {
		t.Fatalf("%d outputs, want 1", len(k.sent))
	}
}

func TestS6DuplicateToTheDeadLetters(t *testing.T) {
	k := newMiniTask(t, Config{OnDuplicate: DeadLetterDuplicate})
	k.feed(confirm.raw())
	k.want(k.feed(confirm.again(9, 40).raw()), Duplicate, Quarantine)
	k.counts(1, 1)
	if k.letters[0].Code != problem.IDDuplicate {
		t.Fatalf("reason %v, want %s", k.letters[0], problem.IDDuplicate)
	}
	if d := k.feed(confirm.again(10, 50).raw()); d.Marker.Outcome != Applied {
		t.Fatalf("outcome %s after a dead-lettered duplicate, want the first copy's", d.Marker.Outcome)
	}
}

func TestReplayPolicySwitchedOnLaterDropsWhatHasNoRecording(t *testing.T) {
	k := newMiniTask(t, Config{})
	k.feed(confirm.raw())
	k.guard = newTestGuard(t, Config{ID: Header("id"), Window: testWindow, OnDuplicate: ReplayOutputs}, k.store)
	k.want(k.feed(confirm.again(9, 40).raw()), Duplicate, Drop)
}

func TestS8AbortedFirstCopyLeavesNoMarker(t *testing.T) {
	k := newMiniTask(t, Config{})
	k.handle = outcomes(0)
	k.want(k.feed(confirm.raw()), New, Run)
	k.want(k.feed(confirm.again(1, 0).raw()), New, Run)
	k.want(k.feed(confirm.raw()), Duplicate, Drop)
	if d := k.feed(confirm.again(1, 0).raw()); d.Verdict != Redelivery {
		t.Fatalf("verdict %s: the marker must name the first committed copy", d.Verdict)
	}
}

func TestS9CheckWritesNothing(t *testing.T) {
	for name, m := range map[string]message{"new": confirm, "missing": {value: "x"}} {
		k := newMiniTask(t, Config{})
		for _, from := range []Origin{FromSource, FromReplay, FromParked} {
			if _, err := k.guard.Check(m.raw(), from, testStart); err != nil {
				t.Fatal(err)
			}
		}
		if len(k.store.entries) != 0 {
			t.Errorf("%s: Check wrote %d markers", name, len(k.store.entries))
		}
	}
}

func TestS10HandlerWithoutEffectsLeavesAMarker(t *testing.T) {
	k := newMiniTask(t, Config{OnDuplicate: ReplayOutputs})
	k.feed(confirm.raw())
	k.want(k.feed(confirm.again(9, 40).raw()), Duplicate, Replay)
	k.counts(1, 0)
	if len(k.sent) != 0 {
		t.Fatalf("sent %v, want nothing", k.sent)
	}
}

func TestS11ConflictLeavesTheFirstResultIntact(t *testing.T) {
	k := newMiniTask(t, Config{OnDuplicate: ReplayOutputs})
	k.handle = func(*record.Raw) (Outcome, []Output) { return Applied, []Output{gift("first")} }
	k.feed(confirm.raw())
	other := confirm.again(9, 40)
	other.value = "ConfirmAnotherPayment"
	k.want(k.feed(other.raw()), Conflict, Quarantine)
	k.want(k.feed(other.again(10, 50).raw()), Duplicate, Drop) // its copy adds no second dead letter
	third := other.again(11, 60)
	third.value = "a third body"
	k.want(k.feed(third.raw()), Conflict, Quarantine)
	k.counts(1, 2)
	if k.letters[0].Code != problem.IDConflict {
		t.Fatalf("reason %v", k.letters[0])
	}
	k.want(k.feed(confirm.again(12, 70).raw()), Duplicate, Replay)
	if len(k.sent) != 2 || string(k.sent[1].Value) != "first" {
		t.Fatalf("sent %v, want the first result again", k.sent)
	}
}

func TestConflictComparesKeyAndValueAndNotHeaders(t *testing.T) {
	base := func() *record.Raw { return confirm.again(9, 40).raw() }
	cases := map[string]struct {
		change func(r *record.Raw)
		want   Verdict
	}{
		"another value":           {func(r *record.Raw) { r.Value = []byte("x") }, Conflict},
		"another key":             {func(r *record.Raw) { r.Key = []byte("order-8") }, Conflict},
		"a byte moved to the key": {func(r *record.Raw) { r.Key, r.Value = []byte("order-7C"), []byte("onfirmPayment") }, Conflict},
		"null value":              {func(r *record.Raw) { r.Value = nil }, Conflict},
		"another header":          {func(r *record.Raw) { r.Headers = append(r.Headers, record.Header{Key: "trace"}) }, Duplicate},
		"another timestamp":       {func(r *record.Raw) { r.Timestamp = r.Timestamp.Add(time.Millisecond) }, Duplicate},
		"replay header from outside": {func(r *record.Raw) {
			r.Headers = append(r.Headers, record.Header{Key: record.HeaderReplay, Value: []byte("1")})
		}, Duplicate},
		"the same, in another memory": {func(r *record.Raw) { r.Value = append([]byte(nil), r.Value...) }, Duplicate},
	}
	for name, c := range cases {
		for _, ignore := range []bool{false, true} {
			k := newMiniTask(t, Config{IgnoreConflicts: ignore})
			k.feed(confirm.raw())
			r := base()
			c.change(r)
			want := c.want
			if ignore {
				want = Duplicate
			}
			if d := k.feed(r); d.Verdict != want {
				t.Errorf("%s, IgnoreConflicts %t: %s, want %s", name, ignore, d.Verdict, want)
			}
		}
	}
	k := newMiniTask(t, Config{ID: Key()})
	k.feed(message{key: "a", value: ""}.raw())
	empty := message{key: "a", value: "", offset: 1}.raw()
	empty.Value = nil
	k.want(k.feed(empty), Conflict, Quarantine) // null is not empty
}

func TestS43CleanMoveThenADuplicateAtTheNewOwner(t *testing.T) {
	k := newMiniTask(t, Config{})
	k.feed(confirm.raw())
	restored := newMemoryMarkers() // from the changelog
	for key, v := range k.store.entries {
		restored.entries[key] = append([]byte(nil), v...)
	}
	owner := newMiniTask(t, Config{})
	owner.guard.markers, owner.time = restored, k.guard.TimeAt(k.guard.Horizon(k.time))
	owner.want(owner.feed(confirm.again(1, 30).raw()), Duplicate, Drop)
}

func TestS46OffsetsResetWithTheStoreIntact(t *testing.T) {
	k := newMiniTask(t, Config{})
	for i := range int64(20) {
		m := confirm.again(i, i*60)
		m.id = fmt.Sprint("p", i)
		k.feed(m.raw())
	}
	for i := range int64(20) {
		m := confirm.again(i, i*60)
		m.id = fmt.Sprint("p", i)
		if d := k.feed(m.raw()); i >= 3 && d.Verdict != Redelivery { // those at most 1,000 ms before the last
			t.Fatalf("offset %d: %s, want redelivery", i, d.Verdict)
		}
	}
}

func TestS48TopicCreatedAgainIsNotARedelivery(t *testing.T) {
	k := newMiniTask(t, Config{OnDuplicate: DeadLetterDuplicate})
	k.feed(confirm.raw())
	recreated := confirm
	recreated.topic = [16]byte{0xaa}
	k.want(k.feed(recreated.raw()), Duplicate, Quarantine)
	other := recreated
	other.id = "p2"
	k.want(k.feed(other.raw()), New, Run)
}

func TestS52StartAndEndWithEqualIDsBothRun(t *testing.T) {
	kind := func(r *record.Raw) string { return strings.Fields(string(r.Value))[0] }
	start := message{id: "7", value: "Start game"}
	end := message{id: "7", value: "End game", offset: 1}
	k := newMiniTask(t, Config{Kind: kind})
	k.want(k.feed(start.raw()), New, Run)
	k.want(k.feed(end.raw()), New, Run)
	k.want(k.feed(start.again(2, 0).raw()), Duplicate, Drop)
	k.want(k.feed(end.again(3, 0).raw()), Duplicate, Drop)
	d1, _ := k.guard.Check(start.raw(), FromSource, k.time)
	one := k.guard.Cause(&d1, start.raw())
	d2, _ := k.guard.Check(end.raw(), FromSource, k.time)
	if one == k.guard.Cause(&d2, end.raw()) {
		t.Fatal("outputs of Start and End would have equal ids")
	}
}

func TestScopesDoNotMeet(t *testing.T) {
	k := newMiniTask(t, Config{Scope: "payments"})
	k.feed(confirm.raw())
	k.guard = newTestGuard(t, Config{ID: Header("id"), Window: testWindow, Scope: "refunds"}, k.store)
	k.want(k.feed(confirm.again(1, 0).raw()), New, Run)
	// By default the scope is the source.
	g, err := NewGuard(Config{ID: Header("id"), Window: testWindow}, "shop", "payments", k.store)
	if err != nil {
		t.Fatal(err)
	}
	k.guard = g
	k.want(k.feed(confirm.again(2, 0).raw()), Duplicate, Drop)
}

func TestS53PoisonAndItsDuplicate(t *testing.T) {
	for _, policy := range []Policy{DropDuplicate, ReplayOutputs, DeadLetterDuplicate} {
		k := newMiniTask(t, Config{OnDuplicate: policy})
		k.handle = outcomes(DeadLettered)
		k.want(k.feed(confirm.raw()), New, Run)
		k.want(k.feed(confirm.again(1, 10).raw()), Duplicate, Drop)
		k.counts(1, 1)
	}
}

func TestS53PoisonOnAQuietTopicIsRemembered(t *testing.T) {
	k := newMiniTask(t, Config{})
	k.handle = outcomes(Applied, DeadLettered)
	first, poison := confirm, confirm.again(1, 50_000)
	first.id = "p0"
	k.feed(first.raw())
	k.feed(poison.raw()) // long after the stream time that the first one left
	next := confirm.again(2, 50_100)
	next.id = "p2"
	k.feed(next.raw())
	k.want(k.feed(poison.again(3, 50_200).raw()), Duplicate, Drop)
	k.counts(3, 1)
}

func TestS54ResendsOfAnUpstreamStageApplyOnce(t *testing.T) {
	cause := CauseOfMessage("upstream", "orders", "", []byte("p1"))
	id := cause.OutputID(SlotOf("decide", 0))
	header := record.Header{Key: record.HeaderID, Value: fmt.Appendf(nil, "%x", id)}
	k := newMiniTask(t, Config{ID: OutputID()})
	k.want(k.feed(message{value: "v", headers: []record.Header{header}}.raw()), New, Run)
	k.want(k.feed(message{value: "v", offset: 1, headers: []record.Header{header}}.raw()), Duplicate, Drop)
}
