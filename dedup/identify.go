package dedup

import (
	"crypto/sha256"
	"runtime/debug"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/record"
)

// identify reads kind, id and issue time. It returns the reason if there is no id that can be used; d.ID is then nil.
func (g *Guard) identify(d *Decision, r *record.Raw) (reason *problem.Error) {
	defer func() {
		if p := recover(); p != nil {
			d.ID = nil
			reason = problem.New(problem.IDInvalid, g.place(r), "reading the id (%s) panicked: %v\n%s", g.config.ID.Name, p, debug.Stack())
		}
	}()
	if g.config.Kind != nil {
		d.Kind = g.config.Kind(r)
	}
	id, reason := g.readID(r)
	if reason != nil {
		return reason
	}
	if g.config.IssueTime.read != nil {
		millis, err := g.config.IssueTime.read(r, id)
		if err != nil {
			return problem.Wrap(problem.IDInvalid, g.place(r), err)
		}
		d.issue = millis
		d.flags |= hasIssue
	}
	d.ID = id
	return nil
}

func (g *Guard) readID(r *record.Raw) ([]byte, *problem.Error) {
	if g.config.ID.content {
		g.contentID = g.content.of(r.Key, r.Value)
		return g.contentID[:], nil
	}
	id, err := g.config.ID.Of(r)
	switch {
	case err != nil:
		return nil, problem.Wrap(problem.IDInvalid, g.place(r), err)
	case id == nil:
		return nil, problem.New(problem.IDMissing, g.place(r), "no id (%s)", g.config.ID.Name)
	case len(id) == 0:
		return nil, problem.New(problem.IDInvalid, g.place(r), "the id (%s) is empty", g.config.ID.Name)
	case len(id) > g.maxID:
		return nil, problem.New(problem.IDInvalid, g.place(r), "the id (%s) has %d bytes, allowed are %d", g.config.ID.Name, len(id), g.maxID).
			WithCure("send a shorter id, or raise dedup.Config.MaxIDBytes")
	}
	return id, nil
}

// judgeUnidentified decides about a record without a usable id. Its content identifies it, among its like only: the hash
// lies in a domain of its own, so it never meets an id.
func (g *Guard) judgeUnidentified(d *Decision, r *record.Raw, from Origin, time int64, reason *problem.Error) error {
	g.hashAnonymous(d, r)
	found, err := g.lookup(d.hash, time, &d.Marker)
	if err != nil {
		return err
	}
	verdict := Invalid
	if reason.Code == problem.IDMissing {
		verdict = Missing
	}
	switch {
	case from == FromParked:
		return g.judgeParked(d, r, time, found)
	case from == FromReplay:
		return g.judgeUnidentifiedReplay(d, r, time, found, verdict, reason)
	case found:
		d.Verdict, d.Action = Duplicate, Drop
		if d.Marker.at(r) {
			d.Verdict = Redelivery
		}
	case g.config.OnMissing == StopOnMissing:
		d.Verdict, d.Action, d.Reason = verdict, Halt, reason
	default:
		d.Verdict, d.Action, d.Reason = verdict, Quarantine, reason
		d.flags |= refused
	}
	return nil
}

// hashID computes what the message is known by: one hash is the key of its marker and the cause of its outputs.
func (g *Guard) hashID(d *Decision) {
	g.hashing = messageFields(g.hashing, g.app, g.scope, d.Kind, d.ID)
	d.message = sha256.Sum256(g.hashing)
	d.hash = [hashBytes]byte(d.message[:])
}

func (g *Guard) hashAnonymous(d *Decision, r *record.Raw) {
	content := g.content.of(r.Key, r.Value)
	g.hashing = g.hashing.domain(domainAnonymous).string(g.scope).string(d.Kind).bytes(content[:])
	d.hash = g.hashing.short()
}

// hashRefusal names a refused record by everything that makes it the same refusal: a second copy adds no dead letter,
// another body under the same id, or another replay, does.
func (g *Guard) hashRefusal(d *Decision, r *record.Raw) {
	content := g.content.of(r.Key, r.Value)
	g.hashing = g.hashing.domain(domainRefusal).string(g.scope).string(d.Kind).bytes(d.ID).bytes(content[:]).number(uint64(d.Replay))
	d.hash = g.hashing.short()
}
