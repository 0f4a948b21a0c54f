package dedup

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/record"
)

const (
	testWindow = 1000 * time.Millisecond // buckets of 500 ms
	testStart  = int64(1_700_000_000_000)
)

var testTopic = [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}

// memoryMarkers is a store that hands out one value buffer, as the real one does: what is kept from it goes bad.
type memoryMarkers struct {
	entries map[string][]byte
	value   []byte
	gets    int
}

func newMemoryMarkers() *memoryMarkers { return &memoryMarkers{entries: map[string][]byte{}} }

func (m *memoryMarkers) Get(key []byte) ([]byte, bool, error) {
	m.gets++
	for i := range m.value {
		m.value[i] = 0xee
	}
	v, found := m.entries[string(key)]
	m.value = append(m.value[:0], v...)
	return m.value, found, nil
}

func (m *memoryMarkers) Put(key, value []byte) error {
	m.entries[string(key)] = bytes.Clone(value)
	return nil
}

// evict drops every bucket below the horizon, as the store may do at any time.
func (m *memoryMarkers) evict(horizon uint64) {
	for k := range m.entries {
		if binary.BigEndian.Uint64([]byte(k)) < horizon {
			delete(m.entries, k)
		}
	}
}

func (m *memoryMarkers) buckets() map[uint64]int {
	n := map[uint64]int{}
	for k := range m.entries {
		n[binary.BigEndian.Uint64([]byte(k))]++
	}
	return n
}

// message builds a record with the id in the header "id"; the zero id means none.
type message struct {
	id, key, value string
	at             int64 // milliseconds after testStart
	offset         int64
	topic          [16]byte
	headers        []record.Header
}

func (m message) raw() *record.Raw {
	r := &record.Raw{
		Key: []byte(m.key), Value: []byte(m.value), Timestamp: time.UnixMilli(testStart + m.at), Headers: m.headers,
		Position: record.Position{Topic: "orders", Partition: 3, Offset: m.offset}, TopicID: m.topic,
	}
	if m.topic == ([16]byte{}) {
		r.TopicID = testTopic
	}
	if m.id != "" {
		r.Headers = append([]record.Header{{Key: "id", Value: []byte(m.id)}}, m.headers...)
	}
	return r
}

func (m message) replay(number, force string) *record.Raw {
	m.topic = [16]byte{0xee}
	m.headers = []record.Header{{Key: record.HeaderReplay, Value: []byte(number)}}
	if force != "" {
		m.headers = append(m.headers, record.Header{Key: HeaderForce, Value: []byte(force)})
	}
	return m.raw()
}

// miniTask does with decisions what the engine's task does, and counts.
type miniTask struct {
	t       *testing.T
	guard   *Guard
	store   *memoryMarkers
	time    int64
	runs    int
	letters []*problem.Error // nil for a dead letter of the handler's failure
	sent    []Output
	// handle is the handler together with the failure policy; nil means Applied without outputs. Outcome 0 means that
	// the transaction is aborted: nothing is recorded.
	handle func(r *record.Raw) (Outcome, []Output)
}

func newMiniTask(t *testing.T, c Config) *miniTask {
	t.Helper()
	if c.ID.Of == nil {
		c.ID = Header("id")
	}
	if c.Window == 0 {
		c.Window = testWindow
	}
	k := &miniTask{t: t, store: newMemoryMarkers(), time: -1 << 62}
	k.guard = newTestGuard(t, c, k.store)
	return k
}

func newTestGuard(t testing.TB, c Config, m Markers) *Guard {
	t.Helper()
	g, err := NewGuard(c, "shop", "commands", m)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func (k *miniTask) feed(r *record.Raw) Decision { return k.step(r, FromSource) }

func (k *miniTask) step(r *record.Raw, from Origin) Decision {
	k.t.Helper()
	d, err := k.guard.Check(r, from, k.time)
	if err != nil {
		k.t.Fatalf("Check %v: %v", r.Position, err)
	}
	outcome, outputs := DeadLettered, []Output(nil)
	switch d.Action {
	case Run:
		k.runs++
		outcome = Applied
		if k.handle != nil {
			outcome, outputs = k.handle(r)
		}
		if outcome == 0 {
			return d
		}
		if outcome == DeadLettered {
			k.letters = append(k.letters, nil)
		}
		k.sent = append(k.sent, outputs...)
	case Replay:
		recorded, err := d.Marker.Outputs()
		if err != nil {
			k.t.Fatal(err)
		}
		k.sent = append(k.sent, recorded...)
		return d
	case Quarantine:
		k.letters = append(k.letters, d.Reason)
	default:
		return d
	}
	k.time = max(k.time, r.Timestamp.UnixMilli())
	if err := k.guard.Record(&d, r, k.time, outcome, outputs); err != nil {
		k.t.Fatalf("Record %v: %v", r.Position, err)
	}
	return d
}

func (k *miniTask) want(d Decision, v Verdict, a Action) {
	k.t.Helper()
	if d.Verdict != v || d.Action != a {
		k.t.Fatalf("decision %s, %s (reason %v); want %s, %s", d.Verdict, d.Action, d.Reason, v, a)
	}
}

func (k *miniTask) counts(runs, letters int) {
	k.t.Helper()
	if k.runs != runs || len(k.letters) != letters {
		k.t.Fatalf("%d runs and %d dead letters, want %d and %d", k.runs, len(k.letters), runs, letters)
	}
}

// outcomes makes a handler that ends as given, one call after the other, and Applied after that.
func outcomes(list ...Outcome) func(*record.Raw) (Outcome, []Output) {
	return func(*record.Raw) (Outcome, []Output) {
		if len(list) == 0 {
			return Applied, nil
		}
		o := list[0]
		list = list[1:]
		return o, nil
	}
}
