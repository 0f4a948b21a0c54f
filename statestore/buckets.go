package statestore

import (
	"errors"

	"github.com/oncemill/oncemill/internal/delta"
)

// Most ids are new, so most lookups of markers are for keys that exist nowhere. They would ask every generation and the
// engine, for each live bucket. Therefore a view of markers keeps a filter per bucket over all its keys, uncommitted ones
// included, and a lookup that the filter denies ends there.
//
// Invariant: a complete filter holds every key of its bucket in overlay, generations and engine. All keys get there
// through set and ApplyRestored, which add them; what was there before the bucket was first touched is found by
// newBucket and, in the engine, by scanBuckets. Keys that were rolled back or deleted stay in it and cost only lookups.
// A filter that may not grow is dropped, and its bucket is looked up as if there were none.

// scanLimit is how many keys of the engine one Tick adds to filters: a millisecond or two.
const scanLimit = 4096

// bucketState is what a view of markers knows of a live bucket.
type bucketState struct {
	number uint64
	// engine says whether the reader sees a key of the bucket.
	engine knowledge
	// filter is nil if it was dropped.
	filter   *delta.Filter
	complete bool
	// denied is the last hash that was denied, if nothing was added since: an id that is looked up is written next.
	denied    uint64
	hasDenied bool
	next      []byte // the engine key from which the scan goes on, while the filter is not complete
}

type knowledge uint8

const (
	unknown knowledge = iota
	none
	some
)

// denies reports that the key is certainly nowhere; h is its Hash64.
func (b *bucketState) denies(h uint64) bool {
	if !b.complete || b.filter.MayContain(h) {
		return false
	}
	b.denied, b.hasDenied = h, true
	return true
}

func (b *bucketState) add(h uint64) {
	isNew := b.hasDenied && b.denied == h
	b.hasDenied = false
	if b.filter == nil || isNew && b.filter.AddNew(h) || !isNew && b.filter.Add(h) {
		return
	}
	b.drop()
}

func (b *bucketState) drop() {
	if b.filter != nil {
		b.filter.Free()
	}
	b.filter, b.complete, b.next = nil, false, nil
}

// bucket returns what is known of a bucket. The pointer is valid until the next call.
func (v *View) bucket(number uint64) (*bucketState, error) {
	for i := len(v.buckets) - 1; i >= 0; i-- {
		if v.buckets[i].number == number {
			return &v.buckets[i], nil
		}
	}
	return v.newBucket(number)
}

// newBucket is called when a bucket is touched for the first time, before this view writes anything to it. Where the engine
// has nothing of it, its filter is complete from the start.
func (v *View) newBucket(number uint64) (*bucketState, error) {
	if !v.topKnown {
		v.findTop()
	}
	b := bucketState{number: number, filter: delta.NewFilter(&v.task.db.accounts.filters, v.task.db.cfg.FilterBytes)}
	if err := v.askEngine(&b); err != nil {
		return nil, err
	}
	if number < v.top {
		v.addTables(&b)
	}
	b.complete = b.engine == none && b.filter != nil
	if !b.complete {
		if err := v.prepareScan(&b); err != nil {
			b.drop()
			return nil, err
		}
	}
	v.buckets = append(v.buckets, b)
	return &v.buckets[len(v.buckets)-1], nil
}

// addToFilter is called with each key before it is written. It returns the key's hash for tables.
func (v *View) addToFilter(key []byte) (uint32, error) {
	h := v.task.db.pool.Hash64(key)
	if v.decl.Kind == KindMarkers {
		b, err := v.bucket(bucketOf(key))
		if err != nil {
			return 0, err
		}
		b.add(h)
		v.top = max(v.top, b.number+1)
	}
	return delta.TableHash(h), nil
}

// findTop finds the end of the buckets that the last owner of the task left in memory.
func (v *View) findTop() {
	for _, t := range []*delta.Table{v.active, v.prev} {
		t.Each(func(key, _ []byte, _ bool) bool {
			v.top = max(v.top, bucketOf(key)+1)
			return true
		})
	}
	v.topKnown = true
}

