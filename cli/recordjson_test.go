package cli

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// What consume writes, produce reads: every byte.
func FuzzRecordsGoThroughJSON(f *testing.F) {
	f.Add([]byte("order-1"), []byte(`{"a":"<b>"}`), true, false)
	f.Add([]byte{0, 0xff}, []byte("two\nlines"), false, true)
	f.Add([]byte(""), []byte("\u2028\u0000 \ufffd"), false, false)
	f.Fuzz(func(t *testing.T, key, value []byte, noKey, noValue bool) {
		in := &kgo.Record{Topic: "t", Key: key, Value: value, Timestamp: time.UnixMilli(1_700_000_000_123), Headers: []kgo.RecordHeader{
			{Key: "h", Value: value}, {Key: "h", Value: key}, {Key: "null"}}}
		if noKey {
			in.Key = nil
		}
		if noValue {
			in.Value = nil
		}
		line, err := marshalPlain(envelope{recordKind, recordVersion, toJSON(in)})
		if err != nil || bytes.ContainsRune(line, '\n') {
			t.Fatalf("%q, %v", line, err)
		}
		out, err := fromJSON(line)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		same := func(a, b []byte) bool { return bytes.Equal(a, b) && (a == nil) == (b == nil) }
		if !same(in.Key, out.Key) || !same(in.Value, out.Value) || !in.Timestamp.Equal(out.Timestamp) || len(out.Headers) != 3 {
			t.Fatalf("%s: %+v", line, out)
		}
		for i, h := range in.Headers {
			if out.Headers[i].Key != h.Key || !same(out.Headers[i].Value, h.Value) {
				t.Fatalf("%s: header %d is %+v", line, i, out.Headers[i])
			}
		}
	})
}

func TestJSONThatIsNoRecordIsRefused(t *testing.T) {
	for _, line := range []string{
		"", "x", "[]", `{"kind":"topics","version":1,"data":{}}`, `{"kind":"record","version":2,"data":{}}`, `{"vlaue":"a"}`,
		`{"value":1}`, `{"value":{"base64":"*"}}`, `{"value":{"hex":"00"}}`, `{"value":{}}`, `{"headers":[{"key":"a"}]}`,
	} {
		if r, err := fromJSON([]byte(line)); err == nil {
			t.Errorf("%s is taken for %+v", line, r)
		}
	}
}

func TestWhatATerminalWouldSufferFromIsQuoted(t *testing.T) {
	for in, want := range map[string]string{
		"": "", "a b": "a b", `{"ä":1}`: `{"ä":1}`, "a\tb": `"a\tb"`, "\x1b[2J": `"\x1b[2J"`, "\xff": `"\xff"`, "\u202e": `"\u202e"`,
	} {
		if got := shown([]byte(in)); got != want {
			t.Errorf("%q is shown as %s, want %s", in, got, want)
		}
	}
	if got := shown(nil); got != "null" {
		t.Errorf("nil is shown as %s", got)
	}
	if b, err := json.Marshal(blob(nil)); string(b) != "null" || err != nil {
		t.Errorf("%s, %v", b, err)
	}
}
