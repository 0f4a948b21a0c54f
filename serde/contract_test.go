package serde

import (
	"bytes"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

type document struct {
	Text   string   `json:"text"`
	Count  int64    `json:"count"`
	Ratio  float64  `json:"ratio"`
	Tags   []string `json:"tags"`
	Absent *string  `json:"absent"`
}

// TestEverySerdeKeepsTheContract holds each serde to the promises of the Serde interface.
func TestEverySerdeKeepsTheContract(t *testing.T) {
	keepsContract(t, String(), "", "a", "Grüße 🚀", "\x00")
	keepsContract(t, Bytes(), []byte{}, []byte{0}, []byte("null"))
	keepsContract(t, Int32(), 0, 1, -1, math.MaxInt32, math.MinInt32)
	keepsContract(t, Int64(), 0, 1, -1, math.MaxInt64, math.MinInt64)
	keepsContract(t, Float64(), 0, math.Copysign(0, -1), 0.1, math.MaxFloat64, math.Inf(-1))
	keepsContract(t, Bool(), true, false)
	keepsContract(t, UUID(), uuid.UUID{}, uuid.MustParse("f81d4fae-7dec-11d0-a765-00a0c91e6bf6"))
	keepsContract(t, JSON[document](), document{}, document{Text: "<&>", Count: -7, Tags: []string{"b", "a"}})
	keepsContract(t, JSON[map[string]int](), map[string]int{}, map[string]int{"b": 1, "a": 2})
	keepsContract(t, Nullable(Int64()), new(int64))
	keepsContract(t, Protobuf[*wrapperspb.StringValue](), wrapperspb.String(""), wrapperspb.String("Grüße"))
	keepsContract(t, Protobuf[*structpb.Struct](), manyFields(t))
}

func keepsContract[T any](t *testing.T, s Serde[T], values ...T) {
	t.Helper()
	t.Run(s.Name(), func(t *testing.T) {
		for _, v := range values {
			prefix := []byte("before")
			encoded, err := s.Encode(prefix[:len(prefix):len(prefix)], v)
			if err != nil {
				t.Fatalf("encode %v: %v", v, err)
			}
			if !bytes.HasPrefix(encoded, prefix) {
				t.Fatalf("encode %v replaced the prefix: %q", v, encoded)
			}
			b := encoded[len(prefix):]
			again, err := s.Encode(make([]byte, 0, 4), v)
			if err != nil || !bytes.Equal(again, b) {
				t.Fatalf("encode %v twice: %q and %q (%v)", v, b, again, err)
			}
			got, err := s.Decode(b)
			if err != nil || !same(got, v) {
				t.Fatalf("decode %q: %v (%v), want %v", b, got, err, v)
			}
			for i := range b {
				b[i] = 0x5a
			}
			if !same(got, v) {
				t.Fatalf("decoded %v became %v when its bytes were reused", v, got)
			}
			if IsNull(s, v) {
				t.Fatalf("%v counts as null", v)
			}
		}
		decodesNullOnlyIfItSaysSo(t, s)
	})
}

func decodesNullOnlyIfItSaysSo[T any](t *testing.T, s Serde[T]) {
	t.Helper()
	v, err := s.Decode(nil)
	if _, ok := s.(Nuller[T]); !ok {
		if !errors.Is(err, ErrNull) {
			t.Fatalf("decode null: %v, want ErrNull", err)
		}
		return
	}
	if err != nil || !IsNull(s, v) {
		t.Fatalf("decode null: %v (%v), want a null", v, err)
	}
}

// same compares bits of floats, messages as messages, and the rest deeply.
func same(a, b any) bool {
	switch a := a.(type) {
	case float64:
		return math.Float64bits(a) == math.Float64bits(b.(float64))
	case proto.Message:
		return proto.Equal(a, b.(proto.Message))
	}
	return reflect.DeepEqual(a, b)
}

// manyFields is a message whose fields are a Go map, so that an encoding in map order would show.
func manyFields(t *testing.T) *structpb.Struct {
	fields := make(map[string]any)
	for _, name := range strings.Split("abcdefghijklmnopqrstuvwxyz", "") {
		fields[name] = name
	}
	s, err := structpb.NewStruct(fields)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestDecodeRefuses(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{refusal(String(), "\xff"), "serde string: not valid UTF-8"},
		{refusal(Int32(), ""), "serde int32: expected length 4, got 0"},
		{refusal(Int32(), "12345678"), "serde int32: expected length 4, got 8"},
		{refusal(Int64(), "1234"), "serde int64: expected length 8, got 4"},
		{refusal(Float64(), "123456789"), "serde float64: expected length 8, got 9"},
		{refusal(Bool(), ""), "serde bool: expected length 1, got 0"},
		{refusal(Bool(), "\x02"), "serde bool: expected byte 0 or 1, got 2"},
		{refusal(UUID(), "0123456789abcdef"), "serde uuid: expected length 36, got 16"},
		{refusal(UUID(), "f81d4fae-7dec-11d0-a765-00a0c91e6bfg"), "serde uuid: invalid UUID format"},
		{refusal(UUID(), "f81d4fae07dec011d00a765000a0c91e6bf6"), "serde uuid: invalid UUID format"},
		{refusal(UUID(), "{f81d4fae-7dec-11d0-a765-00a0c91e6b}"), "serde uuid: invalid UUID format"},
		{refusal(JSON[document](), ""), "serde json: decode serde.document: unexpected end of JSON input"},
		{refusal(JSON[document](), "{}{}"), "serde json: decode serde.document: invalid character '{' after"},
		{refusal(JSON[document](), `{"count":"1"}`), "cannot unmarshal string"},
		{refusal(JSON[string](), "\"\xff\""), "serde json: not valid UTF-8"},
		{refusal(JSON[document](), " null\n"), "the document is null, expected serde.document"},
		{refusal(Protobuf[*wrapperspb.StringValue](), "\x0a"), "serde protobuf(google.protobuf.StringValue): proto"},
		{refusal(Protobuf[proto.Message](), ""), "ProtoMessage is an interface"},
		{refusal(Protobuf[proto.Message](), "\x00"), "ProtoMessage is an interface"},
		{refusal(Nullable(Int32()), ""), "serde int32: expected length 4, got 0"},
	} {
		if c.err == nil || !strings.Contains(c.err.Error(), c.want) {
			t.Errorf("got %v, want %q", c.err, c.want)
		}
	}
}

func refusal[T any](s Serde[T], b string) error {
	_, err := s.Decode([]byte(b))
	return err
}

func TestEncodeRefusesAndLeavesTheSlice(t *testing.T) {
	encodeRefuses(t, String(), "\xff", "not valid UTF-8")
	encodeRefuses(t, JSON[float64](), math.NaN(), "unsupported value: NaN")
	encodeRefuses(t, JSON[any](), any(make(chan int)), "unsupported type: chan int")
	encodeRefuses(t, Protobuf[*wrapperspb.StringValue](), nil, "nil message")
	encodeRefuses(t, Protobuf[proto.Message](), nil, "nil message")
	encodeRefuses(t, Protobuf[*wrapperspb.StringValue](), wrapperspb.String("\xff"), "invalid UTF-8")
	encodeRefuses(t, Nullable(Int32()), nil, "ask IsNull first")
}

func encodeRefuses[T any](t *testing.T, s Serde[T], v T, want string) {
	t.Helper()
	room := append(make([]byte, 0, 64), "before"...)
	b, err := s.Encode(room, v)
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%s: got %v, want %q", s.Name(), err, want)
	}
	if string(b) != "before" {
		t.Errorf("%s: the slice became %q", s.Name(), b)
	}
}

