package dedup

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/record"
)

func TestIdentities(t *testing.T) {
	r := &record.Raw{Key: []byte("k"), Value: []byte(`{"order":{"id":"o-1"}}`), Headers: []record.Header{
		{Key: "id", Value: []byte("first")}, {Key: "id", Value: []byte("last")}, {Key: record.HeaderID, Value: []byte("out")}}}
	refused := errors.New("no")
	cases := []struct {
		identity Identity
		name     string
		id       string
		err      error
	}{
		{Header("id"), "header:id", "last", nil},
		{OutputID(), "header:oncemill-id", "out", nil},
		{Key(), "key", "k", nil},
		{JSONPath("order.id"), "json:order.id", "o-1", nil},
		{Func("mine", func(r *record.Raw) ([]byte, error) { return r.Key[:1], nil }), "func:mine", "k", nil},
		{Func("bad", func(*record.Raw) ([]byte, error) { return nil, refused }), "func:bad", "", refused},
	}
	for _, c := range cases {
		id, err := c.identity.Of(r)
		if c.identity.Name != c.name || string(id) != c.id || !errors.Is(err, c.err) {
			t.Errorf("%s: %q, %v; want %s: %q, %v", c.identity.Name, id, err, c.name, c.id, c.err)
		}
	}
}

func TestContentHashIsTheSameInsideAndOutsideTheGuard(t *testing.T) {
	r := message{key: "k", value: "v"}.raw()
	outside, err := ContentHash().Of(r)
	if err != nil || len(outside) < 16 {
		t.Fatalf("%x, %v", outside, err)
	}
	g := newTestGuard(t, Config{ID: ContentHash(), Window: testWindow}, newMemoryMarkers())
	d, err := g.Check(r, FromSource, testStart)
	if err != nil || !bytes.Equal(d.ID, outside) {
		t.Fatalf("%x, %v; want %x", d.ID, err, outside)
	}
}

func TestContentHashIdentifiesByKeyAndValueAlone(t *testing.T) {
	k := newMiniTask(t, Config{ID: ContentHash()})
	k.want(k.feed(message{key: "k", value: "v"}.raw()), New, Run)
	k.want(k.feed(message{key: "k", value: "v", id: "another header", offset: 1}.raw()), Duplicate, Drop)
	k.want(k.feed(message{key: "kv", offset: 2}.raw()), New, Run)
	k.want(k.feed(message{key: "k", value: "w", offset: 3}.raw()), New, Run)
	for _, v := range k.store.entries {
		if m, err := DecodeMarker(v); err != nil || m.HasBody {
			t.Fatalf("%+v, %v: a content hash needs no body hash beside it", m, err)
		}
	}
}

func TestIgnoreConflictsSavesTheBodyHash(t *testing.T) {
	for _, ignore := range []bool{false, true} {
		k := newMiniTask(t, Config{IgnoreConflicts: ignore})
		k.feed(confirm.raw())
		for _, v := range k.store.entries {
			if m, err := DecodeMarker(v); err != nil || m.HasBody == ignore {
				t.Fatalf("IgnoreConflicts %t: %+v, %v", ignore, m, err)
			}
		}
	}
}

