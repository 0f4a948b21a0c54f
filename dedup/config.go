package dedup

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/record"
)

// HeaderForce is set by an operator on a replayed record that must run although its marker has expired (S59). It means
// something on the application's own replay topic only, with the value "true". The force is recorded in the marker.
const HeaderForce = "oncemill-force"

// Policy says what happens with a duplicate of a message whose first copy was applied or rejected by the domain. A
// duplicate of a dead letter, of a skipped or of a parked message is dropped whatever the policy (S53).
type Policy uint8

const (
	// DropDuplicate counts the duplicate and moves on. The default.
	DropDuplicate Policy = iota
	// ReplayOutputs emits the recorded outputs of the first copy, byte for byte. Markers then hold them.
	ReplayOutputs
	// DeadLetterDuplicate sends the duplicate to the dead letters.
	DeadLetterDuplicate
)

var policyNames = [...]string{"drop", "replay-outputs", "dead-letter"}

// String is the policy's name.
func (p Policy) String() string { return policyName(policyNames[:], uint8(p)) }

// MissingPolicy says what happens with a record that has no usable id. It is never processed undeduplicated (S12).
type MissingPolicy uint8

const (
	// DeadLetterMissing sends the record to the dead letters, identified there by its content. The default.
	DeadLetterMissing MissingPolicy = iota
	// StopOnMissing ends the task with the reason.
	StopOnMissing
)

var missingNames = [...]string{"dead-letter", "stop"}

// String is the policy's name.
func (p MissingPolicy) String() string { return policyName(missingNames[:], uint8(p)) }

func policyName(names []string, i uint8) string {
	if int(i) < len(names) {
		return names[i]
	}
	return fmt.Sprintf("unknown(%d)", i)
}

// Defaults of Config.
const (
	DefaultMaxIDBytes       = 1024
	DefaultMaxRecordedBytes = 900_000
	DefaultFutureSkew       = time.Hour
)

// Config describes the deduplication of one source. ID and Window are required; the zero value of everything else is the
// documented default.
type Config struct {
	// ID reads the message's id. Ids are compared as bytes: two spellings of one UUID are two ids.
	ID Identity
	// Window is how long, in stream time, a message is remembered; 2 ms at least. It decides the layout of the markers,
	// so that changing it is a change of the topology's fingerprint.
	Window time.Duration
	// Scope separates messages that may carry equal ids. Default: the name of the source.
	Scope string
	// Kind, if set, is a part of the scope that is read from the record, so that Start(game 7) and End(game 7) with
	// equal ids both run (S52). It must be a pure function of the record.
	Kind func(r *record.Raw) string
	// OnDuplicate is the policy for duplicates. Default: DropDuplicate.
	OnDuplicate Policy
	// OnMissing is the policy for records without a usable id. Default: DeadLetterMissing.
	OnMissing MissingPolicy
	// IgnoreConflicts saves the 8 bytes of body hash per marker and the hashing: an id that comes again with another
	// body is then a Duplicate. The body is key and value; headers are not part of it, because a resend changes them. Set
	// it when a resend serialises the same message to other bytes (JSON without a fixed order of fields).
	IgnoreConflicts bool
	// BodyHeader, if set, names a header whose last value belongs to the body as well. It is for a record whose key was
	// replaced on its way, and which carries the original in that header.
	BodyHeader string
	// IssueTime, if set, is when the id was minted: ids from before the window are refused as TooOld instead of being New.
	IssueTime IssueTime
	// FutureSkew is how far an issue time may lie ahead of the larger of stream time and the record's timestamp; beyond
	// it the id is Invalid. Not compared with the machine's clock: a replay of the log must decide alike, and the
	// timestamp of the record has been held against the clock before. At most half the window, because markers are kept
	// that much longer for it. Default: one hour, or half the window if that is less.
	FutureSkew time.Duration
	// MaxIDBytes bounds the length of an id; a longer one is Invalid. An id of 10 kB is a payload in the wrong field, and
	// refusing it shows the mistake. Markers do not grow with it: they hold hashes. Default: 1024.
	MaxIDBytes int
	// MaxRecordedBytes bounds the outputs that are recorded for one message with ReplayOutputs, encoded. The marker
	// travels as one record of the changelog, so it must stay below that topic's max.message.bytes; a message that emits
	// more fails by itself, with OutputTooLarge. Default: 900,000, for Kafka's default of about a megabyte.
	MaxRecordedBytes int
}

