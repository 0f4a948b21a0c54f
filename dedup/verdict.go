package dedup

import (
	"crypto/sha256"

	"github.com/oncemill/oncemill/internal/problem"
)

// Verdict is what the marker of a record's id says about the record.
type Verdict uint8

const (
	// New: no live marker; the handler may run.
	New Verdict = iota + 1
	// Redelivery: the marker was written for this very position. The task's own position check answers most of these.
	Redelivery
	// Duplicate: the id was seen at another position, or the same replay number came twice.
	Duplicate
	// Conflict: the id was seen with another body.
	Conflict
	// TooOld: there is no marker, and there may have been one that expired.
	TooOld
	// InFlight: another executor works on the id. It never happens here: one goroutine owns a task, and marker and effects
	// commit together. It keeps its name and number because deduplication elsewhere has it.
	InFlight
	// Missing: the record carries no id.
	Missing
	// Invalid: the id, its issue time or its replay number cannot be used.
	Invalid
)

var verdictNames = [...]string{"unknown", "new", "redelivery", "duplicate", "conflict", "too_old", "in_flight", "missing", "invalid"}

// String is the verdict's name as the label of a metric.
func (v Verdict) String() string { return nameOf(verdictNames[:], uint8(v)) }

// Action is what the task has to do with the record: the verdict after the policies.
type Action uint8

const (
	// Run the handler, then Record.
	Run Action = iota + 1
	// Drop the record: only its position moves on.
	Drop
	// Replay the outputs of Decision.Marker; the handler does not run, nothing is recorded.
	Replay
	// Quarantine: write a dead letter with Decision.Reason, then Record with the outcome DeadLettered.
	Quarantine
	// Halt the task with Decision.Reason.
	Halt
)

var actionNames = [...]string{"unknown", "run", "drop", "replay", "quarantine", "halt"}

// String is the action's name.
func (a Action) String() string { return nameOf(actionNames[:], uint8(a)) }

// Origin says by which door a record reached the task. The zero Origin is FromSource.
type Origin uint8

const (
	// FromSource is an ordinary source topic. Replay headers on it are content from outside and mean nothing.
	FromSource Origin = iota
	// FromReplay is the application's own replay topic (S58, S59): the record names its replay number.
	FromReplay
	// FromParked is the task's own store of records that wait for a delayed retry (S60).
	FromParked
)

// Outcome is how the record of a marker ended.
type Outcome uint8

const (
	// Applied: the handler ran and its effects are committed.
	Applied Outcome = iota + 1
	// Rejected: the domain refused, which is a result like any other (R10).
	Rejected
	// DeadLettered: nothing was applied; the record lies in the dead letters and may be replayed once per number.
	DeadLettered
	// Skipped: nothing was applied, by the failure policy.
	Skipped
	// Parked: a delayed retry is under way.
	Parked
)

var outcomeNames = [...]string{"unknown", "applied", "rejected", "dead_lettered", "skipped", "parked"}

// String is the outcome's name.
func (o Outcome) String() string { return nameOf(outcomeNames[:], uint8(o)) }

func (o Outcome) valid() bool { return o >= Applied && o <= Parked }

func nameOf(names []string, i uint8) string {
	if int(i) < len(names) {
		return names[i]
	}
	return names[0]
}

// Decision is the answer of [Guard.Check]. Its slices are valid until the next call to the Guard or to its Markers.
type Decision struct {
	Verdict Verdict
	Action  Action
	// ID is the id of the message, as used in output ids; nil when the record has none that can be used.
	ID []byte
	// Kind is the kind of message, a part of the scope.
	Kind string
	// Reason is the error of a dead letter or of a halt; nil for Run, Drop and Replay.
	Reason *problem.Error
	// Marker is the live marker that was found; its Outcome is 0 when there was none.
	Marker Marker
	// Replay is the number of this run: 0 for the original, n for its n-th replay on purpose.
	Replay uint32
	// Forced is set on a run that only the operator's force admits.
	Forced bool

	message [sha256.Size]byte // of a message with an ID
	hash    [hashBytes]byte   // of the key to write
	body    [bodyBytes]byte
	flags   decisionFlags
	issue   int64
}

// Cause is the identity of the outputs of a message that has an ID.
func (d *Decision) Cause() Cause { return causeOf(d.message, 0) }

type decisionFlags uint8

const (
	hasBody  decisionFlags = 1 << iota // body is the body hash to write
	hasIssue                           // issue is the issue time to write
	refused                            // hash is that of a refusal; only DeadLettered can be recorded
)

// keepBody keeps the body hash of the message's first copy when its marker is written again.
func (d *Decision) keepBody() {
	d.body = d.Marker.Body
	d.flags &^= hasBody
	if d.Marker.HasBody {
		d.flags |= hasBody
	}
}