func TestJSONEncoderServesAgainAfterAnError(t *testing.T) {
	s := JSON[any]()
	for range 10 {
		if _, err := s.Encode(nil, make(chan int)); err == nil {
			t.Fatal("a channel was encoded")
		}
		b, err := s.Encode(nil, "a<b")
		if err != nil || string(b) != `"a<b"` {
			t.Fatalf("got %q, %v", b, err)
		}
	}
}

func TestJSONReadsNullWhereTheTypeHasIt(t *testing.T) {
	pointer, err := JSON[*document]().Decode([]byte("null"))
	if err != nil || pointer != nil {
		t.Errorf("pointer: %v, %v", pointer, err)
	}
	if b, err := JSON[*document]().Encode(nil, nil); err != nil || string(b) != "null" {
		t.Errorf("nil pointer: %q, %v", b, err)
	}
	m, err := JSON[map[string]int]().Decode([]byte("null"))
	if err != nil || m != nil {
		t.Errorf("map: %v, %v", m, err)
	}
}

func TestEveryNaNHasOneEncoding(t *testing.T) {
	for _, v := range []float64{math.NaN(), math.Float64frombits(0xfff0000000000123)} {
		b, err := Float64().Encode(nil, v)
		if err != nil || !bytes.Equal(b, []byte{0x7f, 0xf8, 0, 0, 0, 0, 0, 0}) {
			t.Errorf("got %x, %v", b, err)
		}
		got, err := Float64().Decode(b)
		if err != nil || got == got {
			t.Errorf("got %v, %v, want NaN", got, err)
		}
	}
}

