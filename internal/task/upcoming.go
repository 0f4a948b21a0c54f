package task

import (
	"cmp"
	"encoding/binary"
	"math"
	"slices"

	"github.com/oncemill/oncemill/statestore"
)

// dueAt orders the timers of one clock.
type dueAt struct {
	due    int64
	number uint64
}

func (a dueAt) compare(b dueAt) int {
	return cmp.Or(cmp.Compare(a.due, b.due), cmp.Compare(a.number, b.number))
}

func (a dueAt) key(clock statestore.Clock) []byte { return dueKey(clock, a.due, a.number) }

var (
	firstOfAll = dueAt{due: math.MinInt64}
	afterAll   = dueAt{math.MaxInt64, math.MaxUint64}
)

const (
	// maxUpcoming bounds the timers of a clock whose places are known, 16 bytes each.
	maxUpcoming = 512
	// readUpcoming is how many are read at once, and how many are kept when there are too many.
	readUpcoming = maxUpcoming / 2
)

// upcoming knows the places of the first timers of a clock. A timer that fired or was replaced leaves a tombstone, which
// lies in front of the ones to come until a compaction: whoever looks for the first timer from the beginning walks over all
// of them for each, which made n timers cost n² steps. So a tombstone is walked over once for readUpcoming timers at most.
//
// Invariants, of the timers that the open transaction sees:
//
//	every one below end is in known
//	known is in order, each is below end, each is set
type upcoming struct {
	known []dueAt
	end   dueAt
	// Since the mark: what was put and removed, unless lost says that this does not lead back. Below before there was no timer.
	undo   []change
	lost   bool
	before dueAt
}

type change struct {
	at  dueAt
	put bool
}

// forget is for what happens to the store beside put and remove.
func (u *upcoming) forget() {
	u.known, u.end = u.known[:0], firstOfAll
	u.mark()
}

func (u *upcoming) mark() { u.undo, u.lost = u.undo[:0], false }

func (u *upcoming) rollback() {
	if u.lost {
		u.known, u.end = u.known[:0], u.before
	}
	for i := len(u.undo) - 1; i >= 0 && !u.lost; i-- {
		if c := u.undo[i]; c.put {
			u.drop(c.at)
		} else {
			u.insert(c.at)
		}
	}
	u.mark()
}

// note is called before a change.
func (u *upcoming) note(c change) {
	if len(u.undo) == 0 && !u.lost {
		u.before = u.end
		if len(u.known) > 0 {
			u.before = u.known[0]
		}
	}
	if u.undo = append(u.undo, c); len(u.undo) > maxUpcoming {
		u.lose()
	}
}

// lose is called when end moves: the way back is to read again.
func (u *upcoming) lose() {
	if len(u.undo) == 0 && !u.lost {
		u.before = u.end
	}
	u.undo, u.lost = u.undo[:0], true
}

func (u *upcoming) put(at dueAt) {
	if at.compare(u.end) >= 0 {
		return
	}
	u.note(change{at, true})
	if u.insert(at); len(u.known) > maxUpcoming {
		u.end = u.known[readUpcoming]
		u.known = u.known[:readUpcoming]
		u.lose()
	}
}

func (u *upcoming) remove(at dueAt) {
	if at.compare(u.end) >= 0 {
		return
	}
	u.note(change{at, false})
	u.drop(at)
}

func (u *upcoming) insert(at dueAt) {
	if i, found := slices.BinarySearchFunc(u.known, at, dueAt.compare); !found {
		u.known = slices.Insert(u.known, i, at)
	}
}

func (u *upcoming) drop(at dueAt) {
	if i, found := slices.BinarySearchFunc(u.known, at, dueAt.compare); found {
		u.known = slices.Delete(u.known, i, i+1)
	}
}

// first returns the place of the first timer; false when there is none.
func (u *upcoming) first(v *statestore.View, clock statestore.Clock) (dueAt, bool, error) {
	if len(u.known) == 0 && u.end != afterAll {
		if err := u.read(v, clock); err != nil {
			return dueAt{}, false, err
		}
	}
	if len(u.known) == 0 {
		return dueAt{}, false, nil
	}
	return u.known[0], true, nil
}

// read gets to know the next timers from end on.
func (u *upcoming) read(v *statestore.View, clock statestore.Clock) error {
	it := v.Iterate(u.end.key(clock), prefixEnd([]byte{'d', byte(clock)}), false)
	defer it.Close()
	u.lose()
	end := afterAll
	for it.Next() {
		at, err := placeOf(it.Key())
		if err != nil {
			u.known = u.known[:0]
			return err
		}
		if len(u.known) == readUpcoming {
			end = at
			break
		}
		u.known = append(u.known, at)
	}
	if err := it.Err(); err != nil {
		u.known = u.known[:0]
		return err
	}
	u.end = end
	return nil
}

// placeOf reads a due key.
func placeOf(key []byte) (dueAt, error) {
	if len(key) != 18 || key[0] != 'd' {
		return dueAt{}, badTimer("key")
	}
	return dueAt{int64(binary.BigEndian.Uint64(key[2:]) ^ 1<<63), binary.BigEndian.Uint64(key[10:])}, nil
}
