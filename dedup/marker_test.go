package dedup

import (
	"bytes"
	"encoding/hex"
	"math"
	"math/rand/v2"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/record"
)

const goldenFold = 0x0c1d2e3f

// readGolden reads lines of "name hex".
func readGolden(t testing.TB, file string) map[string][]byte {
	t.Helper()
	text, err := os.ReadFile("testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	golden := map[string][]byte{}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		name, digits, _ := strings.Cut(strings.TrimSpace(line), " ")
		if golden[name], err = hex.DecodeString(digits); err != nil {
			t.Fatalf("%s: %s: %v", file, name, err)
		}
	}
	return golden
}

func goldenOutputs() []Output {
	two := []Output{
		{Topic: "gifts", Partition: 2, TimestampMillis: 1_700_000_000_000, Value: []byte("v"),
			Headers: []record.Header{{Key: "trace", Value: []byte("t")}, {Key: "null"}}},
		{Partition: -1, TimestampMillis: -1, Key: []byte{}},
	}
	for i := range two[0].ID {
		two[0].ID[i] = byte(i)
	}
	return two
}

func goldenMarkers() map[string]Marker {
	body := [bodyBytes]byte{0, 1, 2, 3, 4, 5, 6, 7}
	markers := map[string]Marker{
		"plain":              {Outcome: Applied, Offset: 42},
		"offset-large":       {Outcome: Applied, Offset: 1<<62 + 5},
		"rejected-body":      {Outcome: Rejected, HasBody: true, Body: body, Offset: 300},
		"dead-letter-replay": {Outcome: DeadLettered, HasBody: true, Body: body, Replay: 200, Offset: 7},
		"skipped":            {Outcome: Skipped},
		"parked-forced":      {Outcome: Parked, Replay: 1<<32 - 1, Forced: true, Offset: 9},
		"issued":             {Outcome: Applied, HasIssue: true, IssueMillis: 1_700_000_000_123, Offset: 9},
		"issued-negative":    {Outcome: Applied, HasIssue: true, IssueMillis: -5, Offset: 9},
		"outputs-none":       {Outcome: Applied, Offset: 1, outputs: appendOutputs(nil, nil)},
		"outputs-two": {Outcome: Applied, HasBody: true, Body: body, Replay: 1, Forced: true, HasIssue: true, IssueMillis: 1, Offset: 1,
			outputs: appendOutputs(nil, goldenOutputs())},
	}
	for name, m := range markers {
		m.TopicFold = goldenFold
		markers[name] = m
	}
	return markers
}

func TestGoldenMarkers(t *testing.T) {
	golden, want := readGolden(t, "markers-v1.golden"), goldenMarkers()
	if len(golden) != len(want) {
		t.Fatalf("%d golden markers for %d cases", len(golden), len(want))
	}
	for name, m := range want {
		if got := appendMarker(nil, &m); !bytes.Equal(got, golden[name]) {
			t.Errorf("%s: encoded %x, golden %x", name, got, golden[name])
		}
		got, err := DecodeMarker(golden[name])
		if err != nil || !reflect.DeepEqual(got, m) {
			t.Errorf("%s: decoded %+v, %v; want %+v", name, got, err, m)
		}
	}
	two := want["outputs-two"]
	if got, err := two.Outputs(); err != nil || !reflect.DeepEqual(got, goldenOutputs()) {
		t.Errorf("outputs %+v, %v", got, err)
	}
	plain, none := want["plain"], want["outputs-none"]
	if got, err := plain.Outputs(); got != nil || err != nil || plain.Recorded() {
		t.Errorf("outputs of a marker without: %v, %v", got, err)
	}
	if got, err := none.Outputs(); len(got) != 0 || err != nil || !none.Recorded() {
		t.Errorf("an empty recording: %v, %v, %t", got, err, none.Recorded())
	}
}

func TestMarkerSizes(t *testing.T) {
	plain := Marker{Outcome: Applied, TopicFold: goldenFold, Offset: 100_000_000}
	if n := len(appendMarker(nil, &plain)); n != 10 {
		t.Errorf("a plain marker takes %d bytes, want 10", n)
	}
	plain.HasBody = true
	if n := len(appendMarker(nil, &plain)); n != 18 {
		t.Errorf("a marker with body hash takes %d bytes, want 18", n)
	}
}

