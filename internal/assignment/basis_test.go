package assignment

import (
	"bytes"
	"encoding/hex"
	"testing"
)

func TestBasisTellsSubscriptionsApart(t *testing.T) {
	none, published := &UserData{}, &UserData{Groups: []Group{}}
	one := &UserData{Groups: []Group{{"g", []string{"a", "b"}}}}
	turned := &UserData{Groups: []Group{{"g", []string{"b", "a"}}}, Held: []Held{{N: 9}}}
	if BasisOf([]string{"a", "b"}, one) != BasisOf([]string{"b", "a"}, turned) {
		t.Error("the order and the local state matter")
	}
	if BasisOf([]string{"a"}, nil) != BasisOf([]string{"a"}, none) {
		t.Error("no user data differs from none published")
	}
	seen := map[Basis]int{}
	for i, b := range []Basis{
		BasisOf(nil, nil), BasisOf([]string{"a"}, nil), BasisOf([]string{"a", "b"}, nil), BasisOf([]string{"ab"}, nil),
		BasisOf([]string{"a", "b"}, published), BasisOf([]string{"a", "b"}, one), BasisOf([]string{"a"}, one),
	} {
		if other, found := seen[b]; found {
			t.Errorf("subscriptions %d and %d have one basis", other, i)
		}
		seen[b] = i
	}
}

func TestNoteSurvivesTheWire(t *testing.T) {
	for _, want := range []Note{{BasisOf([]string{"a"}, nil), false}, {BasisOf([]string{"a"}, nil), true}} {
		whole := want.Encode()
		for _, b := range [][]byte{whole, append(want.Encode(), "later fields"...)} {
			if got, ok := DecodeNote(b); !ok || got != want {
				t.Errorf("%x: %+v, %v", b, got, ok)
			}
		}
		for _, b := range [][]byte{nil, whole[:10], []byte("sticky assignor"), sample().Encode()[:3]} {
			if got, ok := DecodeNote(b); ok {
				t.Errorf("%x: read as %+v", b, got)
			}
		}
	}
}

// The bytes are on the wire between members of different builds: what is there keeps its place and meaning.
func TestNoteBytesOfVersion1(t *testing.T) {
	const basis = "6f6d01" + "0000000000000102"
	for _, test := range []struct {
		bytes   string
		note    Note
		written bool
	}{
		{basis, Note{Basis: 0x102}, false}, // of the first builds
		{basis + "00", Note{Basis: 0x102}, true},
		{basis + "01", Note{Basis: 0x102, Rejoin: true}, true},
		{basis + "02", Note{Basis: 0x102}, false}, // of a later build
		{basis + "03", Note{Basis: 0x102, Rejoin: true}, false},
	} {
		b, err := hex.DecodeString(test.bytes)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := DecodeNote(b); !ok || got != test.note {
			t.Errorf("%s: read as %+v, %v", test.bytes, got, ok)
		}
		if test.written && !bytes.Equal(test.note.Encode(), b) {
			t.Errorf("%+v is written as %x, want %s", test.note, test.note.Encode(), test.bytes)
		}
	}
}
