package statestore_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/oncemill/oncemill/statestore"
)

// check compares one task with the replay of its changelog: lookups, and scans in both directions.
func (m *machine) check(i int) {
	state := map[*statestore.Declaration]map[string]string{counts: {}, markers: {}}
	for _, tx := range m.logs[i] {
		for _, w := range tx.writes {
			if delete(state[w.store], w.key); !w.tombstone {
				state[w.store][w.key] = w.value
			}
		}
	}
	horizon := binary.BigEndian.AppendUint64(nil, m.horizon(i))
	for k := range state[markers] {
		if k < string(horizon) {
			delete(state[markers], k)
			m.reached["expired"]++
		}
	}
	for _, d := range stores {
		m.checkStore(m.tasks[i].View(d), state[d])
	}
}

func (m *machine) checkStore(v *statestore.View, want map[string]string) {
	name := v.Declaration().Name
	for n := range machineKeys {
		key := fmt.Sprintf("k%02d", n)
		if v.Declaration() == markers {
			key = string(binary.BigEndian.AppendUint64(nil, uint64(m.rng.IntN(8)))) + key
		}
		value, found, err := v.Get([]byte(key))
		expected, has := want[key]
		if err != nil || found != has || string(value) != expected {
			m.fatalf("%s %q: %q, %v, %v; want %q, %v", name, key, value, found, err, expected, has)
		}
	}
	keys := slices.Sorted(maps.Keys(want))
	for _, reverse := range []bool{false, true} {
		it := v.Iterate(nil, nil, reverse)
		for _, k := range keys {
			if !it.Next() || !bytes.Equal(it.Key(), []byte(k)) || string(it.Value()) != want[k] {
				m.fatalf("%s reverse %v: at %q=%q (%v), want %q=%q", name, reverse, it.Key(), it.Value(), it.Err(), k, want[k])
			}
		}
		if it.Next() || it.Err() != nil {
			m.fatalf("%s reverse %v: more keys: %q, %v", name, reverse, it.Key(), it.Err())
		}
		it.Close()
		slices.Reverse(keys)
	}
}