func TestDamagedMarkersAreRefused(t *testing.T) {
	whole := readGolden(t, "markers-v1.golden")
	cases := map[string][]byte{
		"nothing":          {},
		"newer version":    append([]byte{MarkerVersion + 1}, whole["plain"][1:]...),
		"version 0":        append([]byte{0}, whole["plain"][1:]...),
		"no outcome":       append([]byte{1, 0}, whole["plain"][2:]...),
		"outcome 6":        append([]byte{1, 6}, whole["plain"][2:]...),
		"left over":        append(bytes.Clone(whole["plain"]), 0),
		"offset not short": append(bytes.Clone(whole["plain"][:6]), 0x80, 0x00),
		"offset beyond 64": append(bytes.Clone(whole["plain"][:6]), bytes.Repeat([]byte{0xff}, 11)...),
		"replay 0":         {1, 1 | flagReplay, 0, 0, 0, 0, 0, 5},
		"replay beyond 32": {1, 1 | flagReplay, 0, 0, 0, 0, 0x80, 0x80, 0x80, 0x80, 0x10, 5},
		"outputs left out": {1, 1 | flagOutputs, 0, 0, 0, 0, 5},
	}
	for name, b := range whole {
		for n := range b {
			if strings.HasPrefix(name, "outputs-") && n > 7 {
				break // a cut through the outputs is found when they are decoded
			}
			cases["cut "+name+" "+string(rune('a'+n))] = b[:n]
		}
	}
	for name, b := range cases {
		if m, err := DecodeMarker(b); problem.CodeOf(err) != problem.BadDurableBytes || !reflect.DeepEqual(m, Marker{}) {
			t.Errorf("%s: %x gives %+v, %v", name, b, m, err)
		}
	}
	two := goldenMarkers()["outputs-two"]
	for n := 1; n < len(two.outputs); n++ {
		cut := Marker{outputs: two.outputs[:n]}
		if _, err := cut.Outputs(); problem.CodeOf(err) != problem.BadDurableBytes {
			t.Errorf("outputs cut at %d: %v", n, err)
		}
	}
}

func TestDamagedMarkerIsAnErrorOfTheStore(t *testing.T) {
	k := newMiniTask(t, Config{})
	k.feed(confirm.raw())
	for key := range k.store.entries {
		k.store.entries[key] = []byte{77}
	}
	if _, err := k.guard.Check(confirm.again(1, 0).raw(), FromSource, k.time); problem.CodeOf(err) != problem.BadDurableBytes {
		t.Fatalf("error %v", err)
	}
}

func TestRecordedOutputsKeepTheirBytes(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	blob := func() []byte {
		if n := rnd.IntN(20); n > 0 {
			b := make([]byte, n-1)
			for i := range b {
				b[i] = byte(rnd.Uint32())
			}
			return b
		}
		return nil
	}
	for range 2000 {
		outputs := make([]Output, rnd.IntN(4))
		for i := range outputs {
			o := Output{Topic: string(blob()), Partition: int32(rnd.Uint32()), TimestampMillis: int64(rnd.Uint64()), Key: blob(), Value: blob()}
			o.ID[rnd.IntN(16)] = byte(rnd.Uint32())
			for range rnd.IntN(3) {
				o.Headers = append(o.Headers, record.Header{Key: string(blob()), Value: blob()})
			}
			outputs[i] = o
		}
		m := Marker{outputs: appendOutputs(nil, outputs)}
		got, err := m.Outputs()
		for i := range m.outputs { // the store uses the memory of a value again
			m.outputs[i] = ^m.outputs[i]
		}
		if err != nil || !reflect.DeepEqual(got, outputs) {
			t.Fatalf("%+v\ncame back as %+v, %v", outputs, got, err)
		}
	}
}

func FuzzDecodeMarker(f *testing.F) {
	for _, b := range readGolden(f, "markers-v1.golden") {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := DecodeMarker(b)
		if err != nil {
			return
		}
		if again := appendMarker(nil, &m); !bytes.Equal(again, b) {
			t.Fatalf("%x decodes to %+v, which encodes to %x", b, m, again)
		}
		outputs, err := m.Outputs()
		if err == nil && m.Recorded() && !bytes.Equal(appendOutputs(nil, outputs), m.outputs) {
			t.Fatalf("outputs %x decode to %+v", m.outputs, outputs)
		}
	})
}

func TestFoldTopicTellsTopicsApart(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	seen := map[uint32]bool{}
	for range 1000 {
		var id [16]byte
		for i := range id {
			id[i] = byte(rnd.Uint32())
		}
		seen[foldTopic(id)] = true
	}
	if len(seen) != 1000 {
		t.Fatalf("%d folds of 1000 topic ids", len(seen))
	}
	if foldTopic([16]byte{}) != 0 || foldTopic([16]byte{0: 1, 7: 2, 10: 3, 13: 4}) != 0x01040302 {
		t.Fatalf("fold %x", foldTopic([16]byte{0: 1, 7: 2, 10: 3, 13: 4}))
	}
}

func TestNegativeOffsetSurvives(t *testing.T) {
	for _, offset := range []int64{-1, math.MinInt64, math.MaxInt64} {
		m := Marker{Outcome: Applied, Offset: offset}
		if got, err := DecodeMarker(appendMarker(nil, &m)); err != nil || got.Offset != offset {
			t.Errorf("offset %d: %d, %v", offset, got.Offset, err)
		}
	}
}
