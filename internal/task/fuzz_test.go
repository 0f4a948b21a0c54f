package task

import (
	"testing"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/statestore"
)

// Both keys of a timer, and both kinds of entries of parked records, as offline readers take them apart.
func FuzzReadEntries(f *testing.F) {
	timer := &firing{node: "n", store: 3, key: []byte("k"), name: "x", payload: []byte{}}
	due := dueKey(statestore.WallClock, 5, 6)
	f.Add(due, appendTimer(nil, timer))
	f.Add(identityKey(timer.store, timer.key, timer.name), due[1:])
	f.Add(append([]byte{'p'}, make([]byte, 8)...), appendParked(nil, aParkedRecord()))
	f.Add(append([]byte{'q'}, make([]byte, 24)...), []byte{})
	f.Fuzz(func(t *testing.T, key, value []byte) {
		k, err := ReadTimerKey(key, value)
		if err != nil && problem.CodeOf(err) != problem.BadDurableBytes {
			t.Fatal(err)
		}
		if err == nil && (k.Order[0] != 'd' || len(k.Key) > len(key)+len(value)) {
			t.Fatalf("%q: %+v", key, k)
		}
		p, err := ReadParked(key, value)
		if err != nil && problem.CodeOf(err) != problem.BadDurableBytes {
			t.Fatal(err)
		}
		if err == nil && len(p.Record.Value) > len(value) {
			t.Fatalf("%q: %+v", key, p)
		}
	})
}
