package task

import "github.com/oncemill/oncemill/statestore"

// Sample are values of a task that are looked at now and then.
type Sample struct {
	// StreamTimers and WallTimers are those that are set; Parked are the records that wait for a retry, which is a wall-clock timer
	// too unless it waits behind another. A task that has just started counts them piece by piece: the numbers rise until all
	// are counted.
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

// Sample tells how many timers and parked records there are, and estimates markers. It looks at up to limit keys of each
// that it has not counted yet. It is called between transactions.
func (t *Task) Sample(limit int64) (Sample, error) {
	var s Sample
	var err error
	if t.timers != nil {
		for _, c := range clocks {
			if err = t.timers.pending[c].scan(t.timers.view, limit); err != nil {
				return s, err
			}
		}
		s.StreamTimers, s.WallTimers = t.timers.pending[statestore.StreamTime].n, t.timers.pending[statestore.WallClock].n
	}
	if t.parked != nil {
		if err = t.parked.count.scan(t.parked.view, limit); err != nil {
			return s, err
		}
		s.Parked = t.parked.count.n
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
