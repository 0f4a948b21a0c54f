package task

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/internal/graph"
	"github.com/oncemill/oncemill/internal/host"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/statestore"
)

// timers keeps the timers of a task in its own store, under two keys each:
//
//	'd' | clock 1 | due 8 | number 8      -> the timer        the order in which they fire
//	'i' | store 4 | key length 4 | key | name -> clock, due, number   to replace and cancel
//
// due is milliseconds since 1970 with the sign bit flipped, so that byte order is time order.
type timers struct {
	task  *Task
	view  *statestore.View
	until time.Time // when the running call of FireTimers has used up its time, if it is bounded
	// By clock: those that come first, and how many there are.
	upcoming [statestore.WallClock + 1]upcoming
	pending  [statestore.WallClock + 1]tally
}

// clocks are all that a timer may wait for.
var clocks = [...]statestore.Clock{statestore.StreamTime, statestore.WallClock}

func newTimers(t *Task, v *statestore.View) *timers {
	ts := &timers{task: t, view: v}
	for _, c := range clocks {
		ts.upcoming[c].forget()
		ts.pending[c] = newTally('d', byte(c))
	}
	return ts
}

// firing is a timer that is due.
type firing struct {
	clock     statestore.Clock
	due       int64
	number    uint64
	node      string
	store     uint32
	storeName string
	key       []byte
	name      string
	payload   []byte
}

func (ts *timers) mark() {
	for _, c := range clocks {
		ts.upcoming[c].mark()
		ts.pending[c].mark()
	}
}

func (ts *timers) rollback() {
	for _, c := range clocks {
		ts.upcoming[c].rollback()
		ts.pending[c].rollback()
	}
}

// confirm keeps what is known of the upcoming timers: a commit does not change what a transaction sees.
func (ts *timers) confirm() {
	for _, c := range clocks {
		ts.upcoming[c].mark()
		ts.pending[c].confirm()
	}
}

func (ts *timers) abort() {
	for _, c := range clocks {
		ts.upcoming[c].forget()
		ts.pending[c].abort()
	}
}

func dueKey(clock statestore.Clock, due int64, number uint64) []byte {
	b := make([]byte, 0, 18)
	b = append(b, 'd', byte(clock))
	b = binary.BigEndian.AppendUint64(b, uint64(due)^1<<63)
	return binary.BigEndian.AppendUint64(b, number)
}

func identityKey(store uint32, key []byte, name string) []byte {
	b := make([]byte, 0, 9+len(key)+len(name))
	b = binary.BigEndian.AppendUint32(append(b, 'i'), store)
	b = binary.BigEndian.AppendUint32(b, uint32(len(key)))
	return append(append(b, key...), name...)
}

// formatTimer is the version of the durable form of a timer.
const formatTimer = 1

func appendTimer(b []byte, f *firing) []byte {
	b = append(b, formatTimer)
	b = appendBytes(b, []byte(f.node))
	b = binary.BigEndian.AppendUint32(b, f.store)
	b = appendBytes(b, f.key)
	b = appendBytes(b, []byte(f.name))
	return appendBytes(b, f.payload)
}

func badTimer(what string) error {
	return problem.New(problem.BadDurableBytes, "timer store", "a timer whose %s cannot be read", what)
}

// decodeTimer reads a timer from its due key and its value. The slices are copies.
func decodeTimer(key, value []byte) (*firing, error) {
	at, err := placeOf(key)
	if err != nil {
		return nil, err
	}
	f := &firing{clock: statestore.Clock(key[1]), due: at.due, number: at.number}
	r := reader{b: bytes.Clone(value)}
	if version := r.byte(); version != formatTimer {
		return nil, badTimer(fmt.Sprintf("format %d", version))
	}
	f.node = string(r.bytes())
	f.store = r.uint32()
	f.key = r.bytes()
	f.name = string(r.bytes())
	f.payload = r.bytes()
	if r.failed || len(r.b) > 0 {
		return nil, badTimer("value")
	}
	return f, nil
}

func (ts *timers) schedule(n *host.Node, d *statestore.Declaration, key []byte, timer statestore.Timer) error {
	if timer.Clock != statestore.StreamTime && timer.Clock != statestore.WallClock {
		return fmt.Errorf("timer %q has no clock: use statestore.StreamTime or statestore.WallClock", timer.Name)
	}
	return ts.put(&firing{clock: timer.Clock, due: timer.At.UnixMilli(), node: n.Name, store: d.ID(), key: key, name: timer.Name, payload: timer.Payload})
}

