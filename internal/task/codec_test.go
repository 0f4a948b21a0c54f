package task

import (
	"bytes"
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/statestore"
)

func aParkedRecord() *parkedRecord {
	return &parkedRecord{source: "commands", attempts: 3, raw: record.Raw{
		Key: []byte("k"), Value: []byte{}, Timestamp: time.UnixMilli(1_700_000_000_123),
		Headers:  []record.Header{{Key: "a", Value: nil}, {Key: "a", Value: []byte{}}, {Key: "b", Value: []byte("x")}},
		Position: record.Position{Topic: "commands", Partition: 2, Offset: 1 << 40}, TopicID: [16]byte{1, 2}, LeaderEpoch: -1,
	}}
}

func TestParkedRecordComesBack(t *testing.T) {
	want := aParkedRecord()
	got, err := decodeParked(appendParked(nil, want))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%+v, %v; want %+v", got, err, want)
	}
}

// The durable bytes of version 1 do not change.
func TestDurableBytesOfVersion1(t *testing.T) {
	parked := "\x01\x09commands\x00\x00\x00\x03\x09commands\x01\x02" + string(make([]byte, 14)) + "\x00\x00\x00\x02" +
		"\x00\x00\x01\x00\x00\x00\x00\x00" + "\x00\x00\x01\x8b\xcf\xe5\x68\x7b" + "\x02k\x01" + "\x00\x00\x00\x03" + "\x02a\x00\x02a\x01\x02b\x02x"
	if got := appendParked(nil, aParkedRecord()); string(got) != parked {
		t.Errorf("parked record %q, want %q", got, parked)
	}
	f := &firing{clock: statestore.WallClock, due: -1, number: 7, node: "n", store: 0x01020304, key: []byte("k"), name: "", payload: nil}
	if got, want := appendTimer(nil, f), "\x01\x02n\x01\x02\x03\x04\x02k\x01\x00"; string(got) != want {
		t.Errorf("timer %q, want %q", got, want)
	}
	if got, want := dueKey(f.clock, f.due, f.number), "d\x02\x7f\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00\x00\x00\x00\x07"; string(got) != want {
		t.Errorf("due key %q, want %q", got, want)
	}
	if got, want := identityKey(f.store, f.key, "x"), "i\x01\x02\x03\x04\x00\x00\x00\x01kx"; string(got) != want {
		t.Errorf("identity key %q, want %q", got, want)
	}
	m := Metadata{N: 300, Attempt: 1 << 60, StreamTime: -5, Logs: []LogEnd{{Topic: 9, End: 128, Epoch: -1}}}
	if got, want := m.Encode(), "oncemill1:rAIQAAAAAAAAAAkAAAAAAAAAAAEAAAAJgAE"; got != want { // as before there were epochs
		t.Errorf("metadata %q, want %q", got, want)
	}
	m.Logs[0].Epoch = 7
	if got, want := m.Encode(), "oncemill1:rAIQAAAAAAAAAAkAAAAAAAAAAAEAAAAJgAEI"; got != want {
		t.Errorf("metadata %q, want %q", got, want)
	}
}

func TestTimersSortByTheirTime(t *testing.T) {
	times := []int64{math.MinInt64, -5, -1, 0, 1, 1 << 40, math.MaxInt64}
	for i := 1; i < len(times); i++ {
		if bytes.Compare(dueKey(statestore.StreamTime, times[i-1], 9), dueKey(statestore.StreamTime, times[i], 1)) >= 0 {
			t.Errorf("a timer at %d does not come before one at %d", times[i-1], times[i])
		}
	}
}

func TestNewerFormatsAreRefused(t *testing.T) {
	parked := appendParked(nil, aParkedRecord())
	parked[0]++
	if _, err := decodeParked(parked); problem.CodeOf(err) != problem.BadDurableBytes {
		t.Errorf("parked record: %v", err)
	}
	timer := appendTimer(nil, &firing{})
	timer[0]++
	if _, err := decodeTimer(dueKey(statestore.WallClock, 1, 1), timer); problem.CodeOf(err) != problem.BadDurableBytes {
		t.Errorf("timer: %v", err)
	}
	if _, ours, err := DecodeMetadata("oncemill2:AA"); !ours || problem.CodeOf(err) != problem.DirectoryNewer {
		t.Errorf("metadata: %v %v", ours, err)
	}
	if _, ours, err := DecodeMetadata("moved by hand"); ours || err != nil {
		t.Errorf("metadata of others: %v %v", ours, err)
	}
}

