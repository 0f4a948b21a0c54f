package dedup

import "time"

// Buckets cut marker time into pieces of half a window. A marker is written into the bucket of the time at which it is
// written (R8), and is live while its bucket is one of the last few: the current one and `keep` before it.
//
//	bucket(t) = floor(t / length), length = ceil(window / 2), shifted so that unsigned order is the order of time
//	live(b) at t: bucket(t) - keep <= b <= bucket(t)
//
// Invariant: a marker written at t is live at every t' with t <= t' < t + keep*length. With keep = 2 that is the window:
// the same as bucketEnd + window > t'. Ids with issue time keep one bucket more, for the skew between issue time and
// stream time (see Config.FutureSkew).
//
// Two halves rather than 24 small buckets: each live bucket costs a lookup for every id that is not there.
type buckets struct {
	windowMillis int64
	length       int64 // milliseconds, at least 1
	keep         int64 // live buckets before the current one: 2, or 3 with issue time
}

// limitTime bounds times to where arithmetic with windows cannot overflow. It is statestore.MinStreamTime in magnitude.
const limitTime = int64(1) << 62

func newBuckets(window time.Duration, issueTime bool) buckets {
	ms := int64((window + time.Millisecond - 1) / time.Millisecond)
	if window > time.Duration(1<<63-1)-time.Millisecond {
		ms = int64(window / time.Millisecond)
	}
	b := buckets{windowMillis: ms, length: max(1, (ms+1)/2), keep: 2}
	if issueTime {
		b.keep = 3
	}
	return b
}

func clampTime(t int64) int64 { return min(max(t, -limitTime), limitTime) }

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// of returns the bucket of time t.
func (b buckets) of(t int64) uint64 { return uint64(floorDiv(clampTime(t), b.length)) ^ 1<<63 }

// first returns the oldest live bucket at time t.
func (b buckets) first(t int64) uint64 { return b.of(t) - uint64(b.keep) }

// start returns the first millisecond of a bucket.
func (b buckets) start(bucket uint64) int64 {
	n := int64(bucket ^ 1<<63)
	// Horizons that no time leads to (from damaged or foreign bytes) are clamped like times.
	return min(max(n, -limitTime/b.length-1), limitTime/b.length) * b.length
}
