package retail

import (
	"encoding/json"
	"fmt"
	"iter"
	"math"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/record"
)

// HeaderMessageID is the header that carries the id of an input message.
const HeaderMessageID = "message-id"

// Kind says why the feed sends a message.
type Kind uint8

const (
	// First is a line that is sent for the first time.
	First Kind = iota
	// Again is a line that was sent before, byte for byte.
	Again
	// BrokenJSON is poison: an id, and a value that breaks off.
	BrokenJSON
	// NoID is poison: the value of a real line, without an id. Booking it would double the line.
	NoID
	// PoisonAgain is a poison that was sent before, byte for byte.
	PoisonAgain
)

// String returns the words that reports use.
func (k Kind) String() string {
	names := [...]string{"first", "again", "broken JSON", "no id", "poison again"}
	if int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// Message is one message of the feed.
type Message struct {
	Kind Kind
	// Line is the number of the line that the message was made from.
	Line    int
	Key     []byte
	Value   []byte
	Headers []record.Header
}

// Poison is a message that must end in the dead letters, once, however often it is sent.
type Poison struct {
	Kind  Kind // BrokenJSON or NoID
	Line  int  // the line that it was made from
	Key   string
	Value string
	// ID is the message's id; empty for NoID, which has none.
	ID string
}

// FeedConfig configures a Feed. The zero value sends 10 % of the lines again and 20 poisons.
type FeedConfig struct {
	// Seed decides what is sent again, what is poison, and where; one seed, one feed.
	Seed uint64
	// Duplicates is the share of the lines that is sent again. Zero means 0.1; a negative number means none.
	Duplicates float64
	// Poison is the number of distinct poisons. Zero means 20; a negative number means none.
	Poison int
}

func (c FeedConfig) withDefaults(lines int) (FeedConfig, error) {
	switch {
	case c.Duplicates == 0:
		c.Duplicates = 0.1
	case c.Duplicates < 0:
		c.Duplicates = 0
	}
	switch {
	case c.Poison == 0:
		c.Poison = min(20, lines)
	case c.Poison < 0:
		c.Poison = 0
	}
	if lines == 0 {
		return c, problem.New(problem.ConfigInvalid, "feed", "there are no lines").WithCure("give at least one line")
	}
	// Written so that NaN is refused as well.
	if !(c.Duplicates <= 1) {
		return c, problem.New(problem.ConfigInvalid, "feed: duplicates", "the share %v is above 1", c.Duplicates).
			WithCure("give a share between 0 and 1")
	}
	if c.Poison > lines {
		return c, problem.New(problem.ConfigInvalid, "feed: poison", "%d is more than the %d lines", c.Poison, lines).
			WithCure("give at most one poison per line")
	}
	return c, nil
}

// Counts says how many messages of each sort a feed sends.
type Counts struct {
	Lines int `json:"lines"` // each sent a first time, in file order
	Again int `json:"again"` // lines sent a second time
	// Of the lines sent again, overlapping:
	AgainLate        int `json:"againLate"`        // LateBy lines or more after the first time
	AgainAfterCancel int `json:"againAfterCancel"` // after the customer's cancellation of that product
	AgainAfterOrder  int `json:"againAfterOrder"`  // after the customer's next invoice began
	BrokenJSON       int `json:"brokenJson"`
	NoID             int `json:"noId"`
	PoisonAgain      int `json:"poisonAgain"`
}

// Messages is the number of messages in all.
func (c Counts) Messages() int { return c.Lines + c.Again + c.BrokenJSON + c.NoID + c.PoisonAgain }

// Feed is an at-least-once sender: every line once in file order, some of them again at a later position with the same
// bytes, some long after, and poison in between. What it sends is decided by its seed alone.
type Feed struct {
	lines  []Line
	extras []extra // ascending by after
	poison []Poison
	counts Counts
}

// NewFeed plans a feed over the lines of a file, which are in file order and numbered from 1. It keeps lines.
func NewFeed(lines []Line, config FeedConfig) (*Feed, error) {
	config, err := config.withDefaults(len(lines))
	if err != nil {
		return nil, err
	}
	for i, line := range lines {
		if line.Number != i+1 {
			return nil, problem.New(problem.ConfigInvalid, "feed", "line %d of the list has the number %d", i+1, line.Number).
				WithCure("give all lines of a file, in file order")
		}
	}
	p := newPlanner(lines, config.Seed)
	p.planAgain(int(math.Round(config.Duplicates * float64(len(lines)))))
	if err := p.planPoison(config.Poison); err != nil {
		return nil, err
	}
	return p.feed(), nil
}

// Counts says how many messages of each sort Messages yields.
func (f *Feed) Counts() Counts { return f.counts }

// Poison returns the distinct poisons, for the judge.
func (f *Feed) Poison() []Poison { return f.poison }

// Messages yields the messages in the order in which they are to be sent, the same ones at each call. A line that cannot
// be encoded ends it with an error.
func (f *Feed) Messages() iter.Seq2[Message, error] {
	return func(yield func(Message, error) bool) {
		extras := f.extras
		for i := range f.lines {
			message, err := lineMessage(f.lines[i], First)
			if !yield(message, err) || err != nil {
				return
			}
			for len(extras) > 0 && extras[0].after == i+1 {
				message, err := f.extraMessage(extras[0])
				if !yield(message, err) || err != nil {
					return
				}
				extras = extras[1:]
			}
		}
	}
}

func (f *Feed) extraMessage(e extra) (Message, error) {
	if e.kind == Again {
		return lineMessage(f.lines[e.index], Again)
	}
	poison := f.poison[e.index]
	message := Message{Kind: e.kind, Line: poison.Line, Key: []byte(poison.Key), Value: []byte(poison.Value)}
	if poison.ID != "" {
		message.Headers = idHeader(poison.ID)
	}
	return message, nil
}

func lineMessage(line Line, kind Kind) (Message, error) {
	value, err := json.Marshal(line)
	if err != nil {
		return Message{}, fmt.Errorf("encode line %d: %w", line.Number, err)
	}
	return Message{
		Kind: kind, Line: line.Number, Key: []byte(line.Key()), Value: value, Headers: idHeader(line.ID()),
	}, nil
}

func idHeader(id string) []record.Header {
	return []record.Header{{Key: HeaderMessageID, Value: []byte(id)}}
}