func TestMetadataComesBack(t *testing.T) {
	logs := make([]LogEnd, 100)
	for i := range logs {
		logs[i] = LogEnd{Topic: math.MaxUint32 - uint32(i), End: math.MaxInt64, Epoch: math.MaxInt32 - 1}
	}
	for _, want := range []Metadata{{}, {N: math.MaxUint64, Attempt: math.MaxUint64, StreamTime: statestore.MinStreamTime, Logs: logs}} {
		text := want.Encode()
		if len(text) > MaxMetadataBytes {
			t.Errorf("the metadata of %d changelogs has %d characters, Kafka takes %d", len(want.Logs), len(text), MaxMetadataBytes)
		}
		got, ours, err := DecodeMetadata(text)
		if err != nil || !ours || !reflect.DeepEqual(got, want) {
			t.Errorf("%+v, %v, %v", got, ours, err)
		}
	}
}

func FuzzDecodeParked(f *testing.F) {
	f.Add(appendParked(nil, aParkedRecord()))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := decodeParked(b)
		if err != nil {
			return
		}
		again, err := decodeParked(appendParked(nil, p))
		if err != nil || !reflect.DeepEqual(again, p) {
			t.Fatalf("%+v, %v; want %+v", again, err, p)
		}
	})
}

func FuzzDecodeTimer(f *testing.F) {
	f.Add(dueKey(statestore.WallClock, 5, 6), appendTimer(nil, &firing{node: "n", key: []byte("k"), name: "x", payload: []byte{}}))
	f.Fuzz(func(t *testing.T, key, value []byte) {
		timer, err := decodeTimer(key, value)
		if err != nil {
			return
		}
		if again := dueKey(timer.clock, timer.due, timer.number); !bytes.Equal(again, key) {
			t.Fatalf("key %q came back as %q", key, again)
		}
	})
}

func FuzzDecodeMetadata(f *testing.F) {
	m := Metadata{N: 3, Attempt: 5, StreamTime: 4, Logs: []LogEnd{{Topic: 1, End: 2}, {Topic: 2, End: 3, Epoch: -1}}}
	f.Add(m.Encode())
	f.Add("oncemill1:")
	f.Fuzz(func(t *testing.T, s string) {
		m, ours, err := DecodeMetadata(s)
		if err != nil || !ours {
			return
		}
		again, _, err := DecodeMetadata(m.Encode())
		if err != nil || !reflect.DeepEqual(again, m) {
			t.Fatalf("%+v, %v; want %+v", again, err, m)
		}
	})
}

func TestMemoryIsUsedAgainOnlyAfterReset(t *testing.T) {
	var m memory
	for round := range 3 {
		var kept [][]byte
		var headers [][]record.Header
		for i := range 5000 {
			b := append(m.buffer(0), bytes.Repeat([]byte{byte(i)}, i%1500)...)
			m.keep(b)
			kept = append(kept, b)
			h := append(m.newHeaders(3), record.Header{Key: "a", Value: []byte{byte(i)}})
			headers = append(headers, h)
		}
		for i := range kept {
			if !bytes.Equal(kept[i], bytes.Repeat([]byte{byte(i)}, i%1500)) || headers[i][0].Value[0] != byte(i) {
				t.Fatalf("round %d: entry %d was overwritten", round, i)
			}
		}
		m.reset()
	}
	if large := m.newHeaders(10_000); cap(large) != 10_000 {
		t.Fatalf("room for %d headers, want 10,000", cap(large))
	}
	if large := m.buffer(1 << 20); cap(large) < 1<<20 {
		t.Fatalf("room for %d bytes, want 1 MiB", cap(large))
	}
	if c := m.copy(nil); c != nil {
		t.Fatal("null became empty")
	}
	if c := m.copy([]byte{}); c == nil {
		t.Fatal("empty became null")
	}
}