func TestJSONPath(t *testing.T) {
	const doc = ` { "a" : "1" , "n":42, "f":-1.50e3, "o":{"id":"x\"y","deep":{"id":"d"}}, "list":[{"id":"l0"},["in"],"s"],
		"null":null, "yes":true, "é":"ü", "esc\u0061ped":"\u00fc", "twice":1, "empty":"", "twice":{"id":"2"}, "":"nameless", "{}":"odd" } `
	cases := map[string]string{
		"a": "1", "n": "42", "f": "-1.50e3", "o.id": `x"y`, "o.deep.id": "d", "list.0.id": "l0", "list.1.0": "in", "list.2": "s",
		"é": "ü", "escaped": "ü", "twice.id": "2", "": "nameless", "{}": "odd",
	}
	for path, want := range cases {
		if id, err := jsonAt([]byte(doc), strings.Split(path, ".")); string(id) != want || err != nil {
			t.Errorf("%q: %q, %v; want %q", path, id, err, want)
		}
	}
	for _, path := range []string{"b", "null", "a.b", "n.0", "list.3", "list.-1", "list.x", "o.deep.nope", "A"} {
		if id, err := jsonAt([]byte(doc), strings.Split(path, ".")); id != nil || err != nil {
			t.Errorf("%q: %q, %v; want none", path, id, err)
		}
	}
	for _, path := range []string{"o", "list", "yes", "twice"} {
		if id, err := jsonAt([]byte(doc), strings.Split(path, ".")); id != nil || err == nil {
			t.Errorf("%q: %q, %v; want an error", path, id, err)
		}
	}
	if id, err := jsonAt([]byte(doc), []string{"empty"}); id == nil || len(id) != 0 || err != nil {
		t.Errorf("empty string: %q, %v; want an empty id, which is not none", id, err)
	}
	for _, broken := range []string{"", "{", `{"a":}`, `{"a":1}x`, "\xff"} {
		if _, err := jsonAt([]byte(broken), []string{"a"}); !errors.Is(err, errNotJSON) {
			t.Errorf("%q: %v", broken, err)
		}
	}
	if id, err := jsonAt(nil, []string{"a"}); id != nil || err != nil {
		t.Errorf("null value: %q, %v", id, err)
	}
}

// judgeJSON is the obvious implementation: decode everything, then walk.
func judgeJSON(doc []byte, steps []string) (id []byte, ok bool) {
	var v any
	d := json.NewDecoder(bytes.NewReader(doc))
	d.UseNumber()
	if !json.Valid(doc) || d.Decode(&v) != nil {
		return nil, false
	}
	for _, step := range steps {
		switch x := v.(type) {
		case map[string]any:
			v = x[step]
		case []any:
			i, err := strconv.Atoi(step)
			if err != nil || i < 0 || i >= len(x) {
				return nil, true
			}
			v = x[i]
		default:
			return nil, true
		}
	}
	switch x := v.(type) {
	case string:
		return []byte(x), true
	case json.Number:
		return []byte(x), true
	}
	return nil, v == nil
}

func FuzzJSONPath(f *testing.F) {
	for _, doc := range []string{`{"a":{"b":"x"}}`, `[[1],{"a":2}]`, `{"a":1,"a":{"b":null}}`, `{"\u0061":"\ud800"}`, "{\"a\":\"\xff\"}", `"a"`, `{"a":[{},{"b":[1,2]}]}`} {
		for _, path := range []string{"a.b", "0.0", "a.1.b.0", "a"} {
			f.Add([]byte(doc), path)
		}
	}
	f.Fuzz(func(t *testing.T, doc []byte, path string) {
		steps := strings.Split(path, ".")
		got, err := jsonAt(doc, steps)
		want, ok := judgeJSON(doc, steps)
		if doc == nil {
			want, ok = nil, true
		}
		if ok != (err == nil) || !bytes.Equal(got, want) || (got == nil) != (want == nil) {
			t.Fatalf("%q at %q: %q, %v; want %q, %t", doc, path, got, err, want, ok)
		}
	})
}

