package task

import (
	"bytes"

	"github.com/oncemill/oncemill/statestore"
)

// tally counts the keys of a store that begin with a prefix, without ever walking over all of them at once: scan counts a
// piece at a time, and what is written to the part that is counted already is added as it goes.
//
// Invariant: n is the number of keys below upTo, of all keys once whole is set.
type tally struct {
	prefix []byte
	upTo   []byte
	whole  bool
	// n is that of the open transaction, marked that of its mark, confirmed that of the last confirmed one.
	n, marked, confirmed int64
}

func newTally(prefix ...byte) tally { return tally{prefix: prefix, upTo: bytes.Clone(prefix)} }

// add notes that a key that was not there is (by 1), or that one that was is not (by -1).
func (c *tally) add(key []byte, by int64) {
	if c.whole || bytes.Compare(key, c.upTo) < 0 {
		c.n += by
	}
}

func (c *tally) mark()     { c.marked = c.n }
func (c *tally) rollback() { c.n = c.marked }
func (c *tally) confirm()  { c.confirmed, c.marked = c.n, c.n }
func (c *tally) abort()    { c.n, c.marked = c.confirmed, c.confirmed }

// scan counts up to limit keys more. It is called between transactions.
func (c *tally) scan(v *statestore.View, limit int64) error {
	if c.whole {
		return nil
	}
	it := v.Iterate(c.upTo, prefixEnd(c.prefix), false)
	defer it.Close()
	counted, more := int64(0), true
	for counted < limit && more {
		if more = it.Next(); more {
			counted++
		}
	}
	if err := it.Err(); err != nil {
		return err
	}
	if c.whole = !more; more {
		c.upTo = append(append(c.upTo[:0], it.Key()...), 0) // the least key above it
	}
	c.n += counted
	c.confirm()
	return nil
}
