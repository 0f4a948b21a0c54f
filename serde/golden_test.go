package serde

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/google/uuid"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// golden is one line of a file in testdata/java, written by Golden.java of package kafkatest.
type golden struct {
	Value   *string `json:"value"`
	Hex     *string `json:"hex"`
	Message string  `json:"message"`
}

// encoded returns the bytes that Java wrote; nil for null.
func (g golden) encoded(t *testing.T) []byte {
	t.Helper()
	if g.Hex == nil {
		return nil
	}
	b, err := hex.DecodeString(*g.Hex)
	if err != nil {
		t.Fatal(err)
	}
	return append([]byte{}, b...)
}

func readGolden(t *testing.T, format string) []golden {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("testdata", "java", format+".jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var lines []golden
	for _, line := range bytes.Split(bytes.TrimSpace(content), []byte("\n"))[1:] {
		var g golden
		if err := json.Unmarshal(line, &g); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		lines = append(lines, g)
	}
	return lines
}

// TestBytesAreThoseOfJava reads what Java wrote, and writes it again.
func TestBytesAreThoseOfJava(t *testing.T) {
	text := func(s string) (string, error) { return s, nil }
	agrees(t, 11, String(), text)
	agrees(t, 5, Bytes(), hex.DecodeString)
	agrees(t, 9, Int32(), func(s string) (int32, error) {
		v, err := strconv.ParseInt(s, 10, 32)
		return int32(v), err
	})
	agrees(t, 9, Int64(), func(s string) (int64, error) { return strconv.ParseInt(s, 10, 64) })
	agrees(t, 14, Float64(), func(s string) (float64, error) {
		if s == "NaN" {
			return math.Float64frombits(javaNaN), nil
		}
		return strconv.ParseFloat(s, 64)
	})
	agrees(t, 2, Bool(), strconv.ParseBool)
	agrees(t, 5, UUID(), uuid.Parse)
}

// agrees demands count values besides null, so that a file that lost its lines is noticed.
func agrees[T any](t *testing.T, count int, inner Serde[T], parse func(string) (T, error)) {
	t.Helper()
	t.Run(inner.Name(), func(t *testing.T) {
		s, values, nulls := Nullable(inner), 0, 0
		for _, g := range readGolden(t, inner.Name()) {
			b := g.encoded(t)
			got, err := s.Decode(b)
			if err != nil {
				t.Errorf("decode %x: %v", b, err)
				continue
			}
			if g.Value == nil {
				nulls++
				if b != nil || got != nil {
					t.Errorf("null: got %v from %x", got, b)
				}
				continue
			}
			values++
			want, err := parse(*g.Value)
			if err != nil {
				t.Fatalf("%q: %v", *g.Value, err)
			}
			if !same(*got, want) {
				t.Errorf("decode %x: got %v, want %v", b, *got, want)
			}
			if again, err := s.Encode(nil, &want); err != nil || !bytes.Equal(again, b) {
				t.Errorf("encode %v: got %x (%v), want %x", want, again, err, b)
			}
		}
		if values != count || nulls != 1 {
			t.Errorf("%d values and %d nulls, want %d and 1", values, nulls, count)
		}
	})
}

// TestJSONReadsJackson reads only: JSON has several spellings of one document, and Jackson chooses others.
func TestJSONReadsJackson(t *testing.T) {
	lines := readGolden(t, "json")
	if len(lines) != 4 {
		t.Errorf("%d documents, want 4", len(lines))
	}
	for _, g := range lines {
		got, err := JSON[document]().Decode(g.encoded(t))
		want := document{Text: *g.Value, Count: math.MinInt64, Ratio: -2.5, Tags: []string{"b", "a"}}
		if err != nil || !same(got, want) {
			t.Errorf("got %+v (%v), want %+v", got, err, want)
		}
	}
}

func TestProtobufBytesAreThoseOfJava(t *testing.T) {
	lines := readGolden(t, "protobuf")
	if len(lines) != 6 {
		t.Errorf("%d messages, want 6", len(lines))
	}
	for _, g := range lines {
		switch g.Message {
		case "google.protobuf.StringValue":
			agreesMessage(t, g, Protobuf[*wrapperspb.StringValue](), new(wrapperspb.StringValue))
		case "google.protobuf.Int64Value":
			agreesMessage(t, g, Protobuf[*wrapperspb.Int64Value](), new(wrapperspb.Int64Value))
		case "google.protobuf.DoubleValue":
			agreesMessage(t, g, Protobuf[*wrapperspb.DoubleValue](), new(wrapperspb.DoubleValue))
		case "google.protobuf.Timestamp":
			agreesMessage(t, g, Protobuf[*timestamppb.Timestamp](), new(timestamppb.Timestamp))
		default:
			t.Errorf("unexpected message %q", g.Message)
		}
	}
}

func agreesMessage[T proto.Message](t *testing.T, g golden, s Serde[T], want T) {
	t.Helper()
	if err := prototext.Unmarshal([]byte(*g.Value), want); err != nil {
		t.Fatal(err)
	}
	b := g.encoded(t)
	got, err := s.Decode(b)
	if err != nil || !proto.Equal(got, want) {
		t.Errorf("decode %x: got %v (%v), want %v", b, got, err, want)
	}
	again, err := s.Encode(nil, want)
	if err != nil || !bytes.Equal(again, b) {
		t.Errorf("encode %v: got %x (%v), want %x", want, again, err, b)
	}
}