func TestIssueTimes(t *testing.T) {
	const ms = int64(1_645_557_742_000) // the example of RFC 9562, appendix A.6
	v7 := []byte{0x01, 0x7f, 0x22, 0xe2, 0x79, 0xb0, 0x7c, 0xc3, 0x98, 0xc4, 0xdc, 0x0c, 0x0c, 0x07, 0x39, 0x8f}
	good := []struct {
		issue IssueTime
		id    string
		want  int64
	}{
		{UUIDv7(), "017F22E2-79B0-7CC3-98C4-DC0C0C07398F", ms},
		{UUIDv7(), "017f22e2-79b0-7cc3-98c4-dc0c0c07398f", ms},
		{UUIDv7(), string(v7), ms},
		{ULID(), "01ARZ3NDEKTSV4RRFFQ69G5FAV", 1_469_922_850_259}, // the example of the ULID specification
		{ULID(), "01arz3ndektsv4rrffq69g5fav", 1_469_922_850_259},
		{ULID(), "7ZZZZZZZZZZZZZZZZZZZZZZZZZ", 1<<48 - 1},
		{ULID(), string(v7), ms},
	}
	for _, c := range good {
		if got, err := c.issue.read(nil, []byte(c.id)); err != nil || got != c.want {
			t.Errorf("%s %q: %d, %v; want %d", c.issue.Name(), c.id, got, err, c.want)
		}
	}
	bad := []struct {
		issue IssueTime
		id    string
	}{
		{UUIDv7(), "017F22E2-79B0-4CC3-98C4-DC0C0C07398F"}, // version 4
		{UUIDv7(), "017F22E2-79B0-7CC3-18C4-DC0C0C07398F"}, // another variant
		{UUIDv7(), "017F22E279B0-7CC3-98C4-DC0C0C07398F0"},
		{UUIDv7(), "017F22E2-79B0-7CC3-98C4-DC0C0C07398G"},
		{UUIDv7(), "017F22E2-79B0-7CC3-98C4-DC0C0C07398"},
		{UUIDv7(), ""},
		{ULID(), "81ARZ3NDEKTSV4RRFFQ69G5FAV"}, // more than 128 bits
		{ULID(), "01ARZ3NDEKTSV4RRFFQ69G5FAU"}, // no U in Crockford's base 32
		{ULID(), "01ARZ3NDEKTSV4RRFFQ69G5FA"},
	}
	for _, c := range bad {
		if got, err := c.issue.read(nil, []byte(c.id)); err == nil {
			t.Errorf("%s %q: %d, want an error", c.issue.Name(), c.id, got)
		}
	}
	if none := (IssueTime{}).Name(); none != "none" || UUIDv7().Name() != "uuidv7" || ULID().Name() != "ulid" || IssueHeader("x").Name() != "header:x" {
		t.Error("the names are part of the fingerprint and must not change")
	}
}

