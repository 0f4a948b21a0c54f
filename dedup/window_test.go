package dedup

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/oncemill/oncemill/internal/problem"
)

// bucketEnd is the definition, in numbers without bounds: the smallest multiple of length above t.
func bucketEnd(t, length int64) *big.Int {
	n := new(big.Int).Div(big.NewInt(t), big.NewInt(length)) // Euclidean: the floor, for a positive length
	return n.Add(n, big.NewInt(1)).Mul(n, big.NewInt(length))
}

func TestBucketsHoldTheirDefinition(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		window := time.Duration(2+rnd.Int64N(1<<uint(1+rnd.IntN(40)))) * time.Millisecond
		b := newBuckets(window, false)
		if 2*b.length < b.windowMillis || 2*b.length > b.windowMillis+1 {
			t.Fatalf("window %v: length %d ms", window, b.length)
		}
		written := rnd.Int64N(1<<44) - 1<<43
		now := written + rnd.Int64N(4*b.length)
		end := bucketEnd(written, b.length)
		live := end.Add(end, big.NewInt(2*b.length)).Cmp(big.NewInt(now)) > 0
		if got := b.of(written) >= b.first(now); got != live {
			t.Fatalf("window %v, written %d, now %d: live %t, want %t", window, written, now, got, live)
		}
		if now < written+b.windowMillis && !live {
			t.Fatalf("window %v, written %d, now %d: evicted inside the window", window, written, now)
		}
	}
}

func TestTimesAtTheEdges(t *testing.T) {
	times := []int64{math.MinInt64, -1 << 62, -1<<62 + 1, -1 << 43, -501, -500, -1, 0, 1, 499, 500, testStart, 1 << 62, math.MaxInt64}
	for _, window := range []time.Duration{2 * time.Millisecond, testWindow, 7 * 24 * time.Hour, math.MaxInt64} {
		for _, issue := range []bool{false, true} {
			b := newBuckets(window, issue)
			g := Guard{buckets: b}
			for i, at := range times {
				if h := g.Horizon(at); b.of(at)-h != uint64(b.keep) {
					t.Errorf("window %v, time %d: horizon %x, bucket %x", window, at, h, b.of(at))
				} else if back := g.TimeAt(h); g.Horizon(back) != h || back > max(at, -limitTime) {
					t.Errorf("window %v, time %d: horizon %x, TimeAt %d", window, at, h, back)
				}
				if i > 0 && b.of(at) < b.of(times[i-1]) {
					t.Errorf("window %v: bucket of %d lies before that of %d", window, at, times[i-1])
				}
			}
		}
	}
}

func TestTimeAtOfAnyHorizonDoesNotOverflow(t *testing.T) {
	g := Guard{buckets: newBuckets(2*time.Millisecond, false)}
	for _, h := range []uint64{0, 1, 1 << 62, 1<<63 - 1, 1 << 63, 1<<64 - 1} {
		if at := g.TimeAt(h); at > 1<<62 || at < -1<<62-1 {
			t.Errorf("horizon %x: time %d", h, at)
		}
	}
}

func TestS50DuplicateInsideAndOutsideTheWindow(t *testing.T) {
	for _, at := range []int64{0, 137, 499} {
		k := newMiniTask(t, Config{})
		first := confirm.again(0, at)
		k.feed(first.raw())
		tick := confirm.again(1, at+999)
		tick.id = "tick"
		k.feed(tick.raw())
		k.want(k.feed(confirm.again(2, at+999).raw()), Duplicate, Drop)
		// Three buckets later it is gone: an opaque id is New again.
		tick = confirm.again(3, at+1500)
		tick.id = "tock"
		k.feed(tick.raw())
		k.want(k.feed(confirm.again(4, at+1500).raw()), New, Run)
	}
}

