package task

import (
	"encoding/binary"

	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/record"
)

// TimerKey is one of the two keys that a timer has in its store, taken apart.
type TimerKey struct {
	// Due is set for the key that orders timers by time, and not for the one that finds a timer by its identity.
	Due bool
	// Order is the due key of the timer: both its keys lead to the same one.
	Order [18]byte
	// Identity is the identity key of the timer: both its keys lead to the same one.
	Identity []byte
	// Store and Key are what the timer is set on.
	Store uint32
	Key   []byte
}

// ReadTimerKey takes an entry of a timer store apart. An error has the code BadDurableBytes.
func ReadTimerKey(key, value []byte) (TimerKey, error) {
	if len(key) > 0 && key[0] == 'd' {
		f, err := decodeTimer(key, value)
		if err != nil {
			return TimerKey{}, err
		}
		return TimerKey{Due: true, Order: [18]byte(key), Identity: identityKey(f.store, f.key, f.name), Store: f.store, Key: f.key}, nil
	}
	bad := problem.New(problem.BadDurableBytes, "timer store", "the key %q is not that of a timer", key)
	if len(key) < 9 || key[0] != 'i' || len(value) != 17 {
		return TimerKey{}, bad
	}
	n := binary.BigEndian.Uint32(key[5:])
	if uint64(n) > uint64(len(key)-9) {
		return TimerKey{}, bad
	}
	t := TimerKey{Identity: key, Store: binary.BigEndian.Uint32(key[1:]), Key: key[9 : 9+n]}
	t.Order[0] = 'd'
	copy(t.Order[1:], value)
	return t, nil
}

// ParkedEntry is an entry of a store of parked records, taken apart.
type ParkedEntry struct {
	// Queued is set for an entry of a key's queue; it has a Number only.
	Queued bool
	Number uint64
	Source string
	Record record.Raw
}

// ReadParked takes an entry of a store of parked records apart; its slices lie in key and value. An error has the code
// BadDurableBytes.
func ReadParked(key, value []byte) (ParkedEntry, error) {
	switch {
	case len(key) == 9 && key[0] == 'p':
		p, err := decodeParked(value)
		if err != nil {
			return ParkedEntry{}, err
		}
		return ParkedEntry{Number: binary.BigEndian.Uint64(key[1:]), Source: p.source, Record: p.raw}, nil
	case len(key) == 25 && key[0] == 'q':
		return ParkedEntry{Queued: true, Number: binary.BigEndian.Uint64(key[17:])}, nil
	}
	return ParkedEntry{}, problem.New(problem.BadDurableBytes, "parked store", "the key %q is not that of a parked record", key)
}

// OriginOf says by which door the records of an input come.
func OriginOf(replay bool) dedup.Origin {
	if replay {
		return dedup.FromReplay
	}
	return dedup.FromSource
}
