package dedup

import (
	"testing"
	"time"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/record"
)

func TestS58DeadLetterReplayedTwiceRunsOnce(t *testing.T) {
	k := newMiniTask(t, Config{})
	k.handle = outcomes(DeadLettered)
	k.feed(confirm.raw())
	d := k.step(confirm.again(0, 20).replay("1", ""), FromReplay)
	k.want(d, New, Run)
	if d.Replay != 1 || d.Forced {
		t.Fatalf("replay %d, forced %t", d.Replay, d.Forced)
	}
	k.want(k.step(confirm.again(1, 30).replay("1", ""), FromReplay), Duplicate, Drop)
	k.want(k.feed(confirm.again(9, 40).raw()), Duplicate, Drop) // a plain duplicate of the original
	k.counts(2, 1)
}

func TestS58EachReplayNumberRunsOnce(t *testing.T) {
	k := newMiniTask(t, Config{})
	k.handle = outcomes(DeadLettered, DeadLettered, Applied)
	k.feed(confirm.raw())
	k.want(k.step(confirm.again(0, 20).replay("1", ""), FromReplay), New, Run)
	k.want(k.step(confirm.again(1, 20).replay("1", ""), FromReplay), Duplicate, Drop)
	k.want(k.feed(confirm.again(9, 25).raw()), Duplicate, Drop)
	k.want(k.step(confirm.again(2, 30).replay("2", ""), FromReplay), New, Run)
	k.want(k.step(confirm.again(3, 30).replay("2", ""), FromReplay), Duplicate, Drop)
	k.want(k.step(confirm.again(4, 30).replay("3", ""), FromReplay), Duplicate, Drop)     // it was applied
	k.want(k.step(confirm.again(5, 30).replay("3", "true"), FromReplay), Duplicate, Drop) // force does not double it
	k.counts(3, 2)
}

func TestReplayVerdicts(t *testing.T) {
	other := confirm
	other.value = "another body"
	cases := map[string]struct {
		first   Outcome // of the original, 0: there is none
		record  *record.Raw
		verdict Verdict
		action  Action
		code    problem.Code
	}{
		"no header":                         {DeadLettered, confirm.again(5, 9).raw(), Invalid, Quarantine, problem.ReplayRefused},
		"not a number":                      {DeadLettered, confirm.again(5, 9).replay("one", ""), Invalid, Quarantine, problem.ReplayRefused},
		"number 0":                          {DeadLettered, confirm.again(5, 9).replay("0", ""), Invalid, Quarantine, problem.ReplayRefused},
		"number beyond 32 bits":             {DeadLettered, confirm.again(5, 9).replay("4294967297", "true"), Invalid, Quarantine, problem.ReplayRefused},
		"a number was left out":             {DeadLettered, confirm.again(5, 9).replay("2", ""), Invalid, Quarantine, problem.ReplayRefused},
		"a number was left out, forced":     {DeadLettered, confirm.again(5, 9).replay("2", "true"), New, Run, ""},
		"force needs the word true":         {DeadLettered, confirm.again(5, 9).replay("2", "yes"), Invalid, Quarantine, problem.ReplayRefused},
		"mended body":                       {DeadLettered, other.again(5, 9).replay("1", ""), New, Run, ""},
		"of an applied message":             {Applied, confirm.again(5, 9).replay("1", ""), Duplicate, Drop, ""},
		"of an applied message, forced":     {Applied, confirm.again(5, 9).replay("1", "true"), Duplicate, Drop, ""},
		"of a rejected message":             {Rejected, confirm.again(5, 9).replay("1", ""), Duplicate, Drop, ""},
		"of a skipped message":              {Skipped, confirm.again(5, 9).replay("1", ""), Duplicate, Drop, ""},
		"of a parked message":               {Parked, confirm.again(5, 9).replay("1", "true"), Duplicate, Drop, ""},
		"of a conflict's dead letter":       {Applied, other.again(5, 9).replay("1", ""), Conflict, Quarantine, problem.ReplayRefused},
		"of a conflict, forced":             {Applied, other.again(5, 9).replay("1", "true"), Conflict, Quarantine, problem.ReplayRefused},
		"of an unknown message":             {0, confirm.again(5, 9).replay("1", ""), TooOld, Quarantine, problem.ReplayRefused},
		"of an unknown message, forced":     {0, confirm.again(5, 9).replay("4", "true"), New, Run, ""},
		"on the source topic, from outside": {Applied, confirm.again(5, 9).replay("1", "true"), Duplicate, Drop, ""},
	}
	for name, c := range cases {
		k := newMiniTask(t, Config{})
		if c.first != 0 {
			k.handle = outcomes(c.first)
			k.feed(confirm.raw())
		}
		from := FromReplay
		if name == "on the source topic, from outside" {
			from = FromSource
		}
		d := k.step(c.record, from)
		if d.Verdict != c.verdict || d.Action != c.action {
			t.Errorf("%s: %s, %s (%v); want %s, %s", name, d.Verdict, d.Action, d.Reason, c.verdict, c.action)
			continue
		}
		if c.code != "" && (d.Reason == nil || d.Reason.Code != c.code || d.Reason.Cure == "") {
			t.Errorf("%s: reason %v, want %s with a cure of its own", name, d.Reason, c.code)
		}
		again := *c.record
		again.Offset++
		if d := k.step(&again, from); d.Verdict != Duplicate || d.Action != Drop {
			t.Errorf("%s, made twice: %s, %s; want duplicate, drop", name, d.Verdict, d.Action)
		}
	}
}

