package dedup

import (
	"strconv"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/record"
)

// replayHeaders reads the replay number and the force of a record from the replay topic. The number is decimal, 1 or more.
func replayHeaders(r *record.Raw) (number uint32, forced, ok bool) {
	value, _ := r.Header(record.HeaderReplay)
	n, err := strconv.ParseUint(string(value), 10, 32)
	force, _ := r.Header(HeaderForce)
	return uint32(n), string(force) == "true", err == nil && n > 0
}

// judgeReplay decides about a record with an id from the replay topic:
//
//	marker          number n      verdict
//	any             <= replay     Duplicate: this replay was made before (S58)
//	dead-lettered   = replay+1    New: one run per number
//	dead-lettered   > replay+1    refused, unless forced: replays between are missing
//	other           > replay      Duplicate: it was applied, skipped or is parked; force changes nothing
//	other, another body           refused: it is another message under the same id
//	none            any           refused as TooOld, unless forced (S59), or if the dead letter had no id and has one now
//
// The body of a replay of a dead letter is not compared: nothing was applied under the id, and a mended body is one way
// to mend a dead letter. Its marker keeps the body hash of the original, so that a late copy of the original is a
// Duplicate and not a Conflict.
func (g *Guard) judgeReplay(d *Decision, r *record.Raw, time int64, found bool) error {
	n, forced, ok := replayHeaders(r)
	if !ok {
		return g.refuse(d, r, Invalid, time, g.malformedReplay(r))
	}
	d.Replay = n
	m := &d.Marker
	switch {
	case !found && forced:
		// Force is for what may have expired. An id from the future could run once more without force afterwards.
		if reason := g.fromFuture(d, r, time); reason != nil {
			return g.refuse(d, r, Invalid, time, reason)
		}
		d.Verdict, d.Action, d.Forced = New, Run, true
	case !found:
		return g.judgeReplayAbsent(d, r, time)
	case m.at(r):
		d.Verdict, d.Action = Redelivery, Drop
	case n <= m.Replay:
		d.Verdict, d.Action = Duplicate, Drop
	case m.Outcome != DeadLettered && g.conflicts(d):
		return g.refuse(d, r, Conflict, time, problem.New(problem.ReplayRefused, g.place(r),
			"replay %d has another key or value than the message that was %s under its id", n, m.Outcome).
			WithCure("send it as a new message, under an id of its own"))
	case m.Outcome != DeadLettered:
		d.Verdict, d.Action = Duplicate, Drop
	case n > m.Replay+1 && !forced:
		return g.refuse(d, r, Invalid, time, problem.New(problem.ReplayRefused, g.place(r),
			"replay %d comes before replay %d", n, m.Replay+1).
			WithCure("replay the last dead letter of the message, whose number is %d", m.Replay))
	default:
		d.Verdict, d.Action = New, Run
		d.Forced = n > m.Replay+1
		d.keepBody()
	}
	return nil
}

// judgeReplayAbsent decides about an id without a marker. It may be the dead letter of a record that had no id, and was
// given one before it was replayed: then the content finds its marker, and the id is judged like one from the source.
func (g *Guard) judgeReplayAbsent(d *Decision, r *record.Raw, time int64) error {
	id := d.hash
	var unidentified Marker
	g.hashAnonymous(d, r)
	found, err := g.lookup(d.hash, time, &unidentified)
	d.hash = id
	if err != nil {
		return err
	}
	if found && unidentified.Outcome == DeadLettered && d.Replay == unidentified.Replay+1 {
		return g.judgeAbsent(d, r, time)
	}
	return g.refuse(d, r, TooOld, time, problem.New(problem.ReplayRefused, g.place(r),
		"replay %d of a message without a live marker: it may have been applied before the marker expired", d.Replay).
		WithCure("if it must run, replay it with the header %s: true", HeaderForce))
}

// judgeUnidentifiedReplay decides about a record from the replay topic that still has no usable id. Nothing says what a
// copy of it would be, so it is refused; forced, it runs under the hash of its content, once per number.
func (g *Guard) judgeUnidentifiedReplay(d *Decision, r *record.Raw, time int64, found bool, verdict Verdict, reason *problem.Error) error {
	n, forced, ok := replayHeaders(r)
	if !ok {
		return g.refuse(d, r, Invalid, time, g.malformedReplay(r))
	}
	d.Replay = n
	m := &d.Marker
	switch {
	case found && m.at(r):
		d.Verdict, d.Action = Redelivery, Drop
	case found && (m.Outcome != DeadLettered || n <= m.Replay):
		d.Verdict, d.Action = Duplicate, Drop
	case forced:
		d.Verdict, d.Action, d.Forced = New, Run, true
	default:
		return g.refuse(d, r, verdict, time, problem.New(problem.ReplayRefused, g.place(r), "replay %d has no id that can be used", n).
			Because(reason).
			WithCure("give it its id before the replay, or replay it with the header %s: true; it then runs under the hash of its content", HeaderForce))
	}
	return nil
}

func (g *Guard) malformedReplay(r *record.Raw) *problem.Error {
	value, found := r.Header(record.HeaderReplay)
	if !found {
		return problem.New(problem.ReplayRefused, g.place(r), "the header %s is missing", record.HeaderReplay).
			WithCure("set the header to the dead letter's number + 1")
	}
	return problem.New(problem.ReplayRefused, g.place(r), "the header %s is %.20q, not a number above 0", record.HeaderReplay, value).
		WithCure("set it to the dead letter's number + 1")
}
