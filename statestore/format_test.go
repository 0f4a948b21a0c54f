package statestore

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/oncemill/oncemill/internal/problem"
)

var update = flag.Bool("update", false, "rewrite the golden files in testdata")

func sampleCheckpoint() Checkpoint {
	return Checkpoint{
		N: 42,
		Inputs: []Input{
			{Topic: "orders", TopicID: [16]byte{1, 2, 3}, Next: 1_000_000, LeaderEpoch: 7},
			{Topic: "payments", TopicID: [16]byte{9}, Next: 0, LeaderEpoch: -1},
		},
		StreamTime: 1_700_000_000_123,
		MarkerTime: 1_700_000_004_567,
		Sequence:   17,
		Horizons:   []Horizon{{Store: 0xdeadbeef, Bucket: 473_000}},
	}
}

func samplePosition() Position {
	return Position{
		Checkpoint: sampleCheckpoint(),
		Logs:       []LogPosition{{Topic: "app-counts-changelog", TopicID: [16]byte{4}, Next: 99, LeaderEpoch: 3}},
		Buckets:    []BucketStart{{Store: 0xdeadbeef, Bucket: 473_000, Offset: 12345}},
		WrittenAt:  time.UnixMilli(1_700_000_001_000).UTC(),
	}
}

// golden compares bytes with the hexadecimal file of that name.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name+".hex")
	text := hex.EncodeToString(got) + "\n"
	if *update {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if text != string(want) {
		t.Errorf("%s: the bytes changed:\n got %s want %s", name, text, want)
	}
}

func TestFormatsAreStable(t *testing.T) {
	c, p := sampleCheckpoint(), samplePosition()
	empty := Position{Checkpoint: Checkpoint{StreamTime: MinStreamTime}}
	golden(t, "checkpoint-v1", EncodeCheckpoint(nil, &c))
	golden(t, "position-v1", EncodePosition(nil, &p))
	golden(t, "position-empty-v1", EncodePosition(nil, &empty))
	golden(t, "task-record-v1", encodeTaskRecord(nil, &taskRecord{"orders", p}))
}

func TestFormatsRoundTrip(t *testing.T) {
	c, p := sampleCheckpoint(), samplePosition()
	if got, err := DecodeCheckpoint(EncodeCheckpoint(nil, &c)); err != nil || !reflect.DeepEqual(got, c) {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := DecodePosition(EncodePosition([]byte{}, &p)); err != nil || !reflect.DeepEqual(got, p) {
		t.Errorf("%+v, %v", got, err)
	}
	r := taskRecord{"orders", p}
	if got, err := decodeTaskRecord(encodeTaskRecord(nil, &r)); err != nil || !reflect.DeepEqual(got, r) {
		t.Errorf("%+v, %v", got, err)
	}
	var zero Position
	if got, err := DecodePosition(EncodePosition(nil, &zero)); err != nil || !got.WrittenAt.IsZero() {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestBadBytesAreRefused(t *testing.T) {
	p, c := samplePosition(), sampleCheckpoint()
	position, checkpoint := EncodePosition(nil, &p), EncodeCheckpoint(nil, &c)
	record := encodeTaskRecord(nil, &taskRecord{"orders", p})
	newer := func(b []byte, i int) []byte { b = bytes.Clone(b); b[i]++; return b }
	tests := []struct {
		name string
		err  error
		want problem.Code
	}{
		{"newer position", second(DecodePosition(newer(position, 0))), problem.DirectoryNewer},
		{"newer checkpoint", second(DecodeCheckpoint(newer(checkpoint, 0))), problem.BadDurableBytes},
		{"newer task record", second(decodeTaskRecord(newer(record, 0))), problem.DirectoryNewer},
		{"newer position in a task record", second(decodeTaskRecord(newer(record, 8))), problem.DirectoryNewer},
		{"empty position", second(DecodePosition(nil)), problem.BadDurableBytes},
		{"version 0", second(DecodePosition(append([]byte{0}, position[1:]...))), problem.BadDurableBytes},
		{"left over", second(DecodePosition(append(bytes.Clone(position), 0))), problem.BadDurableBytes},
		{"huge list", second(DecodeCheckpoint([]byte{1, 1, 0xff, 0xff, 0xff, 0xff, 0x0f})), problem.BadDurableBytes},
	}
	for _, test := range tests {
		if !errors.Is(test.err, problem.New(test.want, "", "")) || problem.CodeOf(test.err) != test.want {
			t.Errorf("%s: %v, want %s", test.name, test.err, test.want)
		}
	}
	for n := range position {
		if _, err := DecodePosition(position[:n]); problem.CodeOf(err) != problem.BadDurableBytes {
			t.Errorf("cut after %d bytes: %v", n, err)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func FuzzDecodeCheckpoint(f *testing.F) {
	c := sampleCheckpoint()
	f.Add(EncodeCheckpoint(nil, &c))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := DecodeCheckpoint(b); err == nil {
			again, err := DecodeCheckpoint(EncodeCheckpoint(nil, &c))
			if err != nil || !reflect.DeepEqual(again, c) {
				t.Fatalf("%+v becomes %+v, %v", c, again, err)
			}
		}
	})
}

func FuzzDecodePosition(f *testing.F) {
	p := samplePosition()
	f.Add(EncodePosition(nil, &p))
	f.Fuzz(func(t *testing.T, b []byte) {
		if p, err := DecodePosition(b); err == nil {
			again, err := DecodePosition(EncodePosition(nil, &p))
			if err != nil || !reflect.DeepEqual(again, p) {
				t.Fatalf("%+v becomes %+v, %v", p, again, err)
			}
		}
	})
}

func FuzzDecodeTaskRecord(f *testing.F) {
	f.Add(encodeTaskRecord(nil, &taskRecord{strings.Repeat("x", 200), samplePosition()}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := decodeTaskRecord(b); err == nil {
			again, err := decodeTaskRecord(encodeTaskRecord(nil, &r))
			if err != nil || !reflect.DeepEqual(again, r) {
				t.Fatalf("%+v becomes %+v, %v", r, again, err)
			}
		}
	})
}
