package dedup

import (
	"encoding/binary"
	"fmt"

	"github.com/oncemill/oncemill/internal/invariants"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/record"
)

// Markers is the store of markers as the current transaction sees it; *statestore.View is one. A value that Get returns
// is valid until the next call. Keys begin with their bucket, 8 bytes big-endian; whether the store still returns keys of
// buckets below the horizon makes no difference here.
type Markers interface {
	Get(key []byte) (value []byte, found bool, err error)
	Put(key, value []byte) error
}

// Guard is the deduplication of one source in one task. It belongs to the task's goroutine.
type Guard struct {
	config  Config
	app     string
	source  string
	scope   string
	buckets buckets
	skew    int64 // milliseconds
	maxID   int
	maxOuts int // bytes
	markers Markers

	// Memory that is used again for each record.
	hashing   fields
	content   *contentHasher
	contentID [hashBytes]byte
	key       [8 + hashBytes]byte
	value     []byte
	outputs   []byte // at most maxOuts
}

// NewGuard makes the guard of a source, for the application of that name. The config is validated.
func NewGuard(c Config, app, source string, markers Markers) (*Guard, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return &Guard{
		config: c, app: app, source: source, scope: c.scope(source),
		buckets: newBuckets(c.Window, c.IssueTime.read != nil),
		skew:    c.futureSkew().Milliseconds(),
		maxID:   c.maxIDBytes(),
		maxOuts: c.maxRecordedBytes(),
		markers: markers,
		content: newContentHasher(),
	}, nil
}

// Horizon returns the oldest live bucket at a marker time. It rises with time and is the Horizon of the checkpoint.
func (g *Guard) Horizon(time int64) uint64 { return g.buckets.first(time) }

// TimeAt returns the smallest marker time that has this horizon.
func (g *Guard) TimeAt(horizon uint64) int64 {
	return g.buckets.start(horizon + uint64(g.buckets.keep))
}

// LiveBuckets is how many buckets are live at a time: 3, or 4 with issue time.
func (g *Guard) LiveBuckets() int { return int(g.buckets.keep) + 1 }

// Cause is the identity of the outputs of the record that was checked (rule R12). A replay has that of the message: its
// outputs are the ones that the message has not had yet, or, when forced, may have had.
func (g *Guard) Cause(d *Decision, r *record.Raw) Cause {
	if d.ID == nil || d.Action == Quarantine {
		return g.LetterCause(r)
	}
	return d.Cause()
}

// LetterCause is the identity of the dead letter of a record, by its position. A message can have several dead letters (two
// conflicting copies, one for each failed replay), which must not pass for duplicates of each other; a re-run of the same
// record gives the same one.
func (g *Guard) LetterCause(r *record.Raw) Cause {
	return CauseOfPosition(g.app, g.scope, r.TopicID, r.Partition, r.Offset)
}

// Check decides about a record; it writes nothing. The record's timestamp must be within bounds already: clamped, or the
// record will not be run. An error is one of the store or of its bytes and says nothing about the record: what is wrong
// with a record is in Decision.Reason.
func (g *Guard) Check(r *record.Raw, from Origin, time int64) (Decision, error) {
	var d Decision
	if reason := g.identify(&d, r); reason != nil {
		err := g.judgeUnidentified(&d, r, from, time, reason)
		return d, err
	}
	g.hashID(&d)
	if g.comparesBodies() {
		d.body = g.body(r)
		d.flags |= hasBody
	}
	found, err := g.lookup(d.hash, time, &d.Marker)
	if err != nil {
		return d, err
	}
	switch {
	case from == FromReplay:
		err = g.judgeReplay(&d, r, time, found)
	case from == FromParked:
		err = g.judgeParked(&d, r, time, found)
	case !found:
		err = g.judgeAbsent(&d, r, time)
	default:
		err = g.judgeFound(&d, r, time)
	}
	return d, err
}

// comparesBodies: ids that are hashes of the content cannot conflict.
func (g *Guard) comparesBodies() bool { return !g.config.IgnoreConflicts && !g.config.ID.content }

// body is the hash of what two copies of a message must have in common.
func (g *Guard) body(r *record.Raw) [bodyBytes]byte {
	if g.config.BodyHeader == "" {
		return g.content.body(r.Key, r.Value, nil)
	}
	carried, _ := r.Header(g.config.BodyHeader)
	return g.content.body(r.Key, r.Value, carried)
}

