//go:build kafka

package kafkatest

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"flag"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/oncemill/oncemill/kafkatest/kafkaproc"
	"github.com/oncemill/oncemill/serde"
)

var update = flag.Bool("update", false, "rewrite the golden files of package serde")

const goldenDirectory = "../serde/testdata/java"

// format is one format of package serde between its values as text, as Java prints them, and its bytes.
type format struct {
	encode func(text *string) ([]byte, error) // nil bytes for null
	decode func(b []byte) (*string, error)
}

// formats has every format that Formats.java has.
func formats() map[string]format {
	type document struct {
		Text string `json:"text"`
	}
	fromInt := func(v int64) string { return strconv.FormatInt(v, 10) }
	return map[string]format{
		"string": over(serde.String(), func(s string) (string, error) { return s, nil }, func(v string) string { return v }),
		"bytes":  over(serde.Bytes(), hex.DecodeString, hex.EncodeToString),
		"int32": over(serde.Int32(), func(s string) (int32, error) {
			v, err := strconv.ParseInt(s, 10, 32)
			return int32(v), err
		}, func(v int32) string { return fromInt(int64(v)) }),
		"int64":   over(serde.Int64(), func(s string) (int64, error) { return strconv.ParseInt(s, 10, 64) }, fromInt),
		"float64": over(serde.Float64(), parseFloat, formatFloat),
		"bool":    over(serde.Bool(), strconv.ParseBool, strconv.FormatBool),
		"uuid":    over(serde.UUID(), uuid.Parse, uuid.UUID.String),
		"json": over(serde.JSON[document](), func(s string) (document, error) { return document{s}, nil },
			func(v document) string { return v.Text }),
		"protobuf": over(serde.Protobuf[*wrapperspb.StringValue](),
			func(s string) (*wrapperspb.StringValue, error) { return wrapperspb.String(s), nil },
			(*wrapperspb.StringValue).GetValue),
	}
}

func over[T any](inner serde.Serde[T], parse func(string) (T, error), text func(T) string) format {
	s := serde.Nullable(inner)
	return format{
		encode: func(t *string) ([]byte, error) {
			if t == nil {
				return nil, nil
			}
			v, err := parse(*t)
			if err != nil {
				return nil, err
			}
			return s.Encode([]byte{}, &v)
		},
		decode: func(b []byte) (*string, error) {
			v, err := s.Decode(b)
			if err != nil || serde.IsNull(s, v) {
				return nil, err
			}
			t := text(*v)
			return &t, nil
		},
	}
}

// parseFloat reads what Java's Double.toString prints; formatFloat prints the bits, because the two languages choose
// different decimals for some values.
func parseFloat(s string) (float64, error) { return strconv.ParseFloat(s, 64) }

func formatFloat(v float64) string { return strconv.FormatUint(math.Float64bits(v), 16) }

// normal makes texts of one value equal.
func normal(t *testing.T, name string, text *string) string {
	t.Helper()
	if text == nil {
		return "null"
	}
	if name != "float64" {
		return strconv.Quote(*text)
	}
	v, err := parseFloat(*text)
	if err != nil {
		t.Fatal(err)
	}
	if math.IsNaN(v) {
		return "NaN"
	}
	return formatFloat(v)
}

// goldenTexts are the values of a golden file. Those of protobuf are of several message types; two strings stand for
// them.
func goldenTexts(t *testing.T, name string) []*string {
	t.Helper()
	if name == "protobuf" {
		empty, text := "", "Grüße 🚀"
		return []*string{&empty, &text}
	}
	f, err := os.Open(filepath.Join(goldenDirectory, name+".jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var texts []*string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "#") {
			continue
		}
		var line struct {
			Value *string `json:"value"`
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			t.Fatal(err)
		}
		texts = append(texts, line.Value)
	}
	return texts
}