func TestReplayHeaderFromOutsideDoesNotBypassDeduplication(t *testing.T) {
	k := newMiniTask(t, Config{})
	k.handle = outcomes(DeadLettered)
	k.feed(confirm.raw())
	k.want(k.feed(confirm.again(1, 9).replay("1", "true")), Duplicate, Drop)
	k.counts(1, 1)
}

func TestReplayWithAMendedBodyKeepsTheOriginalsHash(t *testing.T) {
	k := newMiniTask(t, Config{})
	k.handle = outcomes(DeadLettered)
	k.feed(confirm.raw())
	mended := confirm.again(0, 10)
	mended.value = "mended"
	k.want(k.step(mended.replay("1", ""), FromReplay), New, Run)
	k.want(k.feed(confirm.again(8, 20).raw()), Duplicate, Drop)
	k.counts(2, 1)
}

func TestS59ReplayAfterTheMarkerExpired(t *testing.T) {
	k := newMiniTask(t, Config{})
	k.handle = outcomes(DeadLettered)
	k.feed(confirm.raw())
	later := confirm.again(1, 5000)
	later.id = "p2"
	k.feed(later.raw())

	d := k.step(confirm.again(0, 5000).replay("1", ""), FromReplay)
	k.want(d, TooOld, Quarantine)
	if d.Reason.Code != problem.ReplayRefused {
		t.Fatalf("reason %v", d.Reason)
	}
	k.counts(2, 2)
	d = k.step(confirm.again(1, 5000).replay("1", "true"), FromReplay)
	k.want(d, New, Run)
	if !d.Forced {
		t.Fatal("the decision does not say that it was forced")
	}
	d = k.step(confirm.again(2, 5000).replay("1", "true"), FromReplay)
	k.want(d, Duplicate, Drop)
	if !d.Marker.Forced || d.Marker.Replay != 1 || d.Marker.Outcome != Applied {
		t.Fatalf("marker %+v: the force is not recorded", d.Marker)
	}
	k.counts(3, 2)
}

func TestForceDoesNotAdmitAnIDFromTheFuture(t *testing.T) {
	k := newMiniTask(t, Config{IssueTime: IssueHeader("issued")})
	r := confirm.replay("1", "true")
	r.Headers = append(r.Headers, issuedAt(time.Hour)...)
	d := k.step(r, FromReplay)
	k.want(d, Invalid, Quarantine)
	if d.Reason.Code != problem.IDInvalid {
		t.Fatalf("reason %v", d.Reason)
	}
}

func TestForceStaysOnTheMarker(t *testing.T) {
	k := newMiniTask(t, Config{})
	k.handle = outcomes(DeadLettered, Parked, Applied)
	k.step(confirm.replay("1", "true"), FromReplay)
	k.want(k.step(confirm.again(1, 0).replay("2", ""), FromReplay), New, Run)
	parked := confirm.again(1, 0).replay("2", "")
	d := k.step(parked, FromParked)
	k.want(d, New, Run)
	if d.Replay != 2 {
		t.Fatalf("replay %d after the retry, want 2", d.Replay)
	}
	d = k.feed(confirm.again(4, 0).raw())
	if !d.Marker.Forced || d.Marker.Replay != 2 || d.Marker.Outcome != Applied {
		t.Fatalf("marker %+v", d.Marker)
	}
}

func TestReplayOfADeadLetterThatHasNoID(t *testing.T) {
	lost := message{key: "k", value: "no id"}
	k := newMiniTask(t, Config{})
	k.feed(lost.raw())
	d := k.step(lost.again(0, 9).replay("1", ""), FromReplay)
	k.want(d, Missing, Quarantine)
	if d.Reason.Code != problem.ReplayRefused {
		t.Fatalf("reason %v", d.Reason)
	}
	k.want(k.step(lost.again(1, 9).replay("1", ""), FromReplay), Duplicate, Drop) // no third dead letter
	k.counts(0, 2)

	k.handle = outcomes(DeadLettered)
	d = k.step(lost.again(2, 9).replay("1", "true"), FromReplay)
	k.want(d, New, Run)
	if d.ID != nil || !d.Forced {
		t.Fatalf("id %x, forced %t: a content hash is no id", d.ID, d.Forced)
	}
	k.want(k.step(lost.again(3, 9).replay("1", "true"), FromReplay), Duplicate, Drop)
	k.want(k.feed(lost.again(7, 9).raw()), Duplicate, Drop)
	k.want(k.step(lost.again(4, 9).replay("2", "true"), FromReplay), New, Run)
	k.want(k.step(lost.again(5, 9).replay("3", "true"), FromReplay), Duplicate, Drop)
	k.want(k.step(lost.again(4, 9).replay("2", "true"), FromReplay), Redelivery, Drop)
	k.counts(2, 3)
}

