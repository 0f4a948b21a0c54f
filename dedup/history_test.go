package dedup

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/oncemill/oncemill/record"
)

// run is one random history, decided by both.
type run struct {
	t       *testing.T
	seed    uint64
	rnd     *rand.Rand
	guard   *Guard
	store   *memoryMarkers
	judge   *judge
	now     int64
	next    int64
	past    []letter
	parked  []letter
	applied map[string]int
	forced  map[string]bool
	verdict map[string]int
	trace   []string
}

const judgeWindow = 200 * time.Millisecond

func newRun(t *testing.T, seed uint64) *run {
	rnd := rand.New(rand.NewPCG(seed, 99))
	c := Config{ID: Header("id"), Window: judgeWindow, MaxIDBytes: 30, OnDuplicate: Policy(rnd.IntN(3)), IgnoreConflicts: rnd.IntN(4) == 0,
		Kind: func(r *record.Raw) string { return string(r.Key) }, FutureSkew: time.Duration(1+rnd.IntN(100)) * time.Millisecond}
	j := &judge{half: 100, live: 2, policy: c.OnDuplicate, ignore: c.IgnoreConflicts, skew: c.FutureSkew.Milliseconds(), entries: map[string][]entry{}}
	if rnd.IntN(2) == 0 {
		c.IssueTime, j.issued, j.live = IssueHeader("issued"), true, 3
	}
	store := newMemoryMarkers()
	return &run{t: t, seed: seed, rnd: rnd, guard: newTestGuard(t, c, store), store: store, judge: j,
		now: -1 << 62, applied: map[string]int{}, forced: map[string]bool{}, verdict: map[string]int{}}
}

// fresh makes a new message. Its issue time is a function of its id, as that of a UUIDv7 is.
func (x *run) fresh() letter {
	base := max(x.now, -1000)
	l := letter{kind: "k" + strconv.Itoa(x.rnd.IntN(2)), id: strconv.Itoa(int(x.next)), at: base + x.rnd.Int64N(60) - 20, topic: 1, offset: x.next}
	l.body = "body " + l.id
	l.issue = l.at + x.rnd.Int64N(140) - 40
	x.next++
	switch x.rnd.IntN(40) {
	case 0:
		l.at += 100 << x.rnd.IntN(12) // a jump of time
		l.issue = l.at
	case 1:
		l.issue -= 300
	case 2, 3:
		l.noID = []string{"missing", "empty", "long"}[x.rnd.IntN(3)]
	}
	return l
}

// draw makes the next record of the history: fresh, or a variation of an earlier one.
func (x *run) draw() letter {
	if len(x.past) == 0 || x.rnd.IntN(10) < 4 {
		return x.fresh()
	}
	l := x.past[max(0, len(x.past)-1-x.rnd.IntN(30))]
	if x.rnd.IntN(3) > 0 { // at a new position; otherwise an offset reset delivers it again
		l.offset, l.at = x.next, max(x.now, -1000)+x.rnd.Int64N(30)-10
		x.next++
	}
	switch x.rnd.IntN(12) {
	case 0:
		l.body += "'"
	case 1:
		l.topic = 2
	case 2:
		l.noID = ""
	case 3, 4, 5, 6:
		l.from, l.topic = FromReplay, 9
		l.number = []string{"1", "1", "1", "2", "2", "3", "", "x", "0"}[x.rnd.IntN(9)]
		l.forced = x.rnd.IntN(4) == 0
	}
	if l.from == FromSource && x.rnd.IntN(2) == 0 {
		l.number, l.forced = "1", true // from outside: means nothing
	}
	return l
}

func (x *run) outcome(a Action) Outcome {
	if a == Quarantine {
		return DeadLettered
	}
	return []Outcome{0, Applied, Applied, Applied, Rejected, DeadLettered, DeadLettered, Skipped, Parked}[x.rnd.IntN(9)]
}