// TestGoldenFilesAreWhatJavaWrites writes them again and compares; with -update it replaces them.
func TestGoldenFilesAreWhatJavaWrites(t *testing.T) {
	dir := t.TempDir()
	if *update {
		dir = goldenDirectory
	}
	if err := kafkaproc.RunJava(testContext(t), "oncemill.Golden", []string{dir}, func(struct{}) error { return nil }); err != nil {
		t.Fatal(err)
	}
	written, committed := fileNames(t, dir), fileNames(t, goldenDirectory)
	if !slices.Equal(written, committed) || len(written) != len(formats()) {
		t.Fatalf("Java wrote %q, committed are %q", written, committed)
	}
	for _, name := range written {
		got, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile(filepath.Join(goldenDirectory, name))
		if err != nil || string(got) != string(want) {
			t.Errorf("%s differs (%v); Java wrote:\n%s", name, err, got)
		}
	}
}

func fileNames(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// TestJavaReadsWhatGoProduces sends each value as key and as value to typed Java consumers.
func TestJavaReadsWhatGoProduces(t *testing.T) {
	client := newClient(t, shared)
	want := make(map[string][]string)
	for name, f := range formats() {
		topic := newTopic(t, client, 1, "-"+name)
		for _, text := range goldenTexts(t, name) {
			b, err := f.encode(text)
			if err != nil {
				t.Fatal(err)
			}
			if err := client.ProduceSync(testContext(t), &kgo.Record{Topic: topic, Key: b, Value: b}).FirstErr(); err != nil {
				t.Fatal(err)
			}
			want[name] = append(want[name], normal(t, name, text))
		}
	}
	keys, values := make(map[string][]string), make(map[string][]string)
	type line struct {
		Format     string
		Key, Value *string
	}
	err := kafkaproc.RunJava(testContext(t), "oncemill.Typed", []string{shared.Bootstrap(), "print", t.Name()}, func(l line) error {
		keys[l.Format] = append(keys[l.Format], normal(t, l.Format, l.Key))
		values[l.Format] = append(values[l.Format], normal(t, l.Format, l.Value))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name := range formats() {
		if !slices.Equal(keys[name], want[name]) || !slices.Equal(values[name], want[name]) {
			t.Errorf("%s: Java read keys %q and values %q, want %q", name, keys[name], values[name], want[name])
		}
	}
}

// TestGoReadsWhatJavaProduces reads what typed Java producers sent.
func TestGoReadsWhatJavaProduces(t *testing.T) {
	client := newClient(t, shared)
	for name := range formats() {
		newTopic(t, client, 1, "-"+name)
	}
	err := kafkaproc.RunJava(testContext(t), "oncemill.Typed", []string{shared.Bootstrap(), "produce", t.Name()}, func(struct{}) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range formats() {
		var want []string
		for _, text := range goldenTexts(t, name) {
			want = append(want, normal(t, name, text))
		}
		keys, values := readTexts(t, t.Name()+"-"+name, name, f, len(want))
		if !slices.Equal(keys, want) || !slices.Equal(values, want) {
			t.Errorf("%s: Go read keys %q and values %q, want %q", name, keys, values, want)
		}
	}
}

// readTexts consumes count records with franz-go and decodes them.
func readTexts(t *testing.T, topic, name string, f format, count int) (keys, values []string) {
	t.Helper()
	reader := newClient(t, shared, kgo.ConsumeTopics(topic))
	decode := func(b []byte) string {
		text, err := f.decode(b)
		if err != nil {
			t.Errorf("%s: decode %x: %v", name, b, err)
		}
		if name == "float64" && text != nil { // decode has printed bits
			bits, err := strconv.ParseUint(*text, 16, 64)
			if err != nil {
				t.Fatal(err)
			}
			decimal := strconv.FormatFloat(math.Float64frombits(bits), 'g', -1, 64)
			text = &decimal
		}
		return normal(t, name, text)
	}
	for len(values) < count {
		fetches := reader.PollFetches(testContext(t))
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			keys, values = append(keys, decode(r.Key)), append(values, decode(r.Value))
		})
	}
	return keys, values
}