func TestUUIDReadsUpperCase(t *testing.T) {
	v, err := UUID().Decode([]byte("F81D4FAE-7DEC-11D0-A765-00A0C91E6BF6"))
	if err != nil || v.String() != "f81d4fae-7dec-11d0-a765-00a0c91e6bf6" {
		t.Errorf("got %v, %v", v, err)
	}
}

func TestIntegersSortAsTheirBytes(t *testing.T) {
	var last []byte
	for _, v := range []int64{0, 1, 1 << 40, math.MaxInt64, math.MinInt64, -256, -1} {
		b, err := Int64().Encode(nil, v)
		if err != nil || bytes.Compare(last, b) >= 0 {
			t.Errorf("%d does not come after its predecessor (%v)", v, err)
		}
		last = b
	}
}

func TestNullableOfBytesIsNullInBothWays(t *testing.T) {
	s := Nullable(Bytes())
	var null []byte
	if !IsNull(s, nil) || !IsNull(s, &null) {
		t.Error("a null does not count as null")
	}
	if empty := []byte{}; IsNull(s, &empty) {
		t.Error("empty bytes count as null")
	}
	if IsNull(Int32(), 0) {
		t.Error("0 counts as null")
	}
}

// bound is a serde whose name shows the Use that it was bound to.
type bound struct {
	Serde[string]
	topic string
}

func (b bound) Name() string { return "bound to " + b.topic }

func (b bound) Bind(use Use) (Serde[string], error) {
	if use.Topic == "" {
		return nil, errors.New("no topic")
	}
	return bound{b.Serde, use.Topic}, nil
}

func TestNullableBindsItsInnerSerde(t *testing.T) {
	s := Nullable[string](bound{Serde: String()}).(Binder[*string])
	got, err := s.Bind(Use{Topic: "orders"})
	if err != nil || got.Name() != "nullable(bound to orders)" {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := s.Bind(Use{Store: "totals"}); err == nil {
		t.Error("the error of the inner serde is lost")
	}
	plain := Nullable(Int32())
	if got, err := plain.(Binder[*int32]).Bind(Use{Topic: "orders"}); err != nil || got != plain {
		t.Errorf("got %v, %v, want the same serde", got, err)
	}
}

func TestNamesAreDistinctAndStable(t *testing.T) {
	want := []string{"string", "bytes", "int32", "int64", "float64", "bool", "uuid", "json",
		"protobuf(google.protobuf.Duration)", "nullable(int64)"}
	got := []string{String().Name(), Bytes().Name(), Int32().Name(), Int64().Name(), Float64().Name(), Bool().Name(),
		UUID().Name(), JSON[document]().Name(), Protobuf[*durationpb.Duration]().Name(), Nullable(Int64()).Name()}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q: a changed name refuses the state of every application", got, want)
	}
}

func TestEncodingIntoRoomDoesNotAllocate(t *testing.T) {
	room := make([]byte, 0, 256)
	id, doc := uuid.MustParse("f81d4fae-7dec-11d0-a765-00a0c91e6bf6"), &document{Text: "a", Tags: []string{"b"}}
	text, uuids, floats, docs := String(), UUID(), Float64(), JSON[*document]()
	message, messages := wrapperspb.String("a"), Protobuf[*wrapperspb.StringValue]()
	for name, encode := range map[string]func() ([]byte, error){
		"string":   func() ([]byte, error) { return text.Encode(room, "order-17") },
		"uuid":     func() ([]byte, error) { return uuids.Encode(room, id) },
		"float64":  func() ([]byte, error) { return floats.Encode(room, 0.1) },
		"json":     func() ([]byte, error) { return docs.Encode(room, doc) },
		"protobuf": func() ([]byte, error) { return messages.Encode(room, message) },
	} {
		allocations := testing.AllocsPerRun(100, func() {
			if _, err := encode(); err != nil {
				t.Fatal(err)
			}
		})
		if allocations >= 1 && !raceEnabled {
			t.Errorf("%s: %v allocations", name, allocations)
		}
	}
}
