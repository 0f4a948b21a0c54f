package dedup

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/oncemill/oncemill/record"
)

// absent is a store that has nothing and keeps nothing: what is measured is the Guard.
type absent struct{}

func (absent) Get([]byte) ([]byte, bool, error) { return nil, false, nil }
func (absent) Put(_, _ []byte) error            { return nil }

// present finds one marker under every key.
type present struct{ value []byte }

func (p present) Get([]byte) ([]byte, bool, error) { return p.value, true, nil }
func (p present) Put(_, _ []byte) error            { return nil }

func benchRecord() *record.Raw {
	return &record.Raw{Key: []byte("customer-4711"), Value: bytes.Repeat([]byte("v"), 87), Timestamp: time.UnixMilli(testStart),
		Headers:  []record.Header{{Key: "trace", Value: []byte("t")}, {Key: "id", Value: []byte("0190d3e6-7c1a-7b3c-9f00-0123456789ab")}},
		Position: record.Position{Topic: "orders", Partition: 3, Offset: 100_000_000}, TopicID: testTopic}
}

func benchConfigs() map[string]Config {
	base := Config{ID: Header("id"), Window: 7 * 24 * time.Hour}
	bare, issued, content, kind := base, base, base, base
	bare.IgnoreConflicts = true
	issued.IssueTime = UUIDv7()
	issued.FutureSkew = 84 * time.Hour
	content.ID = ContentHash()
	kind.Kind = func(*record.Raw) string { return "Start" }
	return map[string]Config{"conflicts": base, "no-conflicts": bare, "uuidv7": issued, "content": content, "kind": kind}
}

// checkAndRecord is one new record with conflict detection.
func checkAndRecord(g *Guard, r *record.Raw, at int64) error {
	d, err := g.Check(r, FromSource, at)
	if err != nil || d.Verdict != New {
		return fmt.Errorf("%s, %v", d.Verdict, err)
	}
	return g.Record(&d, r, at, Applied, nil)
}

func uuidAt(ms int64) []byte {
	var raw [16]byte
	binary.BigEndian.PutUint64(raw[:8], uint64(ms)<<16|0x7000)
	raw[8] = 0x80
	return fmt.Appendf(nil, "%x-%x-%x-%x-%x", raw[:4], raw[4:6], raw[6:8], raw[8:10], raw[10:])
}

func TestNothingIsAllocatedPerRecord(t *testing.T) {
	for name, c := range benchConfigs() {
		r := benchRecord()
		r.Headers[1].Value = uuidAt(testStart)
		g := newTestGuard(t, c, absent{})
		if n := testing.AllocsPerRun(100, func() {
			if err := checkAndRecord(g, r, testStart); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%s: a new record allocates %v times", name, n)
		}
		value := appendMarker(nil, &Marker{Outcome: Applied, Offset: 1})
		g = newTestGuard(t, c, present{value})
		if n := testing.AllocsPerRun(100, func() {
			if d, err := g.Check(r, FromSource, testStart); err != nil || d.Verdict != Duplicate {
				t.Fatal(d.Verdict, err)
			}
		}); n != 0 {
			t.Errorf("%s: a duplicate allocates %v times", name, n)
		}
	}
	id := []byte("0190d3e6-7c1a-7b3c-9f00-0123456789ab")
	if n := testing.AllocsPerRun(100, func() {
		c := CauseOfMessage("shop", "commands", "", id)
		c.OutputID(SlotOf("decide", 1))
		c.NewID("decide", 1)
		c.Seed("decide")
	}); n != 0 {
		t.Errorf("output ids allocate %v times", n)
	}
}

func BenchmarkCheckAndRecord(b *testing.B) {
	for _, name := range []string{"conflicts", "no-conflicts", "uuidv7", "content"} {
		b.Run(name, func(b *testing.B) {
			r := benchRecord()
			r.Headers[1].Value = uuidAt(testStart)
			g := newTestGuard(b, benchConfigs()[name], absent{})
			b.ReportAllocs()
			for b.Loop() {
				if err := checkAndRecord(g, r, testStart); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkOutputID(b *testing.B) {
	id := []byte("0190d3e6-7c1a-7b3c-9f00-0123456789ab")
	b.ReportAllocs()
	for b.Loop() {
		c := CauseOfMessage("shop", "commands", "", id)
		c.OutputID(SlotOf("decide", 1))
	}
}
