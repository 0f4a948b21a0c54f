package retail

import (
	"encoding/json"
	"fmt"
	"slices"
)

// Anomaly is what can be wrong with one result.
type Anomaly string

// The anomalies. One result can have two: a copy too many, and none of the copies right.
const (
	Lost    Anomaly = "lost"    // it must be there and is not
	Doubled Anomaly = "doubled" // it is there more than once
	Ghost   Anomaly = "ghost"   // it is there and nothing in the file calls for it
	Wrong   Anomaly = "wrong"   // it is there with another content
)

// ExamplesPerAnomaly bounds the findings of a Check for each anomaly. The counts are complete.
const ExamplesPerAnomaly = 3

// Finding is an example of an anomaly. Want and Got are JSON or text, and empty where there is nothing to show.
type Finding struct {
	Anomaly Anomaly `json:"anomaly"`
	Subject string  `json:"subject"`
	Want    string  `json:"want,omitempty"`
	Got     string  `json:"got,omitempty"`
}

// Check is the comparison of one topic or one store.
type Check struct {
	Name string `json:"name"`
	// Expected is the number of results that must be there, Found the number that are.
	Expected int `json:"expected"`
	Found    int `json:"found"`
	// Doubled counts the copies beyond the first.
	Lost     int       `json:"lost"`
	Doubled  int       `json:"doubled"`
	Ghost    int       `json:"ghost"`
	Wrong    int       `json:"wrong"`
	Findings []Finding `json:"findings,omitempty"`
}

// OK reports that nothing is lost, doubled, ghost or wrong.
func (c Check) OK() bool { return c.Lost == 0 && c.Doubled == 0 && c.Ghost == 0 && c.Wrong == 0 }

// Verdict is the comparison of all topics and stores, topics first.
type Verdict struct {
	Checks []Check `json:"checks"`
}

// OK reports that every check is.
func (v Verdict) OK() bool { return v.Total().OK() }

// Total returns the sums over the checks, without findings.
func (v Verdict) Total() Check {
	total := Check{Name: "total"}
	for _, c := range v.Checks {
		total.Expected += c.Expected
		total.Found += c.Found
		total.Lost += c.Lost
		total.Doubled += c.Doubled
		total.Ghost += c.Ghost
		total.Wrong += c.Wrong
	}
	return total
}

// tally compares results that must each be there exactly once. K tells them apart, V is their content.
type tally[K, V comparable] struct {
	name, noun string
	entries    []entry[K, V] // in the order of the file, for the findings
	index      map[K]int
	found      int
	ghosts     int
	// examples holds at most ExamplesPerAnomaly ghosts, in the order of their arrival.
	examples []Finding
}

type entry[K, V comparable] struct {
	key       K
	want, got V // got is the last copy that was not right
	copies    int
	right     bool // one of the copies was what it must be
	// fault is a fault that the content alone does not show, or empty.
	fault string
}

func newTally[K, V comparable](name, noun string, size int) *tally[K, V] {
	return &tally[K, V]{
		name: name, noun: noun,
		entries: make([]entry[K, V], 0, size), index: make(map[K]int, size),
	}
}

func (t *tally[K, V]) expect(key K, want V) {
	t.index[key] = len(t.entries)
	t.entries = append(t.entries, entry[K, V]{key: key, want: want})
}

// saw notes a result. It returns the entry that it belongs to, or nil for a ghost.
func (t *tally[K, V]) saw(key K, got V) *entry[K, V] {
	at, expected := t.index[key]
	if !expected {
		t.ghost(t.subject(key), show(got))
		return nil
	}
	t.found++
	e := &t.entries[at]
	e.copies++
	if got == e.want {
		e.right = true
	} else {
		e.got = got
	}
	return e
}

func (t *tally[K, V]) ghost(subject, got string) {
	t.found++
	t.ghosts++
	if t.ghosts <= ExamplesPerAnomaly {
		t.examples = append(t.examples, Finding{Anomaly: Ghost, Subject: subject, Got: got})
	}
}

func (t *tally[K, V]) subject(key K) string { return fmt.Sprintf("%s %v", t.noun, key) }

// check sums up. The findings are grouped by anomaly.
func (t *tally[K, V]) check() Check {
	c := Check{Name: t.name, Expected: len(t.entries), Found: t.found, Ghost: t.ghosts}
	var lost, doubled, wrong []Finding
	for i := range t.entries {
		e := &t.entries[i]
		if e.copies == 0 {
			c.Lost++
			if len(lost) < ExamplesPerAnomaly {
				lost = append(lost, Finding{Lost, t.subject(e.key), show(e.want), ""})
			}
			continue
		}
		if e.copies > 1 {
			c.Doubled += e.copies - 1
			if len(doubled) < ExamplesPerAnomaly {
				doubled = append(doubled, Finding{Doubled, t.subject(e.key), "1 copy", fmt.Sprintf("%d copies", e.copies)})
			}
		}
		if e.right && e.fault == "" {
			continue
		}
		c.Wrong++
		if len(wrong) < ExamplesPerAnomaly {
			wrong = append(wrong, e.wrong(t.subject(e.key)))
		}
	}
	c.Findings = slices.Concat(lost, doubled, t.examples, wrong)
	return c
}

func (e *entry[K, V]) wrong(subject string) Finding {
	if !e.right {
		return Finding{Wrong, subject, show(e.want), show(e.got)}
	}
	return Finding{Wrong, subject, "", e.fault}
}

// show renders a content for a person: JSON, or text where the type has one.
func show(content any) string {
	if text, ok := content.(fmt.Stringer); ok {
		return text.String()
	}
	encoded, err := json.Marshal(content)
	if err != nil {
		return fmt.Sprintf("%+v", content)
	}
	return string(encoded)
}
