package dedupstage

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/streamtest"
)

func stage(t *testing.T, id string, change func(*Config)) *streamtest.Driver {
	t.Helper()
	parsed, err := ParseID(id)
	if err != nil {
		t.Fatal(err)
	}
	c := Config{App: "stage", From: "from", To: "to", ID: parsed, Window: time.Hour}
	if change != nil {
		change(&c)
	}
	return streamtest.New(t, New(c), streamtest.Options{Partitions: 4})
}

func values(records []record.Raw) []string {
	var out []string
	for _, r := range records {
		out = append(out, string(r.Value))
	}
	slices.Sort(out)
	return out
}

func expect(t *testing.T, what string, got []record.Raw, want ...string) {
	t.Helper()
	if v := values(got); !slices.Equal(v, want) {
		t.Errorf("%s: %q, want %q", what, v, want)
	}
}

// codes are the reasons of the dead letters.
func codes(d *streamtest.Driver) []string {
	var out []string
	for _, r := range d.DeadLetters() {
		out = append(out, streamtest.Header(r, "__streams.errors.exception"))
	}
	slices.Sort(out)
	return out
}

func expectCodes(t *testing.T, d *streamtest.Driver, want ...problem.Code) {
	t.Helper()
	var text []string
	for _, c := range want {
		text = append(text, string(c))
	}
	if got := codes(d); !slices.Equal(got, text) {
		t.Errorf("dead letters %v, want %v", got, text)
	}
}

func TestEachMessageOnceByEachKindOfID(t *testing.T) {
	for id, messages := range map[string][]streamtest.Message{
		"header:message-id": {streamtest.Text("k", "a").With("message-id", "1"), streamtest.Text("k", "a").With("message-id", "1"), streamtest.Text("k", "b").With("message-id", "2")},
		"json:order.id":     {streamtest.Text("k", `{"order":{"id":1}}`), streamtest.Text("k", `{"order":{"id":1}}`), streamtest.Text("k", `{"order":{"id":2}}`)},
		"key":               {streamtest.Text("k", "a"), streamtest.Text("k", "a"), streamtest.Text("l", "b")},
		"hash":              {streamtest.Text("k", "a"), streamtest.Text("k", "a"), streamtest.Text("k", "b")},
	} {
		for _, scope := range []Scope{Partition, Topic} {
			t.Run(fmt.Sprint(id, scope), func(t *testing.T) {
				d := stage(t, id, func(c *Config) { c.Scope = scope })
				d.Pipe("from", messages...)
				d.Commit()
				if n := len(d.Output("to")); n != 2 {
					t.Errorf("%d outputs, want 2: %q", n, values(d.Output("to")))
				}
				expectCodes(t, d)
			})
		}
	}
}

func TestKeyValueTimestampAndHeadersPassUnchanged(t *testing.T) {
	at := time.UnixMilli(1_700_000_000_123)
	for name, scope := range map[string]Scope{"partition": Partition, "topic": Topic} {
		t.Run(name, func(t *testing.T) {
			d := stage(t, "header:id", func(c *Config) { c.Scope, c.AllowNullKeys = scope, true })
			long := bytes.Repeat([]byte{0, 0xff}, 1000)
			for i, m := range [][2][]byte{{[]byte("key"), long}, {{}, {}}, {nil, nil}, {[]byte("k"), nil}} {
				message := streamtest.Bytes(m[0], m[1]).With("id", fmt.Sprint(i)).With("trace", "t").With(headerKey, "theirs").At(at)
				before := len(d.Output("to"))
				d.Pipe("from", message)
				d.Commit()
				out := d.Output("to")[before:]
				if len(out) != 1 {
					t.Fatalf("message %d: %d outputs", i, len(out))
				}
				r := out[0]
				if !bytes.Equal(r.Key, m[0]) || (r.Key == nil) != (m[0] == nil) || !bytes.Equal(r.Value, m[1]) || (r.Value == nil) != (m[1] == nil) {
					t.Errorf("message %d: key %q value %q, want %q %q", i, r.Key, r.Value, m[0], m[1])
				}
				if !r.Timestamp.Equal(at) {
					t.Errorf("message %d: timestamp %v", i, r.Timestamp)
				}
				var own []string
				for _, h := range r.Headers {
					if !strings.HasPrefix(h.Key, record.HeaderPrefix) {
						own = append(own, h.Key+"="+string(h.Value))
					}
				}
				if want := []string{fmt.Sprintf("id=%d", i), "trace=t", headerKey + "=theirs"}; !slices.Equal(own, want) {
					t.Errorf("message %d: headers %v, want %v", i, own, want)
				}
			}
		})
	}
}

// Two messages without a key are two dead letters, even if only their ids differ.
func TestRecordsWithoutAKeyAreRefusedInPartitionScope(t *testing.T) {
	d := stage(t, "header:id", nil)
	d.Pipe("from", streamtest.Bytes(nil, []byte("v")).With("id", "1").On(0), streamtest.Bytes(nil, []byte("v")).With("id", "2").On(0),
		streamtest.Bytes(nil, []byte("v")).With("id", "2").On(0), streamtest.Text("k", "w").With("id", "3"))
	d.Commit()
	expect(t, "outputs", d.Output("to"), "w")
	expectCodes(t, d, problem.NullKeyRefused, problem.NullKeyRefused)
}