func TestReplayOfADeadLetterThatWasGivenItsID(t *testing.T) {
	lost := message{key: "k", value: "no id"}
	found := lost
	found.id = "p9"
	k := newMiniTask(t, Config{})
	k.feed(lost.raw())
	k.want(k.step(found.again(0, 9).replay("2", ""), FromReplay), TooOld, Quarantine)
	k.want(k.step(found.again(1, 9).replay("1", ""), FromReplay), New, Run)
	k.want(k.step(found.again(2, 9).replay("1", ""), FromReplay), Duplicate, Drop)
	k.want(k.feed(found.again(7, 9).raw()), Duplicate, Drop)
	k.counts(1, 2)
}

func TestMalformedReplayWithoutID(t *testing.T) {
	k := newMiniTask(t, Config{})
	k.want(k.step(message{value: "v"}.replay("x", "true"), FromReplay), Invalid, Quarantine)
	k.counts(0, 1)
}

func TestS60ParkedMessageRunsOnceWhenItComesBack(t *testing.T) {
	k := newMiniTask(t, Config{})
	k.handle = outcomes(Parked, Parked, Applied)
	k.want(k.feed(confirm.raw()), New, Run)
	k.want(k.feed(confirm.again(1, 10).raw()), Duplicate, Drop) // while it is parked
	k.want(k.step(confirm.raw(), FromParked), New, Run)         // the second attempt fails too
	k.want(k.step(confirm.raw(), FromParked), New, Run)
	k.want(k.step(confirm.raw(), FromParked), Duplicate, Drop) // it was applied
	k.want(k.feed(confirm.again(2, 20).raw()), Duplicate, Drop)
	k.counts(3, 0)
}

func TestS60OnlyTheParkedRecordItselfComesBack(t *testing.T) {
	k := newMiniTask(t, Config{})
	k.handle = outcomes(Parked)
	k.feed(confirm.raw())
	k.want(k.step(confirm.again(1, 0).raw(), FromParked), Duplicate, Drop)
}

func TestS60ParkedMarkerIsNeverEvicted(t *testing.T) {
	k := newMiniTask(t, Config{})
	k.handle = outcomes(Parked)
	k.feed(confirm.raw())
	for i := range int64(10) {
		other := confirm.again(i+1, (i+1)*5000)
		other.id += string(rune('a' + i))
		before := k.time
		k.feed(other.raw())
		if err := k.guard.RenewParked(confirm.raw(), before, k.time); err != nil {
			t.Fatal(err)
		}
		k.store.evict(k.guard.Horizon(k.time))
		k.want(k.feed(confirm.again(100+i, (i+1)*5000).raw()), Duplicate, Drop)
	}
	k.want(k.step(confirm.raw(), FromParked), New, Run)
	k.want(k.feed(confirm.again(200, 50_000).raw()), Duplicate, Drop)
	if err := k.guard.RenewParked(confirm.raw(), k.time, k.time); err != nil {
		t.Fatal(err)
	}
	if d := k.feed(confirm.again(201, 50_000).raw()); d.Marker.Outcome != Applied {
		t.Fatalf("renewing turned an applied message into %s", d.Marker.Outcome)
	}
}

func TestParkedRecordWithoutAMarkerIsNotRun(t *testing.T) {
	k := newMiniTask(t, Config{})
	d := k.step(confirm.raw(), FromParked)
	k.want(d, TooOld, Quarantine)
	if d.Reason.Code != problem.IDTooOld {
		t.Fatalf("reason %v", d.Reason)
	}
	k.counts(0, 1)
}

func TestParkedRecordWithoutID(t *testing.T) {
	lost := message{key: "k", value: "no id"}
	k := newMiniTask(t, Config{})
	k.feed(lost.raw())
	k.handle = outcomes(Parked, Applied)
	forced := lost.replay("1", "true")
	k.want(k.step(forced, FromReplay), New, Run)
	d := k.step(forced, FromParked)
	k.want(d, New, Run)
	if d.Replay != 1 || !d.Forced {
		t.Fatalf("replay %d, forced %t", d.Replay, d.Forced)
	}
	k.want(k.step(forced, FromParked), Duplicate, Drop)
}