func (x *run) step() {
	l := x.draw()
	if len(x.parked) > 0 && x.rnd.IntN(6) == 0 {
		l = x.parked[0]
		if x.rnd.IntN(8) > 0 { // otherwise it will wrongly come back once more
			x.parked = x.parked[1:]
		}
		l.from = FromParked
	}
	r := l.raw()
	want := x.judge.decide(l, x.now)
	got, err := x.guard.Check(r, l.from, x.now)
	x.trace = append(x.trace, fmt.Sprintf("%+v at %d: %s %s", l, x.now, got.Verdict, got.Action))
	if err != nil || got.Verdict != want.verdict || got.Action != want.action {
		x.fail("%v; the judge says %s %s", err, want.verdict, want.action)
	}
	if (got.Action == Quarantine) != (got.Reason != nil) {
		x.fail("reason %v", got.Reason)
	}
	x.verdict[fmt.Sprint(l.from, " ", got.Verdict, " ", got.Action)]++
	if l.from != FromParked {
		l2 := l
		l2.from, l2.number, l2.forced = FromSource, "", false
		x.past = append(x.past, l2)
	}
	if got.Action != Run && got.Action != Quarantine {
		return
	}
	o := x.outcome(got.Action)
	if o == 0 {
		if l.from == FromParked {
			x.parked = append(x.parked, l) // aborted: it is still parked
		}
		return
	}
	x.count(l, got, o)
	before := x.now
	x.now = max(x.now, l.at)
	if err := x.guard.Record(&got, r, x.now, o, nil); err != nil {
		x.fail("Record: %v", err)
	}
	x.judge.write(want, l, x.now, o)
	x.renew(before)
	if o == Parked {
		x.parked = append(x.parked, l)
	}
	if x.rnd.IntN(3) == 0 {
		x.store.evict(x.guard.Horizon(x.now))
	}
}

func (x *run) renew(before int64) {
	if x.guard.Horizon(before) == x.guard.Horizon(x.now) {
		return
	}
	for _, l := range x.parked {
		l.from = FromParked
		if err := x.guard.RenewParked(l.raw(), before, x.now); err != nil {
			x.fail("RenewParked: %v", err)
		}
		if r := x.judge.decide(l, before); r.action == Run {
			x.judge.write(r, l, x.now, Parked)
		}
	}
}

// count holds I-1 without the judge's help: an id with issue time is applied once, whatever happens; only the operator's
// force can repeat it, or a replay of a forced run that failed.
func (x *run) count(l letter, d Decision, o Outcome) {
	if l.noID != "" || o != Applied && o != Rejected {
		return
	}
	name := l.kind + "/" + l.id
	x.forced[name] = x.forced[name] || d.Forced || d.Marker.Forced
	x.applied[name]++
	if x.judge.issued && x.applied[name] > 1 && !x.forced[name] {
		x.fail("%s was applied %d times", name, x.applied[name])
	}
}

func (x *run) fail(format string, args ...any) {
	x.t.Helper()
	for _, line := range x.trace[max(0, len(x.trace)-12):] {
		x.t.Log(line)
	}
	x.t.Fatalf("seed %d, step %d: %s", x.seed, len(x.trace), fmt.Sprintf(format, args...))
}

func TestGuardAgreesWithTheJudge(t *testing.T) {
	reached := map[string]int{}
	for seed := range uint64(800) {
		x := newRun(t, seed)
		for range 150 {
			x.step()
		}
		for k, n := range x.verdict {
			reached[k] += n
		}
	}
	t.Log(reached)
	for _, rare := range []string{
		"0 new run", "0 redelivery drop", "0 duplicate drop", "0 duplicate replay", "0 duplicate quarantine", "0 conflict quarantine",
		"0 too_old quarantine", "0 missing quarantine", "0 invalid quarantine",
		"1 new run", "1 redelivery drop", "1 duplicate drop", "1 conflict quarantine", "1 too_old quarantine", "1 missing quarantine", "1 invalid quarantine",
		"2 new run", "2 duplicate drop", "2 too_old quarantine",
	} {
		if reached[rare] == 0 {
			t.Errorf("no run reached %q", rare)
		}
	}
}

// Two replays of one log evict alike (S50): the verdicts do not depend on when the store really drops what is expired.
func TestS50TwoReplaysEvictAlike(t *testing.T) {
	for seed := range uint64(200) {
		var traces [2][]string
		var live [2]map[string][]byte
		for i := range traces {
			x := newRun(t, seed)
			for step := range 150 {
				x.step()
				if i == 1 && step%7 == 0 {
					x.store.evict(x.guard.Horizon(x.now))
				}
			}
			x.store.evict(x.guard.Horizon(x.now))
			traces[i], live[i] = x.trace, x.store.entries
		}
		if fmt.Sprint(traces[0]) != fmt.Sprint(traces[1]) {
			t.Fatalf("seed %d: the verdicts differ", seed)
		}
		if fmt.Sprintf("%x", live[0]) != fmt.Sprintf("%x", live[1]) {
			t.Fatalf("seed %d: the live markers differ", seed)
		}
	}
}
