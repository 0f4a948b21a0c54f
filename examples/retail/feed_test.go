package retail

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/record"
)

// messages plans a feed and returns all that it sends.
func messages(t *testing.T, lines []Line, config FeedConfig) (*Feed, []Message) {
	t.Helper()
	feed, err := NewFeed(lines, config)
	if err != nil {
		t.Fatal(err)
	}
	var all []Message
	for message, err := range feed.Messages() {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, message)
	}
	return feed, all
}

func idOf(m Message) (string, bool) {
	id, found := record.Lookup(m.Headers, HeaderMessageID)
	return string(id), found
}

func TestFeedSendsEveryLineOnceInFileOrder(t *testing.T) {
	lines := embeddedLines()
	_, all := messages(t, lines, FeedConfig{Seed: 1})
	next := 0
	for _, m := range all {
		if m.Kind != First {
			continue
		}
		var line Line
		if err := json.Unmarshal(m.Value, &line); err != nil {
			t.Fatal(err)
		}
		if line != lines[next] || m.Line != next+1 {
			t.Fatalf("first message %d is line %d: %+v", next+1, m.Line, line)
		}
		id, _ := idOf(m)
		key := line.Customer
		if key == "" {
			key = line.Invoice
		}
		if id != line.ID() || string(m.Key) != key {
			t.Fatalf("line %d has id %q and key %q", m.Line, id, m.Key)
		}
		next++
	}
	if next != len(lines) {
		t.Errorf("%d lines were sent a first time, want %d", next, len(lines))
	}
}

func TestFeedSendsAgainTheSameBytesLater(t *testing.T) {
	feed, all := messages(t, embeddedLines(), FeedConfig{Seed: 2})
	first := make(map[int]int)  // line to its place among the messages
	again := make(map[int]bool) // lines that were sent again
	poison := make(map[int]int) // line of a poison to its place
	afterCancel, sameBatch := 0, 0
	for place, m := range all {
		switch m.Kind {
		case First:
			first[m.Line] = place
		case Again:
			before, sent := first[m.Line]
			if !sent || again[m.Line] {
				t.Fatalf("line %d: sent before: %t, sent again before: %t", m.Line, sent, again[m.Line])
			}
			again[m.Line] = true
			m.Kind = First
			if !reflect.DeepEqual(m, all[before]) {
				t.Fatalf("line %d: again %+v, first %+v", m.Line, m, all[before])
			}
			if place-before < 100 {
				sameBatch++
			}
			if cancelledBetween(all[before:place]) {
				afterCancel++
			}
		case BrokenJSON, NoID:
			poison[m.Line] = place
		case PoisonAgain:
			before, sent := poison[m.Line]
			if !sent {
				t.Fatalf("the poison of line %d is sent again before it was sent", m.Line)
			}
			m.Kind = all[before].Kind
			if !reflect.DeepEqual(m, all[before]) {
				t.Fatalf("poison of line %d: again %+v, first %+v", m.Line, m, all[before])
			}
		}
	}
	counts := feed.Counts()
	if len(again) != 5_006 || counts.Again != 5_006 {
		t.Errorf("%d lines sent again, counted %d, want 5006", len(again), counts.Again)
	}
	if afterCancel != counts.AgainAfterCancel || afterCancel < 49 {
		t.Errorf("%d lines sent again after their cancellation, counted %d, want 49 or more", afterCancel, counts.AgainAfterCancel)
	}
	if counts.AgainLate < 1_000 || counts.AgainAfterOrder < 100 || sameBatch < 1_000 {
		t.Errorf("%+v, %d within 100 messages: too few late, after the next order, or soon", counts, sameBatch)
	}
}

// cancelledBetween reports whether the customer of the first message cancelled its product in one of the later ones.
func cancelledBetween(sent []Message) bool {
	var line Line
	if json.Unmarshal(sent[0].Value, &line) != nil || line.Customer == "" || strings.HasPrefix(line.Invoice, "C") {
		return false
	}
	for _, m := range sent[1:] {
		if m.Kind != First || string(m.Key) != line.Customer {
			continue
		}
		var later Line
		if json.Unmarshal(m.Value, &later) == nil && later.StockCode == line.StockCode && later.Invoice[0] == 'C' {
			return true
		}
	}
	return false
}

func TestFeedCountsWhatItSends(t *testing.T) {
	for _, config := range []FeedConfig{
		{}, {Seed: 3, Duplicates: 0.5, Poison: 7}, {Seed: 4, Duplicates: 1, Poison: 1}, {Duplicates: -1, Poison: -1},
		{Duplicates: -1}, {Poison: -1}, {Duplicates: 0.0001},
	} {
		feed, all := messages(t, embeddedLines()[:3_000], config)
		var got Counts
		for _, m := range all {
			switch m.Kind {
			case First:
				got.Lines++
			case Again:
				got.Again++
			case BrokenJSON:
				got.BrokenJSON++
			case NoID:
				got.NoID++
			case PoisonAgain:
				got.PoisonAgain++
			}
		}
		want := feed.Counts()
		if want.Messages() != len(all) {
			t.Errorf("%+v: %d messages, counted %d", config, len(all), want.Messages())
		}
		want.AgainLate, want.AgainAfterCancel, want.AgainAfterOrder = 0, 0, 0
		if got != want {
			t.Errorf("%+v: sent %+v, counted %+v", config, got, want)
		}
	}
}

