package verify

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/record"
)

// MaxExamples bounds the findings that are kept for each code; all are counted.
const MaxExamples = 10

// maxReasons bounds the reasons that a check gives; what has another one is counted with them.
const maxReasons = 4

// Spot is a place in Kafka. Offset is -1 where the violation is that no record is there.
type Spot struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
}

// String renders topic/partition@offset.
func (s Spot) String() string {
	if s.Offset < 0 {
		return fmt.Sprintf("%s/%d", s.Topic, s.Partition)
	}
	return fmt.Sprintf("%s/%d@%d", s.Topic, s.Partition, s.Offset)
}

// Finding is one violation, with what is needed to look it up.
type Finding struct {
	Code  problem.Code `json:"code"`
	Check string       `json:"check"`
	Place string       `json:"place"` // topic/partition@offset, or task and store
	Text  string       `json:"text"`
	// Records are first the one that is wrong or missing, and then those that it is held against.
	Records []Spot `json:"records,omitempty"`
	Task    string `json:"task,omitempty"`
	Store   string `json:"store,omitempty"`
	// Key, Has and Wants are bytes, quoted as Go quotes them, cut with their length behind; "null" is a null. Has is what is
	// there, Wants what should be. Empty: there is none, or it is not known.
	Key   string `json:"key,omitempty"`
	Has   string `json:"has,omitempty"`
	Wants string `json:"wants,omitempty"`
	// Next says what to do.
	Next string `json:"next"`

	fetch bool // Key and Has are those of the first record, which is read for it
}

// Reason says how many were not judged, and why.
type Reason struct {
	Why   string `json:"why"`
	Count int64  `json:"count"`
}

// Check is a line of the report: what was looked at, how often, and how often it was wrong. Checked and Skipped together are
// all that were there.
type Check struct {
	Name    string `json:"name"`
	Checked int64  `json:"checked"`
	Found   int64  `json:"found"`
	// Skipped could not be judged. Reasons says why, and adds up to it.
	Skipped int64    `json:"skipped,omitempty"`
	Reasons []Reason `json:"reasons,omitempty"`
}

// otherReasons is the last of the reasons where there are too many.
const otherReasons = "other reasons"

// skip counts what could not be judged.
func (c *Check) skip(why string) {
	c.Skipped++
	for i := range c.Reasons {
		if r := &c.Reasons[i]; r.Why == why || r.Why == otherReasons {
			r.Count++
			return
		}
	}
	if len(c.Reasons) == maxReasons {
		why = otherReasons
	}
	c.Reasons = append(c.Reasons, Reason{Why: why, Count: 1})
}

// Why renders the reasons: "3: first; 4: second".
func (c *Check) Why() string {
	var parts []string
	for _, r := range c.Reasons {
		parts = append(parts, fmt.Sprintf("%d: %s", r.Count, r.Why))
	}
	return strings.Join(parts, "; ")
}

// Report is the result.
type Report struct {
	App string `json:"app"`
	// Since and Sample are what was left out on purpose.
	Since    string    `json:"since,omitempty"`
	Sample   string    `json:"sample,omitempty"`
	Checks   []*Check  `json:"checks"`
	Findings []Finding `json:"findings"`
	// Counts has every finding, by code.
	Counts map[problem.Code]int64 `json:"counts"`
}

// Clean reports that nothing was found.
func (r *Report) Clean() bool { return len(r.Counts) == 0 }

// Names of the checks, in their order.
const (
	CheckIDs       = "outputs: ids distinct"
	CheckCauses    = "outputs: cause in the input"
	CheckPositions = "tasks: positions and counters"
	CheckState     = "keys: changelog equals store"
	CheckTimers    = "timers and parked records"
	CheckMarkers   = "inputs: marker"
	CheckOrphans   = "markers: input"
	CheckTasks     = "tasks: run again"
	CheckRerun     = "outputs: equal when run again"
	CheckRerunKeys = "keys: equal when run again"
)

var checkNames = []string{CheckIDs, CheckCauses, CheckPositions, CheckState, CheckTimers, CheckMarkers, CheckOrphans}