func TestIssueHeader(t *testing.T) {
	good := map[string]int64{
		"1700000000123": 1_700_000_000_123, "-5": -5, "0": 0, "9223372036854775807": limitTime, "-9223372036854775808": -limitTime,
		"2023-11-14T22:13:20Z": 1_700_000_000_000, "2023-11-14T23:13:20.123+01:00": 1_700_000_000_123,
	}
	read := func(value []byte) (int64, error) {
		return IssueHeader("issued").read(&record.Raw{Headers: []record.Header{{Key: "issued", Value: value}}}, nil)
	}
	for text, want := range good {
		if got, err := read([]byte(text)); err != nil || got != want {
			t.Errorf("%q: %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "now", "2023-11-14", "1e3", strings.Repeat("9", 100)} {
		if got, err := read([]byte(text)); err == nil {
			t.Errorf("%q: %d, want an error", text, got)
		}
	}
	if _, err := read(nil); err == nil {
		t.Error("a null header is no issue time")
	}
}

func FuzzIssueTimes(f *testing.F) {
	f.Add([]byte("017F22E2-79B0-7CC3-98C4-DC0C0C07398F"))
	f.Add([]byte("01ARZ3NDEKTSV4RRFFQ69G5FAV"))
	f.Add([]byte("2023-11-14T22:13:20Z"))
	f.Fuzz(func(t *testing.T, id []byte) {
		for _, issue := range []IssueTime{UUIDv7(), ULID(), IssueHeader("h")} {
			ms, err := issue.read(&record.Raw{Headers: []record.Header{{Key: "h", Value: id}}}, id)
			if err == nil && (ms > limitTime || ms < -limitTime) {
				t.Fatalf("%s %q: %d", issue.Name(), id, ms)
			}
		}
	})
}

func TestValidateNamesEveryMistake(t *testing.T) {
	err := Config{Window: -1, OnDuplicate: 7, OnMissing: 7, MaxIDBytes: -1, MaxRecordedBytes: -1, FutureSkew: -1}.Validate()
	for _, field := range []string{"ID", "Window", "OnDuplicate", "OnMissing", "MaxIDBytes", "MaxRecordedBytes", "FutureSkew"} {
		if !strings.Contains(err.Error(), "dedup.Config."+field+":") {
			t.Errorf("%s is not in:\n%v", field, err)
		}
	}
	list, _ := err.(interface{ Unwrap() []error })
	for _, e := range list.Unwrap() {
		var p *problem.Error
		if !errors.As(e, &p) || p.Code != problem.ConfigInvalid || p.Cure == "" {
			t.Errorf("%v: want a problem with a cure of its own", e)
		}
	}
	good := Config{ID: Key(), Window: testWindow}
	wrong := []struct {
		field  string
		change func(c *Config)
	}{
		{"ID", func(c *Config) { c.ID = Identity{} }},
		{"ID", func(c *Config) { c.ID = Header("") }},
		{"ID", func(c *Config) { c.ID = JSONPath("") }},
		{"ID", func(c *Config) { c.ID = Func("", c.ID.Of) }},
		{"ID", func(c *Config) { c.ID = Func("f", nil) }},
		{"ID", func(c *Config) { c.ID.Name = "" }},
		{"Window", func(c *Config) { c.Window = 0 }},
		{"FutureSkew", func(c *Config) { c.FutureSkew = testWindow/2 + 1 }},
		{"IssueTime", func(c *Config) { c.ID, c.IssueTime = ContentHash(), UUIDv7() }},
		{"IssueTime", func(c *Config) { c.IssueTime = IssueHeader("") }},
	}
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for _, w := range wrong {
		c := good
		w.change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "dedup.Config."+w.field+":") {
			t.Errorf("%s: %v", w.field, err)
		}
		if g, err := NewGuard(c, "shop", "commands", newMemoryMarkers()); g != nil || err == nil {
			t.Errorf("%s: NewGuard accepts %+v", w.field, c)
		}
	}
}

func TestFingerprintChangesWithWhatMarkersDependOn(t *testing.T) {
	base := Config{ID: Key(), Window: testWindow}
	const want = `dedup id=key scope="commands" kind=false bucket=500ms live=3`
	if got := base.Fingerprint("commands"); got != want {
		t.Fatalf("%s, want %s", got, want)
	}
	changes := map[string]func(c *Config){
		"window": func(c *Config) { c.Window *= 2 },
		"id":     func(c *Config) { c.ID = Header("id") },
		"scope":  func(c *Config) { c.Scope = "other" },
		"kind":   func(c *Config) { c.Kind = func(*record.Raw) string { return "" } },
		"issue":  func(c *Config) { c.IssueTime = ULID() },
	}
	for name, change := range changes {
		c := base
		change(&c)
		if c.Fingerprint("commands") == want {
			t.Errorf("%s: the fingerprint is the same", name)
		}
	}
	same := base
	same.Scope, same.OnDuplicate, same.IgnoreConflicts, same.MaxIDBytes = "commands", ReplayOutputs, true, 9
	if got := same.Fingerprint("commands"); got != want {
		t.Errorf("policies are in the fingerprint: %s", got)
	}
}

func TestNames(t *testing.T) {
	for got, want := range map[string]string{
		New.String(): "new", Redelivery.String(): "redelivery", Duplicate.String(): "duplicate", Conflict.String(): "conflict",
		TooOld.String(): "too_old", InFlight.String(): "in_flight", Missing.String(): "missing", Invalid.String(): "invalid",
		Verdict(99).String(): "unknown", Run.String(): "run", Halt.String(): "halt", Applied.String(): "applied", Parked.String(): "parked",
		DropDuplicate.String(): "drop", DeadLetterDuplicate.String(): "dead-letter", Policy(9).String(): "unknown(9)", StopOnMissing.String(): "stop",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