func (v *View) addTables(b *bucketState) {
	for _, t := range []*delta.Table{v.overlay.Table(), v.active, v.prev} {
		t.Each(func(key, _ []byte, _ bool) bool {
			if bucketOf(key) == b.number {
				b.add(v.task.db.pool.Hash64(key))
			}
			return b.filter != nil
		})
	}
}

// prepareScan makes the filter of a bucket that the engine has keys of ready to be completed, or drops it if there is no
// room for so many.
func (v *View) prepareScan(b *bucketState) error {
	if b.filter == nil {
		return nil
	}
	lower := bucketKey(v.task.st.prefix, v.id, b.number)
	n, err := v.task.db.cfg.Engine.ApproximateCount(lower, prefixEnd(lower))
	if err != nil {
		return err
	}
	if delta.FilterBytes(n) > uint64(max(0, v.task.db.cfg.FilterBytes-v.task.db.accounts.filters.Bytes())) {
		b.drop()
		return nil
	}
	b.next = lower
	return nil
}

// askEngine saves the lookups in a bucket that the engine has nothing of, such as the newest.
func (v *View) askEngine(b *bucketState) (err error) {
	if b.engine != unknown {
		return nil
	}
	lower := bucketKey(v.task.st.prefix, v.id, b.number)
	c, err := v.task.reader.Cursor(lower, prefixEnd(lower))
	if err != nil {
		return err
	}
	found := c.SeekGE(lower)
	if err := errors.Join(c.Err(), c.Close()); err != nil {
		return err
	}
	if b.engine = none; found {
		b.engine = some
	}
	return nil
}

// scanBuckets completes filters, some keys at a time. The reader may have been renewed since the last time: a key that
// came to the engine meanwhile went through this view, or was in the tables when the bucket was first touched.
func (v *View) scanBuckets(limit int) error {
	for i := range v.buckets {
		b := &v.buckets[i]
		if b.filter == nil || b.complete {
			continue
		}
		n, err := v.scan(b, limit)
		if limit -= n; err != nil || limit <= 0 {
			return err
		}
	}
	return nil
}

func (v *View) scan(b *bucketState, limit int) (n int, err error) {
	c, err := v.task.reader.Cursor(b.next, prefixEnd(bucketKey(v.task.st.prefix, v.id, b.number)))
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	ok := c.SeekGE(b.next)
	for ; ok && n < limit; ok = c.Next() {
		if b.add(v.task.db.pool.Hash64(c.Key()[storePrefixLen:])); b.filter == nil {
			return n, c.Err()
		}
		n++
	}
	if ok {
		b.next = append(b.next[:0], c.Key()...)
	} else if c.Err() == nil {
		b.complete, b.next = true, nil
	}
	return n, c.Err()
}

// dropExpiredBuckets forgets what lies below the committed horizon.
func (v *View) dropExpiredBuckets() {
	v.keepBuckets(func(b *bucketState) bool { return b.number >= v.horizon })
}

// forgetBuckets forgets everything: the task is empty, or given up.
func (v *View) forgetBuckets() {
	v.keepBuckets(func(*bucketState) bool { return false })
	v.top, v.topKnown = 0, false
}

func (v *View) keepBuckets(keep func(*bucketState) bool) {
	kept := v.buckets[:0]
	for i := range v.buckets {
		if keep(&v.buckets[i]) {
			kept = append(kept, v.buckets[i])
		} else {
			v.buckets[i].drop()
		}
	}
	clear(v.buckets[len(kept):])
	v.buckets = kept
}

// forgetEngine is called before the reader is renewed. A bucket that has a key keeps having one until it expires.
func (v *View) forgetEngine() {
	for i := range v.buckets {
		if b := &v.buckets[i]; b.engine == none {
			b.engine = unknown
		}
	}
}