// judgeAbsent decides about an id without a marker from the source.
func (g *Guard) judgeAbsent(d *Decision, r *record.Raw, time int64) error {
	if reason := g.fromFuture(d, r, time); reason != nil {
		return g.refuse(d, r, Invalid, time, reason)
	}
	if oldest := clampTime(time) - g.buckets.windowMillis; d.flags&hasIssue != 0 && d.issue < oldest {
		return g.refuse(d, r, TooOld, time, problem.New(problem.IDTooOld, g.place(r),
			"the id was issued %d ms before the window begins, its marker may have expired", oldest-d.issue))
	}
	d.Verdict, d.Action = New, Run
	return nil
}

// fromFuture returns the reason if the id was issued too far ahead: its marker would expire before the id is too old.
func (g *Guard) fromFuture(d *Decision, r *record.Raw, time int64) *problem.Error {
	latest := max(clampTime(time), clampTime(r.Timestamp.UnixMilli()))
	if d.flags&hasIssue == 0 || d.issue <= latest+g.skew {
		return nil
	}
	return problem.New(problem.IDInvalid, g.place(r), "the id was issued %d ms after the record, the skew allowed is %d ms", d.issue-latest, g.skew)
}

// judgeFound decides about an id with a marker from the source.
func (g *Guard) judgeFound(d *Decision, r *record.Raw, time int64) error {
	m := &d.Marker
	switch {
	case m.at(r):
		d.Verdict, d.Action = Redelivery, Drop
	case g.conflicts(d):
		return g.refuse(d, r, Conflict, time, problem.New(problem.IDConflict, g.place(r),
			"the id was first seen at offset %d with another key or value (outcome %s)", m.Offset, m.Outcome))
	default:
		g.judgeDuplicate(d, r)
	}
	return nil
}

func (g *Guard) conflicts(d *Decision) bool {
	return d.flags&hasBody != 0 && d.Marker.HasBody && d.body != d.Marker.Body
}

// judgeDuplicate applies the policy. Only results of the domain are replayed or reported: the duplicate of a dead letter
// adds none (S53), that of a skipped record is as unwanted as the record, and a parked one has no result yet.
func (g *Guard) judgeDuplicate(d *Decision, r *record.Raw) {
	d.Verdict, d.Action = Duplicate, Drop
	if d.Marker.Outcome != Applied && d.Marker.Outcome != Rejected {
		return
	}
	switch g.config.OnDuplicate {
	case ReplayOutputs:
		if d.Marker.Recorded() {
			d.Action = Replay
		}
	case DeadLetterDuplicate:
		d.Action = Quarantine
		d.Reason = problem.New(problem.IDDuplicate, g.place(r), "the message was first seen at offset %d", d.Marker.Offset)
	}
}

// judgeParked decides about a record that comes back from the task's own store of delayed retries. It is run if the
// marker says that this very record is parked. Without a marker it is not known whether it has been applied since, so it
// goes to the dead letters; that can only happen to a task that does not renew (see RenewParked).
func (g *Guard) judgeParked(d *Decision, r *record.Raw, time int64, found bool) error {
	switch {
	case !found:
		return g.refuse(d, r, TooOld, time, problem.New(problem.IDTooOld, g.place(r), "the record was parked, and its marker has expired"))
	case d.Marker.Outcome == Parked && d.Marker.at(r):
		d.Verdict, d.Action = New, Run
		d.Replay, d.Forced = d.Marker.Replay, d.Marker.Forced
		d.keepBody()
	default:
		d.Verdict, d.Action = Duplicate, Drop
	}
	return nil
}

// RenewParked writes the marker of a parked record again when marker time moves on. A marker of work that is still under
// way is never evicted (R8): whenever the horizon rises, the task calls it for each parked record, in the same
// transaction, with the time before and after.
func (g *Guard) RenewParked(r *record.Raw, before, after int64) error {
	d, err := g.Check(r, FromParked, before)
	if err != nil || d.Action != Run {
		return err
	}
	return g.Record(&d, r, after, Parked, nil)
}