func TestS50IDWithIssueTimeOutsideTheWindowIsQuarantined(t *testing.T) {
	k := newMiniTask(t, Config{IssueTime: IssueHeader("issued")})
	issued := func(id string, offset, at, issue int64) Decision {
		m := message{id: id, value: id, at: at, offset: offset, headers: issuedAt(time.Duration(issue) * time.Millisecond)}
		return k.feed(m.raw())
	}
	k.want(issued("a", 0, 0, 0), New, Run)
	k.want(issued("b", 1, 1000, 1000), New, Run)
	k.want(issued("a", 2, 1000, 0), Duplicate, Drop)
	k.want(issued("late", 3, 1000, 0), New, Run) // at the edge of the window
	d := issued("later", 4, 1000, -1)
	k.want(d, TooOld, Quarantine)
	if d.Reason.Code != problem.IDTooOld {
		t.Fatalf("reason %v", d.Reason)
	}
	k.want(issued("later", 5, 1000, -1), Duplicate, Drop) // adds no second dead letter
	k.want(issued("c", 6, 9000, 9000), New, Run)
	k.want(issued("a", 7, 9000, 0), TooOld, Quarantine) // evicted, and known to be old
	k.want(issued("future", 8, 9000, 9500), New, Run)   // the skew allowed is half the window
	k.want(issued("future", 9, 9000, 9500), Duplicate, Drop)
	k.want(issued("far", 10, 9000, 9501), Invalid, Quarantine)
	k.counts(5, 3)
}

// The id with the largest skew is the worst case: its marker lies half a window before its issue time, and must still be
// there when the issue time leaves the window.
func TestSkewedIDsAreCaughtUntilTheyAreTooOld(t *testing.T) {
	for at := int64(0); at < 1000; at += 7 {
		k := newMiniTask(t, Config{IssueTime: IssueHeader("issued")})
		m := message{id: "x", at: at, headers: issuedAt(time.Duration(at+500) * time.Millisecond)}
		k.want(k.feed(m.raw()), New, Run)
		for later := int64(1); later < 3000; later += 13 {
			tick := message{id: "tick", value: "tick", at: at + later, offset: later, headers: issuedAt(time.Duration(at+later) * time.Millisecond)}
			tick.id += string(rune('a' + later%600))
			k.feed(tick.raw())
			if d := k.feed(m.again(1000+later, at+later).raw()); d.Action == Run {
				t.Fatalf("written at %d, ran again at %d", at, at+later)
			}
		}
	}
}

func TestLiveBucketsAreBounded(t *testing.T) {
	for _, issue := range []IssueTime{{}, IssueHeader("issued")} {
		k := newMiniTask(t, Config{IssueTime: issue})
		for i := range int64(5000) {
			m := message{id: string(rune(i)) + "x", value: "v", at: i * 3, offset: i, headers: issuedAt(time.Duration(i*3) * time.Millisecond)}
			k.feed(m.raw())
			k.store.evict(k.guard.Horizon(k.time))
			live := k.store.buckets()
			if len(live) > k.guard.LiveBuckets() || k.guard.LiveBuckets() > 4 {
				t.Fatalf("%d live buckets, the bound is %d", len(live), k.guard.LiveBuckets())
			}
			// One record each 3 ms, buckets of 500 ms: the bound of I-7 in markers.
			if n := len(k.store.entries); n > k.guard.LiveBuckets()*168 {
				t.Fatalf("%d markers", n)
			}
		}
		if k.runs != 5000 {
			t.Fatalf("%d runs", k.runs)
		}
	}
}

func TestLookupAsksEachLiveBucketOnce(t *testing.T) {
	k := newMiniTask(t, Config{})
	k.feed(confirm.raw())
	if k.store.gets != 3 {
		t.Fatalf("%d lookups for a new id, want 3", k.store.gets)
	}
	k.feed(confirm.again(1, 0).raw())
	if k.store.gets != 4 {
		t.Fatalf("%d lookups for a duplicate in the current bucket, want 1", k.store.gets-3)
	}
}