func (ts *timers) put(f *firing) error {
	value := appendTimer(nil, f)
	if err := ts.view.Fits(len(dueKey(0, 0, 0)) + len(value)); err != nil { // before the one it replaces is gone
		return err
	}
	if _, err := ts.cancel(f.store, f.key, f.name); err != nil {
		return err
	}
	ts.task.now.sequence++
	f.number = ts.task.now.sequence
	due := dueKey(f.clock, f.due, f.number)
	if err := ts.view.Put(identityKey(f.store, f.key, f.name), due[1:]); err != nil { // may be too long; nothing is written then
		return err
	}
	ts.upcoming[f.clock].put(dueAt{f.due, f.number})
	ts.pending[f.clock].add(due, 1)
	return ts.view.Put(due, value)
}

// cancel removes a timer by its identity.
func (ts *timers) cancel(store uint32, key []byte, name string) (bool, error) {
	id := identityKey(store, key, name)
	v, found, err := ts.view.Get(id)
	if err != nil || !found {
		return false, err
	}
	return true, ts.remove(id, append([]byte{'d'}, v...))
}

func (ts *timers) remove(identity, due []byte) error {
	if err := ts.view.Delete(identity); err != nil {
		return err
	}
	at, err := placeOf(due)
	if err != nil {
		return err
	}
	clock := statestore.Clock(due[1])
	if clock != statestore.StreamTime && clock != statestore.WallClock {
		return badTimer("clock")
	}
	ts.upcoming[clock].remove(at)
	ts.pending[clock].add(due, -1)
	return ts.view.Delete(due)
}

// cancelAll removes the timers of a key that is deleted: a timer exists only while its state does.
func (ts *timers) cancelAll(d *statestore.Declaration, key []byte) error {
	prefix := identityKey(d.ID(), key, "")
	var names []string
	it := ts.view.Iterate(prefix, prefixEnd(prefix), false)
	for it.Next() {
		names = append(names, string(it.Key()[len(prefix):]))
	}
	err := it.Err()
	it.Close()
	for i := 0; err == nil && i < len(names); i++ {
		_, err = ts.cancel(d.ID(), key, names[i])
	}
	return err
}

// prefixEnd is the least key above all that begin with prefix, which never consists of 0xff only.
func prefixEnd(prefix []byte) []byte {
	end := bytes.Clone(prefix)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}

// earliest returns the due time of the next timer of a clock, or noTime.
func (ts *timers) earliest(clock statestore.Clock) (int64, error) {
	at, found, err := ts.upcoming[clock].first(ts.view, clock)
	if err != nil || !found {
		return noTime, err
	}
	return at.due, nil
}

// next returns the first timer of a clock if it is due, else nil.
func (ts *timers) next(clock statestore.Clock, until int64) (*firing, error) {
	at, found, err := ts.upcoming[clock].first(ts.view, clock)
	if err != nil || !found || at.due > until {
		return nil, err
	}
	key := at.key(clock)
	value, found, err := ts.view.Get(key)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, problem.New(problem.InvariantBroken, "timer store", "timer %d of time %d is gone before it fired", at.number, at.due)
	}
	f, err := decodeTimer(key, value)
	if err != nil {
		return nil, err
	}
	f.storeName = ts.task.storeName(f.store)
	return f, nil
}

// fireStreamTimers runs the stream-time timers that came due with the record, each on its own.
func (t *Task) fireStreamTimers() error {
	if t.timers == nil {
		return nil
	}
	_, err := t.fire(statestore.StreamTime, t.now.streamTime, t.cfg.MaxTimers)
	return err
}

// FireTimers runs the timers that are due at now, by both clocks, at most Config.MaxTimers of each and for Config.TimersTime.
// It reports whether more are due: the caller commits and comes back.
func (t *Task) FireTimers(now time.Time) (more bool, err error) {
	if t.timers == nil {
		return false, nil
	}
	t.clock = now
	if t.cfg.TimersTime > 0 {
		t.timers.until = t.cfg.Now().Add(t.cfg.TimersTime)
		defer func() { t.timers.until = time.Time{} }()
	}
	wall, err := t.fire(statestore.WallClock, now.UnixMilli(), t.cfg.MaxTimers)
	if err != nil {
		return false, err
	}
	stream, err := t.fire(statestore.StreamTime, t.now.streamTime, t.cfg.MaxTimers)
	return wall || stream, err
}

// timersTookTooLong reports that a call of FireTimers has used up its time. It is no bound on the timers that a record made due: the
// next record must not overtake them because the machine was slow.
func (t *Task) timersTookTooLong() bool {
	return !t.timers.until.IsZero() && t.cfg.Now().After(t.timers.until)
}

// NextTimer is when the next wall-clock timer is due; false when there is none.
func (t *Task) NextTimer() (time.Time, bool, error) {
	if t.timers == nil {
		return time.Time{}, false, nil
	}
	due, err := t.timers.earliest(statestore.WallClock)
	return time.UnixMilli(due), err == nil && due != noTime, err
}