func TestRecordsWithoutAKeyPassInTopicScope(t *testing.T) {
	d := stage(t, "header:id", func(c *Config) { c.Scope = Topic })
	for partition := range int32(4) { // the copies lie in different partitions
		d.Pipe("from", streamtest.Bytes(nil, []byte("v")).With("id", "1").On(partition))
	}
	d.Commit()
	expect(t, "outputs", d.Output("to"), "v")
	expectCodes(t, d)
}

func TestUnusableIDsAreDeadLettersWithTheirReason(t *testing.T) {
	for name, scope := range map[string]Scope{"partition": Partition, "topic": Topic} {
		t.Run(name, func(t *testing.T) {
			d := stage(t, "json:id", func(c *Config) { c.Scope = scope })
			d.Pipe("from", streamtest.Text("k", `{"x":1}`), streamtest.Text("k", `{"id":`), streamtest.Text("k", `{"id":""}`),
				streamtest.Text("k", fmt.Sprintf(`{"id":%q}`, strings.Repeat("x", 10_000))), streamtest.Text("k", `{"id":7}`))
			d.Commit()
			expect(t, "outputs", d.Output("to"), `{"id":7}`)
			expectCodes(t, d, problem.IDMissing, problem.IDInvalid, problem.IDInvalid, problem.IDInvalid)
		})
	}
}

func TestConflictsAndDuplicatesByPolicy(t *testing.T) {
	messages := []streamtest.Message{streamtest.Text("k", "a").With("id", "1"), streamtest.Text("k", "a").With("id", "1"), streamtest.Text("k", "b").With("id", "1")}
	for name, c := range map[string]struct {
		change func(*Config)
		want   []problem.Code
	}{
		"default":                                 {nil, []problem.Code{problem.IDConflict}},
		"conflicts ignored":                       {func(c *Config) { c.IgnoreConflicts = true }, nil},
		"duplicates to dead letters":              {func(c *Config) { c.DeadLetterDuplicates = true }, []problem.Code{problem.IDConflict, problem.IDDuplicate}},
		"duplicates to dead letters, whole topic": {func(c *Config) { c.DeadLetterDuplicates, c.Scope = true, Topic }, []problem.Code{problem.IDConflict, problem.IDDuplicate}},
	} {
		t.Run(name, func(t *testing.T) {
			d := stage(t, "header:id", c.change)
			d.Pipe("from", messages...)
			d.Commit()
			expect(t, "outputs", d.Output("to"), "a")
			expectCodes(t, d, c.want...)
		})
	}
}

func TestParseIDRefusesWhatItDoesNotKnow(t *testing.T) {
	for _, text := range []string{"", "header", "header:", "json:", "json:a..b", "json:.a", "key:x", "hash:x", "column:a", "HEADER:x"} {
		if _, err := ParseID(text); err == nil || !strings.Contains(err.Error(), IDForms) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// Every foreign record in the repartition topic is a dead letter, not a panic.
func TestForeignRecordsInTheRepartitionTopic(t *testing.T) {
	d := stage(t, "header:id", func(c *Config) { c.Scope = Topic })
	d.Pipe("stage-by-id-repartition", streamtest.Text("1", "v"), streamtest.Text("2", "v").With(headerKey, ""))
	d.Commit()
	expect(t, "outputs", d.Output("to"))
	if got := len(codes(d)); got != 2 {
		t.Errorf("%d dead letters, want 2", got)
	}
}

// The same id with another key is a conflict, also where the key is replaced by the id before bodies are compared; null is a key of
// its own, and a header of the same name that a record came with is none.
func TestConflictByTheKeyAlone(t *testing.T) {
	for name, c := range map[string]struct {
		first, second streamtest.Message
		conflict      bool
	}{
		"another key":       {streamtest.Text("a", "x"), streamtest.Text("b", "x"), true},
		"null and empty":    {streamtest.Text("", "x"), streamtest.Bytes(nil, []byte("x")), true},
		"the same key":      {streamtest.Text("a", "x"), streamtest.Text("a", "x"), false},
		"a header in front": {streamtest.Text("a", "x").With(headerKey, "\x01b"), streamtest.Text("a", "x").With(headerKey, "\x01c"), false},
	} {
		for _, scope := range []Scope{Partition, Topic} {
			t.Run(fmt.Sprint(name, scope), func(t *testing.T) {
				d := stage(t, "header:id", func(c *Config) { c.Scope, c.AllowNullKeys = scope, true })
				d.Pipe("from", c.first.With("id", "1").On(1), c.second.With("id", "1").On(1))
				d.Commit()
				expect(t, "outputs", d.Output("to"), "x")
				if c.conflict {
					expectCodes(t, d, problem.IDConflict)
				} else {
					expectCodes(t, d)
				}
			})
		}
	}
}
