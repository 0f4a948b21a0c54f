package task

import "github.com/oncemill/oncemill/statestore"

// Sample are values of a task that are looked at now and then.
type Sample struct {
	// StreamTimers, WallTimers and Parked are counted up to the limit.
	StreamTimers, WallTimers, Parked int64
	Markers                          []MarkerSample
}

// MarkerSample are values of the markers of one source.
type MarkerSample struct {
	Source int    // node
	Count  uint64 // estimate
	// HorizonMillis is the stream time from which on ids are remembered; false before the first record.
	HorizonMillis int64
	HasHorizon    bool
}

// Sample counts timers and parked records, each up to limit, and estimates markers. It is called between transactions.
func (t *Task) Sample(limit int64) (Sample, error) {
	var s Sample
	var err error
	if t.timers != nil {
		if s.StreamTimers, err = countKeys(t.timers.view, []byte{'d', byte(statestore.StreamTime)}, limit); err != nil {
			return s, err
		}
		if s.WallTimers, err = countKeys(t.timers.view, []byte{'d', byte(statestore.WallClock)}, limit); err != nil {
			return s, err
		}
	}
	if t.parked != nil {
		if s.Parked, err = countKeys(t.parked.view, []byte{'p'}, limit); err != nil {
			return s, err
		}
	}
	for i := range t.sources {
		src := &t.sources[i]
		if src.guard == nil || src.input.Replay || !src.isFirstOf(t.sources[:i]) {
			continue
		}
		m := MarkerSample{Source: src.node.Index}
		if m.Count, err = t.state.View(src.store).ApproximateCount(); err != nil {
			return s, err
		}
		for _, h := range t.committed.Horizons {
			if h.Store == src.store.ID() {
				// TimeAt is when the newest live bucket begins: that of the oldest begins so many buckets before.
				m.HorizonMillis, m.HasHorizon = src.guard.TimeAt(h.Bucket-uint64(src.guard.LiveBuckets()-1)), true
			}
		}
		s.Markers = append(s.Markers, m)
	}
	return s, nil
}

// countKeys counts the keys with a prefix, up to limit.
func countKeys(v *statestore.View, prefix []byte, limit int64) (n int64, err error) {
	it := v.Iterate(prefix, prefixEnd(prefix), false)
	defer it.Close()
	for n < limit && it.Next() {
		n++
	}
	return n, it.Err()
}
