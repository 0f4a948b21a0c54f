// Package judge is a second, plain implementation of the job of package proof: loops over committed logs that say what outputs,
// state, timers, markers and dead letters must be. It shares no code with the engine, whose formats it reads by hand, and asks it nothing.
//
// It is fed with what any reader with read_committed sees, one topic after the other, each by partition and offset:
//
//	j := judge.New(names, window)
//	Command*  Replay*  Letter*  Event*  Moved*  Total*       the logs
//	Cell*  Position*                                         the state, after everything was drained
//	j.Verdict()
//
// It goes stage by stage: the committed input of a stage is recomputed into what its outputs must be, per key in order. The
// input of the second stage is the committed repartition log, which is at the same time an output of the first.
//
//	I-1 one state change per message    accounts and stocks, byte by byte
//	I-2 one output per message and slot events, moves, totals and letters in order; ids that occur once
//	I-3 from the version that committed the seq and sum that outputs carry
//	I-4 nothing is lost                 what is expected and did not come
//	I-5 nothing is visible too early    outputs and state of messages that are not committed: ghosts
//	I-7 dedup data is bounded           markers that should have expired
//
// Memory grows with the messages, about 200 bytes each.
package judge

import (
	"fmt"
	"time"

	"github.com/oncemill/oncemill/internal/proof"
	"github.com/oncemill/oncemill/record"
)

// Kind is what is wrong.
type Kind string

// What can be wrong.
const (
	Lost     Kind = "lost"     // expected, and not there
	Doubled  Kind = "doubled"  // there once more than expected
	Ghost    Kind = "ghost"    // there, and nothing that is committed says why
	Wrong    Kind = "wrong"    // there, with other content, at another place or in another order
	State    Kind = "state"    // the state of an account or a stock
	Markers  Kind = "markers"  // a marker without its message, or a message without its marker
	Timers   Kind = "timers"   // a timer without reason, or a reason without its timer
	Position Kind = "position" // a committed offset that is not where it must be
	Traffic  Kind = "traffic"  // the input has what cannot be judged: a mistake of the test
)

// Violation is something that is wrong.
type Violation struct {
	Kind Kind
	Text string
}

// String renders the violation in a line.
func (v Violation) String() string { return fmt.Sprintf("%s: %s", v.Kind, v.Text) }

// examples bounds the violations of a kind that are kept.
const examples = 10

// Verdict is the end of a judgement.
type Verdict struct {
	// Violations are examples, ten of each kind at most; Counts has all.
	Violations []Violation
	Counts     map[Kind]int
	// Messages were judged: Commands with their copies, Admitted without.
	Commands, Admitted, Replays, Letters, Events, Moves, Totals int
}

// Clean reports that nothing is wrong.
func (v *Verdict) Clean() bool { return len(v.Counts) == 0 }

// String renders the verdict in a few lines.
func (v *Verdict) String() string {
	s := fmt.Sprintf("%d commands (%d admitted), %d replays, %d events, %d moves, %d totals, %d dead letters: ", v.Commands, v.Admitted, v.Replays, v.Events, v.Moves, v.Totals, v.Letters)
	if v.Clean() {
		return s + "nothing is wrong"
	}
	s += fmt.Sprint(v.Counts)
	for _, w := range v.Violations {
		s += "\n  " + w.String()
	}
	return s
}

// Judge judges one run. It belongs to one goroutine.
type Judge struct {
	names      proof.Names
	windowMS   int64
	partitions map[int32]*partition
	accounts   map[string]*account
	letters    map[place]*letter  // expected, by what they stand for
	replays    map[string]*replay // by message id
	stocks     map[string]*stock
	ids        map[string]map[[16]byte]bool // by topic
	admitted   map[string]place             // by message id: where it first came
	again      map[string]bool              // causes: of messages that came once more after their markers had expired, and have the same output ids
	commandsID [16]byte
	cells      cells
	verdict    Verdict
}

// place is an input record.
type place struct {
	replay    bool // of the replay topic
	partition int32
	offset    int64
}

func (p place) String() string {
	topic := "commands"
	if p.replay {
		topic = "replays"
	}
	return fmt.Sprintf("%s/%d@%d", topic, p.partition, p.offset)
}

// New makes the judge of a job whose deduplication has that window. commandsID is the topic id of the commands, which markers tell from
// that of the replays.
func New(names proof.Names, window time.Duration, commandsID [16]byte) *Judge {
	j := &Judge{
		names: names, windowMS: window.Milliseconds(), commandsID: commandsID,
		partitions: map[int32]*partition{}, accounts: map[string]*account{}, letters: map[place]*letter{},
		replays: map[string]*replay{}, stocks: map[string]*stock{}, ids: map[string]map[[16]byte]bool{},
		admitted: map[string]place{}, again: map[string]bool{},
	}
	j.cells = cells{accounts: map[string][]byte{}, stocks: map[string][]byte{}, markers: map[int32]map[place]markerSeen{}}
	j.verdict.Counts = map[Kind]int{}
	return j
}

func (j *Judge) find(kind Kind, format string, args ...any) {
	j.verdict.Counts[kind]++
	if j.verdict.Counts[kind] <= examples {
		j.verdict.Violations = append(j.verdict.Violations, Violation{kind, fmt.Sprintf(format, args...)})
	}
}

func header(r *record.Raw, key string) string {
	value := ""
	for _, h := range r.Headers {
		if h.Key == key {
			value = string(h.Value)
		}
	}
	return value
}
