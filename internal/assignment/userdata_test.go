package assignment

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/oncemill/oncemill/statestore"
)

func sample() UserData {
	return UserData{
		Process: Process{0xAB, 15: 0xCD},
		Groups:  []Group{{"orders", []string{"orders", "customers"}}, {"audit", []string{"log"}}},
		Held: []Held{
			{statestore.TaskID{SubTopology: "orders", Partition: 300}, 7},
			{statestore.TaskID{SubTopology: "orders", Partition: 2}, math.MaxUint64},
			{statestore.TaskID{SubTopology: "gone", Partition: math.MaxInt32}, 0},
			{statestore.TaskID{SubTopology: "orders", Partition: 2}, 5}, // listed twice: the newest counts
		},
	}
}

func TestUserDataSurvivesTheWire(t *testing.T) {
	got, err := DecodeUserData(sample().Encode())
	want := &UserData{
		Process: Process{0xAB, 15: 0xCD},
		Groups:  []Group{{"audit", []string{"log"}}, {"orders", []string{"customers", "orders"}}},
		Held: []Held{
			{statestore.TaskID{SubTopology: "gone", Partition: math.MaxInt32}, 0},
			{statestore.TaskID{SubTopology: "orders", Partition: 2}, math.MaxUint64},
			{statestore.TaskID{SubTopology: "orders", Partition: 300}, 7},
		},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("got %+v, %v\nwant %+v", got, err, want)
	}
}

// The bytes are on the wire between members of different builds: they change only with the version.
func TestUserDataBytesOfVersion1(t *testing.T) {
	d := UserData{Process: Process{1, 2, 3}, Groups: []Group{{"g", []string{"b", "a"}}},
		Held: []Held{{statestore.TaskID{SubTopology: "g", Partition: 5}, 300}, {statestore.TaskID{SubTopology: "g", Partition: 3}, 1}}}
	const want = "6f6d01" + "0110" + "01020300000000000000000000000000" + "0208" + "01" + "0167" + "02" + "0161" + "0162" +
		"0309" + "01" + "0167" + "02" + "0301" + "02ac02"
	if got := hex.EncodeToString(d.Encode()); got != want {
		t.Errorf("encoded\n%s, want\n%s", got, want)
	}
}

func TestPublishingNoGroupsDiffersFromNotPublishing(t *testing.T) {
	for _, groups := range [][]Group{nil, {}} {
		got, err := DecodeUserData(UserData{Groups: groups}.Encode())
		if err != nil || (got.Groups == nil) != (groups == nil) {
			t.Errorf("%#v came back as %#v, %v", groups, got.Groups, err)
		}
	}
}

func TestUserDataStaysBelowItsBound(t *testing.T) {
	d := sample()
	d.Held = nil
	for sub := range 40 {
		for p := range int32(1000) {
			d.Held = append(d.Held, Held{statestore.TaskID{SubTopology: fmt.Sprintf("sub-%02d", sub), Partition: p}, uint64(p) << 40})
		}
	}
	b := d.Encode()
	got, err := DecodeUserData(b)
	if err != nil || len(b) > MaxUserDataBytes || len(b) < MaxUserDataBytes-100 {
		t.Fatalf("%d bytes, %v", len(b), err)
	}
	if len(got.Held) < 1000 || !reflect.DeepEqual(got.Held, d.Held[:len(got.Held)]) {
		t.Errorf("the %d tasks that were kept are not the first ones", len(got.Held))
	}
	d.Groups = []Group{{strings.Repeat("x", MaxUserDataBytes), []string{"t"}}}
	b = d.Encode()
	if got, err = DecodeUserData(b); err != nil || len(b) > MaxUserDataBytes || got.Groups != nil || len(got.Held) < 1000 {
		t.Errorf("groups that do not fit: %d bytes, %v", len(b), err)
	}
}

func TestForeignUserDataIsTold(t *testing.T) {
	newer := sample().Encode()
	newer[2]++
	for _, b := range [][]byte{nil, {}, []byte("o"), []byte("om"), []byte("sticky"), newer} {
		if _, err := DecodeUserData(b); !errors.Is(err, ErrForeign) {
			t.Errorf("%q: %v", b, err)
		}
	}
}

func TestMalformedUserDataIsRefused(t *testing.T) {
	whole := UserData{Groups: []Group{{"g", []string{"t"}}}, Held: sample().Held}.Encode()
	ends := map[int]bool{3: true, 3 + 2 + int(whole[4]): true, len(whole): true} // between sections
	for n := 3; n <= len(whole); n++ {
		if _, err := DecodeUserData(whole[:n]); (err == nil) != ends[n] {
			t.Errorf("the first %d of %d bytes: %v", n, len(whole), err)
		}
	}
	for name, section := range map[string][]byte{
		"short process id":          {sectionProcess, 1, 9},
		"rest in a section":         {sectionGroups, 2, 0, 0},
		"count without content":     {sectionGroups, 1, 200},
		"name with a zero byte":     {sectionGroups, 5, 1, 1, 0, 1, 'a'},
		"empty name":                {sectionHeld, 4, 1, 0, 0, 0},
		"partition beyond an int32": {sectionHeld, 10, 1, 1, 'g', 1, 0x80, 0x80, 0x80, 0x80, 0x08, 0},
	} {
		if d, err := DecodeUserData(append([]byte("om\x01"), section...)); !errors.Is(err, errMalformed) {
			t.Errorf("%s: %+v, %v", name, d, err)
		}
	}
}

func TestUnknownSectionsAreSkipped(t *testing.T) {
	b := append([]byte("om\x01"), sectionStandby, 3, 1, 2, 3, 99, 0)
	b = append(b, UserData{Held: sample().Held}.Encode()[3:]...)
	if got, err := DecodeUserData(b); err != nil || len(got.Held) != 3 {
		t.Errorf("got %+v, %v", got, err)
	}
}

func FuzzDecodeUserData(f *testing.F) {
	f.Add(sample().Encode())
	f.Add([]byte("om\x01\x03\x0a\x01\x01g\x01\x80\x80\x80\x80\x08\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		d, err := DecodeUserData(b)
		if err != nil {
			return
		}
		once := d.Encode()
		again, err := DecodeUserData(once)
		if err != nil || !bytes.Equal(again.Encode(), once) {
			t.Errorf("%+v encodes as %x, which decodes as %+v, %v", d, once, again, err)
		}
		Balance(Input{Members: []Member{{ID: "m", Topics: []string{"t"}, UserData: d}}, Partitions: map[string]int32{"t": 3}})
	})
}