// Validate returns nil or all the mistakes, joined; each is a *problem.Error with the field, the value and the cure.
func (c Config) Validate() error {
	var mistakes []error
	wrong := func(field, what, cure string) {
		mistakes = append(mistakes, problem.New(problem.ConfigInvalid, "dedup.Config."+field, "%s", what).WithCure("%s", cure))
	}
	if c.ID.Of == nil {
		wrong("ID", "nothing reads the id", `set it, for example ID: dedup.Header("message-id")`)
	}
	if c.ID.Of != nil && (c.ID.Name == "" || strings.HasSuffix(c.ID.Name, ":")) {
		wrong("ID", fmt.Sprintf("the identity %q names nothing", c.ID.Name), "name the header, the path or the function; the name is part of the topology's fingerprint")
	}
	if c.Window < 2*time.Millisecond {
		wrong("Window", fmt.Sprintf("%v is shorter than 2ms", c.Window), "set how long duplicates may arrive after the original, for example 7 * 24 * time.Hour")
	}
	if int(c.OnDuplicate) >= len(policyNames) {
		wrong("OnDuplicate", c.OnDuplicate.String(), "use DropDuplicate, ReplayOutputs or DeadLetterDuplicate")
	}
	if int(c.OnMissing) >= len(missingNames) {
		wrong("OnMissing", c.OnMissing.String(), "use DeadLetterMissing or StopOnMissing")
	}
	if c.MaxIDBytes < 0 {
		wrong("MaxIDBytes", fmt.Sprintf("%d is negative", c.MaxIDBytes), "leave it 0 for the default of 1024")
	}
	if c.MaxRecordedBytes < 0 {
		wrong("MaxRecordedBytes", fmt.Sprintf("%d is negative", c.MaxRecordedBytes), "leave it 0 for the default of 900,000")
	}
	if c.FutureSkew < 0 || c.FutureSkew > max(0, c.Window/2) {
		wrong("FutureSkew", fmt.Sprintf("%v is not between 0 and half the window", c.FutureSkew), "lower it or enlarge Window; 0 is the default")
	}
	if strings.HasSuffix(c.IssueTime.name, ":") {
		wrong("IssueTime", fmt.Sprintf("%q names no header", c.IssueTime.name), "name the header that carries the issue time")
	}
	if c.IssueTime.read != nil && c.ID.content {
		wrong("IssueTime", fmt.Sprintf("%s with the identity %s, which carries no time", c.IssueTime.Name(), c.ID.Name), "remove it, or use an id that the producer mints")
	}
	return errors.Join(mistakes...)
}

// Fingerprint describes what markers depend on: a start with another fingerprint could not find the markers that are
// there. The policies and limits are not part of it and may change at any time; IgnoreConflicts and BodyHeader
// too, though copies from before a change of BodyHeader then count as conflicts.
func (c Config) Fingerprint(source string) string {
	b := newBuckets(c.Window, c.IssueTime.read != nil)
	return fmt.Sprintf("dedup id=%s scope=%q kind=%t bucket=%dms live=%d", c.ID.Name, c.scope(source), c.Kind != nil, b.length, b.keep+1)
}

func (c Config) scope(source string) string {
	if c.Scope != "" {
		return c.Scope
	}
	return source
}

func (c Config) maxIDBytes() int {
	if c.MaxIDBytes == 0 {
		return DefaultMaxIDBytes
	}
	return c.MaxIDBytes
}

func (c Config) maxRecordedBytes() int {
	if c.MaxRecordedBytes == 0 {
		return DefaultMaxRecordedBytes
	}
	return c.MaxRecordedBytes
}

func (c Config) futureSkew() time.Duration {
	if c.FutureSkew == 0 {
		return min(DefaultFutureSkew, c.Window/2)
	}
	return c.FutureSkew
}
