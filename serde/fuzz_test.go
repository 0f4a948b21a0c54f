package serde

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/structpb"
)

// fuzzExact feeds a decoder: what it accepts must encode to the same bytes (as normal makes them), and it must accept
// exactly what valid says.
func fuzzExact[T any](f *testing.F, s Serde[T], valid func([]byte) bool, normal func([]byte) []byte) {
	for _, seed := range []string{"", "\x00", "\x01", "\x02", "abcd", "\xff\xff\xff\xff", "12345678", "\x7f\xf8\x00\x00\x00\x00\x00\x01",
		"f81d4fae-7dec-11d0-a765-00a0c91e6bf6", "F81D4FAE-7DEC-11D0-A765-00A0C91E6BF6", "Grüße"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if b == nil {
			b = []byte{}
		}
		v, err := s.Decode(b)
		if (err == nil) != valid(b) {
			t.Fatalf("decode %x: %v, valid is %v", b, err, valid(b))
		}
		if err != nil {
			return
		}
		again, err := s.Encode(nil, v)
		if err != nil || !bytes.Equal(again, normal(b)) {
			t.Fatalf("encode %v: %x (%v), want %x", v, again, err, normal(b))
		}
	})
}

func length(n int) func([]byte) bool { return func(b []byte) bool { return len(b) == n } }

func unchanged(b []byte) []byte { return b }

func FuzzString(f *testing.F) { fuzzExact(f, String(), utf8.Valid, unchanged) }

func FuzzBytes(f *testing.F) {
	fuzzExact(f, Bytes(), func([]byte) bool { return true }, unchanged)
}

func FuzzInt32(f *testing.F) { fuzzExact(f, Int32(), length(4), unchanged) }

func FuzzInt64(f *testing.F) { fuzzExact(f, Int64(), length(8), unchanged) }

func FuzzFloat64(f *testing.F) {
	fuzzExact(f, Float64(), length(8), func(b []byte) []byte {
		exponentAllSet := b[0]&0x7f == 0x7f && b[1]&0xf0 == 0xf0
		if exponentAllSet && (b[1]&0x0f != 0 || bytes.ContainsFunc(b[2:], func(r rune) bool { return r != 0 })) {
			return []byte{0x7f, 0xf8, 0, 0, 0, 0, 0, 0}
		}
		return b
	})
}

func FuzzBool(f *testing.F) {
	fuzzExact(f, Bool(), func(b []byte) bool { return len(b) == 1 && b[0] <= 1 }, unchanged)
}

func FuzzUUID(f *testing.F) {
	const hexadecimal = "0123456789abcdefABCDEF"
	valid := func(b []byte) bool {
		if len(b) != 36 {
			return false
		}
		for i, c := range b {
			hyphen := i == 8 || i == 13 || i == 18 || i == 23
			if hyphen != (c == '-') || !hyphen && !strings.ContainsRune(hexadecimal, rune(c)) {
				return false
			}
		}
		return true
	}
	fuzzExact(f, UUID(), valid, bytes.ToLower)
}

func FuzzNullable(f *testing.F) { fuzzExact(f, Nullable(Int32()), length(4), unchanged) }

// FuzzJSON checks that what was read and written once stays as it is.
func FuzzJSON(f *testing.F) {
	for _, seed := range []string{"", "null", `{"text":"a","count":-1,"ratio":1e300,"tags":["b"]}`, `{"tags":null}`, "[]", `{"TEXT":"\ud800"}`} {
		f.Add([]byte(seed))
	}
	s := JSON[document]()
	f.Fuzz(func(t *testing.T, b []byte) { settles(t, s, b) })
}

// FuzzProtobuf checks that what was read and written once stays as it is.
func FuzzProtobuf(f *testing.F) {
	s := Protobuf[*structpb.Struct]()
	f.Add([]byte{})
	f.Add([]byte("\x0a\x07\x0a\x01a\x12\x02\x08\x00"))
	f.Add([]byte("\xf8\xff\xff\xff\x0f\x01"))
	f.Fuzz(func(t *testing.T, b []byte) { settles(t, s, b) })
}

func settles[T any](t *testing.T, s Serde[T], b []byte) {
	t.Helper()
	v, err := s.Decode(b)
	if err != nil {
		return
	}
	once, err := s.Encode(nil, v)
	if err != nil {
		t.Fatalf("decoded %x cannot be encoded: %v", b, err)
	}
	v, err = s.Decode(append([]byte{}, once...))
	if err != nil {
		t.Fatalf("encoded %x cannot be decoded: %v", once, err)
	}
	twice, err := s.Encode(nil, v)
	if err != nil || !bytes.Equal(once, twice) {
		t.Fatalf("%x became %x (%v)", once, twice, err)
	}
}