// refuse turns the decision into a refusal. It has a marker of its own, beside that of the id, which stays as it is: so
// the first result is intact (S11), and a copy of the refused record adds no second dead letter.
func (g *Guard) refuse(d *Decision, r *record.Raw, verdict Verdict, time int64, reason *problem.Error) error {
	g.hashRefusal(d, r)
	d.flags |= refused
	var earlier Marker
	found, err := g.lookup(d.hash, time, &earlier)
	if err != nil {
		return err
	}
	d.Verdict, d.Action, d.Reason = verdict, Quarantine, reason
	if found {
		g.dropKnown(d, r, &earlier)
	}
	return nil
}

// dropKnown drops a record that was refused before, as Redelivery or Duplicate of its dead letter.
func (g *Guard) dropKnown(d *Decision, r *record.Raw, earlier *Marker) {
	d.Marker = *earlier
	d.Verdict, d.Action, d.Reason = Duplicate, Drop, nil
	if earlier.at(r) {
		d.Verdict = Redelivery
	}
}

// lookup finds the newest live marker of a hash: from the current bucket down, because a marker that is written again
// (parked, then applied) lies in a newer bucket than its predecessor.
func (g *Guard) lookup(hash [hashBytes]byte, time int64, m *Marker) (bool, error) {
	copy(g.key[8:], hash[:])
	newest := g.buckets.of(time)
	for back := range uint64(g.buckets.keep) + 1 {
		binary.BigEndian.PutUint64(g.key[:8], newest-back)
		value, found, err := g.markers.Get(g.key[:])
		if err != nil {
			return false, fmt.Errorf("dedup %s: read marker: %w", g.source, err)
		}
		if !found {
			continue
		}
		*m, err = DecodeMarker(value)
		return err == nil, err
	}
	return false, nil
}

// Record writes the marker of a record that was checked, after its handler has succeeded or the failure policy has
// decided; the time may have moved on since Check, never back. Outputs are kept only where the policy is ReplayOutputs
// and the outcome Applied or Rejected; otherwise they may be nil. If they are too large nothing is written, and the error
// (OutputTooLarge) is one of this record: the failure policy decides. For a Duplicate or a Redelivery there is nothing to
// record, the first marker stands, and Record does nothing.
func (g *Guard) Record(d *Decision, r *record.Raw, time int64, outcome Outcome, outputs []Output) error {
	if d.Verdict == Duplicate || d.Verdict == Redelivery {
		return nil
	}
	if !outcome.valid() || d.flags&refused != 0 && outcome != DeadLettered {
		return problem.New(problem.InvariantBroken, g.place(r), "outcome %s recorded for the verdict %s", outcome, d.Verdict)
	}
	// Else the marker would expire while a copy of the id is not yet too old.
	if invariants.Enabled && d.flags&hasIssue != 0 && outcome != DeadLettered && d.issue > clampTime(time)+g.skew {
		invariants.Check(false, "dedup skew", "%s: issued at %d, recorded at marker time %d, skew %d ms", r.Position, d.issue, time, g.skew)
	}
	m := Marker{
		Outcome: outcome, TopicFold: foldTopic(r.TopicID), Offset: r.Offset,
		Body: d.body, HasBody: d.flags&hasBody != 0,
		Replay: d.Replay, Forced: d.Forced || d.Marker.Forced,
		IssueMillis: d.issue, HasIssue: d.flags&hasIssue != 0,
	}
	if g.config.OnDuplicate == ReplayOutputs && (outcome == Applied || outcome == Rejected) {
		if m.outputs = appendOutputs(g.outputs[:0], outputs); len(m.outputs) > g.maxOuts {
			return problem.New(problem.OutputTooLarge, g.place(r), "the %d outputs take %d bytes in the marker, allowed are %d", len(outputs), len(m.outputs), g.maxOuts).
				WithCure("emit less per message, or raise dedup.Config.MaxRecordedBytes together with the marker changelog's max.message.bytes")
		}
	}
	g.value = appendMarker(g.value[:0], &m)
	g.outputs = m.outputs
	binary.BigEndian.PutUint64(g.key[:8], g.buckets.of(time))
	copy(g.key[8:], d.hash[:])
	if err := g.markers.Put(g.key[:], g.value); err != nil {
		return fmt.Errorf("dedup %s: write marker: %w", g.source, err)
	}
	return nil
}

func (g *Guard) place(r *record.Raw) string { return g.source + " " + r.Position.String() }
