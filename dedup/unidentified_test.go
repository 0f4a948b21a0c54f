package dedup

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/record"
)

func TestS12RecordWithoutUsableIDIsNeverProcessed(t *testing.T) {
	panics := Func("broken", func(*record.Raw) ([]byte, error) { panic("no such field") })
	cases := map[string]struct {
		config  Config
		m       message
		headers []record.Header
		verdict Verdict
		code    problem.Code
	}{
		"no header":         {Config{}, message{value: "v"}, nil, Missing, problem.IDMissing},
		"null header":       {Config{}, message{value: "v"}, []record.Header{{Key: "id"}}, Missing, problem.IDMissing},
		"empty id":          {Config{}, message{value: "v"}, []record.Header{{Key: "id", Value: []byte{}}}, Invalid, problem.IDInvalid},
		"id of 10 kB":       {Config{}, message{id: strings.Repeat("x", 10_000)}, nil, Invalid, problem.IDInvalid},
		"just too long":     {Config{MaxIDBytes: 3}, message{id: "abcd"}, nil, Invalid, problem.IDInvalid},
		"no field":          {Config{ID: JSONPath("id")}, message{value: `{"x":1}`}, nil, Missing, problem.IDMissing},
		"broken JSON":       {Config{ID: JSONPath("id")}, message{value: `{"id":`}, nil, Invalid, problem.IDInvalid},
		"not a UUIDv7":      {Config{IssueTime: UUIDv7()}, message{id: "p1"}, nil, Invalid, problem.IDInvalid},
		"no issue header":   {Config{IssueTime: IssueHeader("issued")}, message{id: "p1"}, nil, Invalid, problem.IDInvalid},
		"identity panics":   {Config{ID: panics}, message{id: "p1"}, nil, Invalid, problem.IDInvalid},
		"kind panics":       {Config{Kind: func(*record.Raw) string { panic("kind") }}, message{id: "p1"}, nil, Invalid, problem.IDInvalid},
		"issued tomorrow":   {Config{IssueTime: IssueHeader("issued")}, message{id: "p1"}, issuedAt(24 * time.Hour), Invalid, problem.IDInvalid},
		"issued in 300,000": {Config{IssueTime: IssueHeader("issued")}, message{id: "p1"}, []record.Header{{Key: "issued", Value: []byte("9223372036854775807")}}, Invalid, problem.IDInvalid},
	}
	for name, c := range cases {
		c.m.headers = c.headers
		k := newMiniTask(t, c.config)
		d := k.feed(c.m.raw())
		if d.Verdict != c.verdict || d.Action != Quarantine || d.Reason == nil || d.Reason.Code != c.code {
			t.Errorf("%s: %s, %s, reason %v; want %s, quarantine, %s", name, d.Verdict, d.Action, d.Reason, c.verdict, c.code)
		}
		if r := c.m.raw(); k.guard.Cause(&d, r) != CauseOfPosition("shop", "commands", r.TopicID, 3, 0) {
			t.Errorf("%s: its outputs are not those of its position", name)
		}
		k.feed(c.m.again(5, 3).raw())
		k.counts(0, 1) // its duplicate adds no second dead letter
		if d := k.feed(c.m.raw()); d.Verdict != Redelivery {
			t.Errorf("%s: the record itself once more: %s, want redelivery", name, d.Verdict)
		}
	}
}

func issuedAt(after time.Duration) []record.Header {
	return []record.Header{{Key: "issued", Value: fmt.Append(nil, testStart+after.Milliseconds())}}
}

func TestS12MissingIDCanStopTheTask(t *testing.T) {
	k := newMiniTask(t, Config{OnMissing: StopOnMissing})
	d := k.feed(message{value: "v"}.raw())
	k.want(d, Missing, Halt)
	if d.Reason == nil || d.Reason.Code != problem.IDMissing {
		t.Fatalf("reason %v", d.Reason)
	}
	if len(k.store.entries) != 0 {
		t.Fatal("a marker was left by a halt")
	}
}

func TestIDAtTheLimitIsAccepted(t *testing.T) {
	k := newMiniTask(t, Config{})
	long := message{id: strings.Repeat("x", DefaultMaxIDBytes)}
	k.want(k.feed(long.raw()), New, Run)
	k.want(k.feed(long.again(1, 1).raw()), Duplicate, Drop)
}
