package assignment

import "testing"

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

func TestBasisSurvivesTheWire(t *testing.T) {
	want := BasisOf([]string{"a"}, nil)
	for _, b := range [][]byte{want.Encode(), append(want.Encode(), "later fields"...)} {
		if got, ok := DecodeBasis(b); !ok || got != want {
			t.Errorf("%x: %v, %v", b, got, ok)
		}
	}
	for _, b := range [][]byte{nil, want.Encode()[:10], []byte("sticky assignor"), sample().Encode()[:3]} {
		if got, ok := DecodeBasis(b); ok {
			t.Errorf("%x: read as %v", b, got)
		}
	}
}