func TestFeedSharesAreThoseAskedFor(t *testing.T) {
	for _, c := range []struct {
		config        FeedConfig
		again, poison int
	}{
		{FeedConfig{}, 300, 20},
		{FeedConfig{Duplicates: 0.05, Poison: 3}, 150, 3},
		{FeedConfig{Duplicates: 1, Poison: 3_000}, 3_000, 3_000},
		{FeedConfig{Duplicates: -1, Poison: -1}, 0, 0},
	} {
		feed, _ := messages(t, embeddedLines()[:3_000], c.config)
		counts := feed.Counts()
		if counts.Again != c.again || counts.BrokenJSON+counts.NoID != c.poison || len(feed.Poison()) != c.poison {
			t.Errorf("%+v: %+v, %d poisons", c.config, counts, len(feed.Poison()))
		}
		if c.poison > 1 && counts.PoisonAgain < 2 {
			t.Errorf("%+v: %d poisons are sent again, want one of each sort or more", c.config, counts.PoisonAgain)
		}
	}
}

func TestFeedIsDecidedByItsSeed(t *testing.T) {
	lines := embeddedLines()[:2_000]
	feed, first := messages(t, lines, FeedConfig{Seed: 7})
	_, same := messages(t, lines, FeedConfig{Seed: 7})
	_, other := messages(t, lines, FeedConfig{Seed: 8})
	if !reflect.DeepEqual(first, same) {
		t.Error("two feeds of one seed differ")
	}
	if reflect.DeepEqual(first, other) {
		t.Error("two feeds of different seeds are equal")
	}
	at := 0
	for m, err := range feed.Messages() {
		if err != nil || !reflect.DeepEqual(m, first[at]) {
			t.Fatalf("the second walk over a feed differs at message %d: %+v, %v", at, m, err)
		}
		if at++; at == 50 {
			break // an iterator may be left early
		}
	}
}

// A seed that one version printed must repeat the run in the next: the sum covers every byte that is sent.
func TestFeedOfASeedDoesNotChange(t *testing.T) {
	feed, all := messages(t, embeddedLines(), FeedConfig{Seed: 42})
	sum := sha256.New()
	for _, m := range all {
		fmt.Fprintf(sum, "%d %d %q %q %q\n", m.Kind, m.Line, m.Key, m.Value, m.Headers)
	}
	const want = "2fb995cae80ff6bc2aa02f29a9e3dfcad9080d1ba86d38471565037a09ce7e83"
	if got := hex.EncodeToString(sum.Sum(nil)); got != want {
		t.Errorf("the feed of seed 42 is %s, and was %s", got, want)
	}
	if got, want := feed.Counts(), (Counts{
		Lines: 50_062, Again: 5_006, AgainLate: 2_292, AgainAfterCancel: 49, AgainAfterOrder: 594,
		BrokenJSON: 10, NoID: 10, PoisonAgain: 8,
	}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

func TestPoisonIsPoison(t *testing.T) {
	lines := embeddedLines()
	feed, all := messages(t, lines, FeedConfig{Seed: 5, Poison: 200})
	sent := make(map[letter]int)
	for _, m := range all {
		id, found := idOf(m)
		var line Line
		err := json.Unmarshal(m.Value, &line)
		switch m.Kind {
		case BrokenJSON:
			if err == nil || !strings.HasPrefix(id, "poison-") {
				t.Errorf("line %d: id %q, value %s", m.Line, id, m.Value)
			}
		case NoID:
			if found || err != nil || line != lines[m.Line-1] {
				t.Errorf("line %d: id %q, value %s, %v", m.Line, id, m.Value, err)
			}
		case First, Again:
			continue
		}
		sent[letter{string(m.Key), string(m.Value), id}]++
	}
	if len(feed.Poison()) != 200 || len(sent) != 200 {
		t.Errorf("%d poisons planned, %d distinct ones sent, want 200", len(feed.Poison()), len(sent))
	}
	for _, p := range feed.Poison() {
		if sent[letter{p.Key, p.Value, p.ID}] == 0 {
			t.Errorf("the poison of line %d (%s) was not sent", p.Line, p.Kind)
		}
	}
}

func TestFeedRefusesWhatItCannotPlan(t *testing.T) {
	lines := embeddedLines()[:10]
	for name, c := range map[string]struct {
		lines  []Line
		config FeedConfig
	}{
		"no lines":               {nil, FeedConfig{}},
		"share above 1":          {lines, FeedConfig{Duplicates: 1.01}},
		"share not a number":     {lines, FeedConfig{Duplicates: math.NaN()}},
		"more poison than lines": {lines, FeedConfig{Poison: 11}},
		"lines out of order":     {[]Line{lines[1], lines[0]}, FeedConfig{}},
		"part of a file":         {lines[1:], FeedConfig{}},
	} {
		if _, err := NewFeed(c.lines, c.config); problem.CodeOf(err) != problem.ConfigInvalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, all := messages(t, lines[:1], FeedConfig{}); len(all) != 3 {
		t.Errorf("a file of one line: %d messages, want the line, a poison, and the poison again", len(all))
	}
}