func (t *Task) fire(clock statestore.Clock, until int64, limit int) (more bool, err error) {
	for n := range limit {
		if n > 0 && t.timersTookTooLong() {
			break
		}
		f, err := t.timers.next(clock, until)
		if err != nil || f == nil {
			return false, err
		}
		if err := t.fireOne(f); err != nil {
			return false, err
		}
	}
	due, err := t.timers.earliest(clock)
	return due <= until, err
}

// FireOne runs the first timer that is due at now, by either clock; false when there is none.
func (t *Task) FireOne(now time.Time) (fired bool, err error) {
	if t.timers == nil {
		return false, nil
	}
	t.clock = now
	before := len(t.firings)
	if _, err := t.fire(statestore.WallClock, now.UnixMilli(), 1); err != nil || len(t.firings) > before {
		return err == nil, err
	}
	_, err = t.fire(statestore.StreamTime, t.now.streamTime, 1)
	return err == nil && len(t.firings) > before, err
}

// Timers is the number of timers in the open transaction.
func (t *Task) Timers() int { return len(t.firings) }

func (t *Task) forgetFirings() {
	clear(t.firings)
	t.firings = t.firings[:0]
}

// fireOne removes the timer and calls its handler. Its failure harms no record and no other timer.
func (t *Task) fireOne(f *firing) error {
	t.dirty = true
	t.steps++
	t.firings = append(t.firings, f)
	t.current = message{raw: &record.Raw{Position: record.Position{Partition: t.cfg.Partition, Offset: -1}, Timestamp: time.UnixMilli(f.due)},
		timer: f, timestamp: min(f.due, max(t.now.streamTime, t.clock.UnixMilli()))}
	gone := func() error {
		t.setMark()
		return t.timers.remove(identityKey(f.store, f.key, f.name), dueKey(f.clock, f.due, f.number))
	}
	if t.parked != nil && f.store == t.parked.decl.ID() {
		if err := gone(); err != nil {
			return err
		}
		return t.parked.release(f)
	}
	for attempt := 0; ; attempt++ {
		if err := gone(); err != nil {
			return err
		}
		failure := t.refusal()
		if failure == nil {
			if failure = t.call(func() error { return t.callTimer(f) }); failure == nil {
				t.Stats.TimersFired++
				return nil
			}
			if fatal := fatalCause(failure); fatal != nil {
				return fatal
			}
			failure.Phase = host.PhaseTimer
		}
		again, err := t.settleTimer(f, failure, attempt, gone)
		if !again || err != nil {
			return err
		}
	}
}

func (t *Task) callTimer(f *firing) error {
	port := t.instance.Timers[graph.TimerKey{Node: f.node, Store: f.store}]
	if port == nil {
		return &host.Failure{Phase: host.PhaseTimer, Node: f.node, Err: problem.New(problem.HandlerFailed, t.current.place(),
			"node %q no longer handles timers of this store", f.node).WithCure("keep topology.OnTimer until its timers have fired")}
	}
	return port(f.key, statestore.Timer{Name: f.name, At: time.UnixMilli(f.due), Clock: f.clock, Payload: f.payload})
}

// settleTimer applies the timer policy, or the produce policy of the sink whose output the broker refused; again asks for another
// attempt.
func (t *Task) settleTimer(f *firing, failure *host.Failure, attempt int, gone func() error) (again bool, err error) {
	t.rollback()
	t.Stats.Failures[failure.Phase]++
	t.Stats.TimersFailed++
	policy := t.timerPolicy(f, failure)
	for {
		if policy.Action == processor.ActionRetry && (attempt >= len(policy.Delays) || t.wasRefused(failure)) {
			attempt = max(0, attempt-len(policy.Delays))
		} else if policy.Action != processor.ActionPark { // a timer cannot be parked: what comes after it decides
			break
		}
		policy = policy.Next()
	}
	t.decided(failure, f.node, policy.Action)
	switch policy.Action {
	case processor.ActionRetry:
		t.Stats.RetriesInPlace++
		if t.cfg.Wait(policy.Delays[attempt]) {
			return true, nil
		}
	case processor.ActionSkip:
		t.Stats.Skipped++
		return false, gone()
	case processor.ActionDeadLetter:
		if err := gone(); err != nil {
			return false, err
		}
		return false, t.deadLetter(failure, &dedup.Decision{})
	}
	return false, fmt.Errorf("%s: %w", t.current.place(), failure)
}

func (t *Task) timerPolicy(f *firing, failure *host.Failure) processor.Policy {
	if failure.Phase == host.PhaseProduce {
		return t.policy(&source{node: &graph.Node{}}, failure)
	}
	if n := t.cfg.Plan.Node(f.node); n != nil {
		return n.Policies.Timer
	}
	return processor.Policy{}
}