// nextSteps says what to do about what a check found; otherwise it is the cure of the code.
var nextSteps = map[string]map[problem.Code]string{
	CheckIDs: {problem.FindingDoubled: "compare the causes in the headers of both records: on two partitions of an input it is one message id twice (key by id); " +
		"the same cause means that another program wrote a copy, or that exactly-once is broken: report it"},
	CheckCauses: {problem.FindingGhost: "find out who else writes to the topic; --shared accepts it"},
	CheckState: {problem.FindingState: "the changelog is the truth: with the application stopped, remove the state directory; the next start restores it. " +
		"Keep a copy of it and report it, unless somebody edited it"},
	CheckTimers: {problem.FindingState: "the changelogs themselves disagree, so a restore does not mend it: find out who else wrote to them, and report it with this output",
		problem.FindingMarker: "find out who else wrote to the changelog of the markers, and report it with this output"},
	CheckMarkers: {problem.FindingMarker: "a copy of this record would be processed again: find out whether the changelog of the markers was cut or written to by hand, and report it with this output"},
	CheckOrphans: {problem.FindingMarker: "a record with this id would be dropped as a duplicate: find out who else wrote to the changelog of the markers, and report it with this output"},
	CheckRerun: {problem.FindingLost: "if the handler is a function of record and state, send the missing record by hand, and report it; if it is not, nothing is wrong but the handler",
		problem.FindingGhost: "if the handler is a function of record and state, find out who else writes to the topic, and report it; if it is not, nothing is wrong but the handler"},
	CheckRerunKeys: {problem.FindingState: "if the handler is a function of record and state, report it with this output; if it is not, nothing is wrong but the handler"},
}

// evidence is what a finding says beside its text.
type evidence struct {
	place           string // default: that of the first record
	records         []Spot
	task, store     string
	key, has, wants string // as excerpt renders them
	fetch           bool   // see Finding
}

// at is the evidence of a record that is in Kafka, whose bytes are read for the report.
func at(records ...Spot) evidence { return evidence{records: records, fetch: true} }

func spotOf(p record.Position) Spot {
	return Spot{Topic: p.Topic, Partition: p.Partition, Offset: p.Offset}
}

// parseSpot reads topic/partition@offset.
func parseSpot(place string) Spot {
	topic, partition, offset, _ := parsePosition(place)
	return Spot{Topic: topic, Partition: partition, Offset: offset}
}

// check finds a line of the report; it is added when it is new.
func (r *run) check(name string) *Check {
	for _, c := range r.report.Checks {
		if c.Name == name {
			return c
		}
	}
	c := &Check{Name: name}
	r.report.Checks = append(r.report.Checks, c)
	return c
}

// found adds a violation to a check.
func (r *run) found(check string, code problem.Code, e evidence, format string, args ...any) {
	r.check(check).Found++
	if r.report.Counts[code]++; r.report.Counts[code] > MaxExamples {
		return
	}
	f := Finding{Code: code, Check: check, Place: e.place, Text: fmt.Sprintf(format, args...), Records: e.records, Task: e.task, Store: e.store,
		Key: e.key, Has: e.has, Wants: e.wants, Next: nextSteps[check][code], fetch: e.fetch}
	if f.Place == "" {
		f.Place = e.records[0].String()
	}
	if f.Next == "" {
		f.Next = problem.Lookup(code).Cure
	}
	r.report.Findings = append(r.report.Findings, f)
}

// skip counts what a check could not judge.
func (r *run) skip(check, why string) { r.check(check).skip(why) }

// fetchExamples reads the records of the examples: while the topics were read, only places and hashes were kept.
func (r *run) fetchExamples(ctx context.Context) error {
	for i := range r.report.Findings {
		f := &r.report.Findings[i]
		if !f.fetch {
			continue
		}
		s := f.Records[0]
		f.Has = "(removed since)"
		err := r.read(ctx, s.Topic, s.Partition, s.Offset, s.Offset+1, func(raw *record.Raw) error {
			f.Key, f.Has = excerpt(raw.Key), excerpt(raw.Value)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// excerptBytes bounds what is shown of a key or a value.
const excerptBytes = 128

// excerpt shows the beginning of some bytes.
func excerpt(b []byte) string { return excerptOf(b, int64(len(b)), b == nil) }

func excerptOf(b []byte, length int64, null bool) string {
	switch {
	case null:
		return "null"
	case length > excerptBytes:
		return fmt.Sprintf("%q... (%d bytes)", b[:excerptBytes], length)
	}
	return fmt.Sprintf("%q", b)
}

// excerpts shows two values where they differ: from a little before the first byte that they do not share.
func excerpts(a, b []byte) (string, string) {
	same := 0
	for same < min(len(a), len(b)) && a[same] == b[same] {
		same++
	}
	const before = 16
	from := same - before
	if from <= 0 || max(len(a), len(b)) <= excerptBytes {
		return excerpt(a), excerpt(b)
	}
	window := func(v []byte) string {
		end := min(len(v), from+excerptBytes)
		return fmt.Sprintf("(from byte %d) %q (%d bytes)", from, v[from:end], len(v))
	}
	return window(a), window(b)
}

// sortFindings puts the examples in the order of the checks.
func (r *Report) sortFindings() {
	order := map[string]int{}
	for i, c := range r.Checks {
		order[c.Name] = i
	}
	slices.SortStableFunc(r.Findings, func(a, b Finding) int { return order[a.Check] - order[b.Check] })
}
