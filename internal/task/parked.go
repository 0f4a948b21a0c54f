package task

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"time"

	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/internal/invariants"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/statestore"
)

// parked keeps records that wait for a delayed retry (S60) in the task's own store, so that they survive restarts and moves:
//
//	'p' | number 8                     -> the record      with a wall-clock timer of the same number
//	'q' | hash of source and key 16 | number 8 -> nothing the queue of a key whose order is kept
//
// A queue is worked off in the order of the numbers. Its head has a timer; a record that queues behind another of its key
// needs none, and gets one when the one before it is done or has left the queue.
//
// Invariant: a parked record that is in no queue, or at the head of one, has a timer.
type parked struct {
	task *Task
	view *statestore.View
	decl *statestore.Declaration
	// ordered says that a policy of the sub-topology keeps the order of keys, so that new records look at the queues.
	ordered bool
	count   tally
	floors  floors
}

const retryTimer = "retry"

func parkedKey(number uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{'p'}, number)
}

func queuePrefix(source string, key []byte) []byte {
	h := sha256.Sum256(appendBytes(appendBytes(nil, []byte(source)), key))
	return append([]byte{'q'}, h[:16]...)
}

func queueKey(source string, key []byte, number uint64) []byte {
	return binary.BigEndian.AppendUint64(queuePrefix(source, key), number)
}

// park puts the current record aside until due.
func (p *parked) park(s *source, attempts int, due time.Time, keepOrder bool) error {
	t := p.task
	t.setMark()
	number := t.current.parked // a record that is parked again keeps its place in the queue
	if number == 0 {
		t.now.sequence++
		number = t.now.sequence
	}
	if err := p.put(number, s, attempts, keepOrder); err != nil {
		return err
	}
	if err := p.setTimer(number, due); err != nil {
		return err
	}
	if keepOrder { // else it has left its queue, which release brings to go on
		p.checkQueue(s.node.Name, t.current.raw.Key)
	}
	return nil
}

// fits returns an error if the current record is too large to be parked.
func (p *parked) fits(s *source) error {
	rec := parkedRecord{source: s.node.Name, raw: *p.task.current.raw}
	return p.view.Fits(len(parkedKey(0)) + len(appendParked(nil, &rec)))
}

func (p *parked) put(number uint64, s *source, attempts int, queued bool) error {
	raw := p.task.current.raw
	rec := parkedRecord{source: s.node.Name, attempts: attempts, raw: *raw}
	if err := p.view.Put(parkedKey(number), appendParked(nil, &rec)); err != nil {
		return err
	}
	p.count.add(parkedKey(number), 1)
	if !queued {
		return nil
	}
	key := queueKey(s.node.Name, raw.Key, number)
	p.floors.lower(key[:len(key)-8], number)
	return p.view.Put(key, []byte{})
}

// waitBehind queues the current record if an earlier one of its key waits and the policy keeps the order. A record that is too large
// to wait fails as if it had waited in vain.
func (p *parked) waitBehind(s *source, d dedup.Decision, raw *record.Raw) (bool, error) {
	if !p.ordered {
		return false, nil
	}
	head, err := p.head(s.node.Name, raw.Key)
	if err != nil || head == 0 {
		return false, err
	}
	t := p.task
	if err := p.fits(s); err != nil {
		failure := t.keeper()
		failure.Err = err
		return true, t.settle(s, d, failure, noRetries)
	}
	t.setMark()
	t.now.sequence++
	if err := p.put(t.now.sequence, s, 0, true); err != nil {
		return false, err
	}
	p.checkQueue(s.node.Name, raw.Key)
	t.Stats.Parked++
	return true, t.concludeFailed(s, &d, dedup.Parked)
}

// head returns the number of the first record in the queue of a key, 0 when it is empty.
func (p *parked) head(source string, key []byte) (uint64, error) {
	prefix := queuePrefix(source, key)
	it := p.view.Iterate(binary.BigEndian.AppendUint64(prefix, p.floors.of(prefix)), prefixEnd(prefix), false)
	defer it.Close()
	before := p.task.state.IteratorSteps()
	number := uint64(0)
	if it.Next() {
		number = binary.BigEndian.Uint64(it.Key()[len(prefix):])
	}
	if p.task.state.IteratorSteps()-before > farHead {
		p.floors.raise(prefix, cmp.Or(number, p.task.now.sequence+1))
	}
	return number, it.Err()
}

// release runs a parked record whose timer fired, which is already gone. The next of its key gets a timer that is due at
// once: each is a step of its own, so that the bound on timers bounds a long queue too.
func (p *parked) release(f *firing) error {
	if len(f.key) != 9 || f.key[0] != 'p' {
		return problem.New(problem.BadDurableBytes, "timer store", "a retry timer without a record")
	}
	number := binary.BigEndian.Uint64(f.key[1:])
	rec, err := p.get(number)
	if err != nil {
		return err
	}
	queue := queueKey(rec.source, rec.raw.Key, number)
	_, queued, err := p.view.Get(queue)
	if err != nil {
		return err
	}
	if queued {
		// A record that was parked earlier and without order may have joined the queue since, in front of this one, which
		// then waits for its turn like any other.
		if head, err := p.head(rec.source, rec.raw.Key); err != nil || head != number {
			return err
		}
		if err := p.view.Delete(queue); err != nil {
			return err
		}
	}
	if err := p.view.Delete(parkedKey(number)); err != nil {
		return err
	}
	p.count.add(parkedKey(number), -1)
	if err := p.run(rec, number); err != nil || !queued {
		return err
	}
	return p.goOn(rec.source, rec.raw.Key)
}

// goOn gives the head of a queue its timer, unless it has one: it was parked again, or it joined the queue in front. What
// counts is who the head is now, not what became of the one before: that may have left the queue and be parked all the
// same, by a node that does not keep the order.
func (p *parked) goOn(source string, key []byte) error {
	head, err := p.head(source, key)
	if err != nil || head == 0 {
		return err
	}
	if waits, err := p.hasTimer(head); err != nil || waits {
		return err
	}
	if err := p.setTimer(head, p.task.clock); err != nil {
		return err
	}
	p.checkQueue(source, key)
	return nil
}

func (p *parked) hasTimer(number uint64) (bool, error) {
	_, found, err := p.task.timers.view.Get(identityKey(p.decl.ID(), parkedKey(number), retryTimer))
	return found, err
}

// checkQueue checks that the head of a queue has a timer: nothing else brings it back, and all that is behind it.
func (p *parked) checkQueue(source string, key []byte) {
	if !invariants.Enabled {
		return
	}
	head, err := p.head(source, key)
	if err != nil || head == 0 {
		return
	}
	waits, err := p.hasTimer(head)
	invariants.Check(waits || err != nil, "parked queue", "record %d is the head of its queue and has no timer", head)
}

func (p *parked) setTimer(number uint64, due time.Time) error {
	return p.task.timers.put(&firing{clock: statestore.WallClock, due: due.UnixMilli(), store: p.decl.ID(), key: parkedKey(number), name: retryTimer})
}

func (p *parked) get(number uint64) (*parkedRecord, error) {
	value, found, err := p.view.Get(parkedKey(number))
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, problem.New(problem.InvariantBroken, "parked store", "record %d is gone before its retry", number)
	}
	return decodeParked(bytes.Clone(value))
}

// run processes a parked record that was taken out.
func (p *parked) run(rec *parkedRecord, number uint64) error {
	t := p.task
	s := t.sourceNamed(rec.source)
	if s == nil {
		return problem.New(problem.FingerprintChanged, "source "+rec.source, "records are parked for a source that no longer exists").
			WithCure("bring the source back until its records have been retried")
	}
	t.begin(s, &rec.raw)
	t.current.parked = number
	d, err := t.check(s, &rec.raw, dedup.FromParked)
	if err != nil {
		return err
	}
	return t.act(s, d, rec.attempts)
}

// renewAtATime bounds the records that a renewal has in memory.
const renewAtATime = 128

// renew writes the markers of the parked records of a source again.
func (p *parked) renew(s *source, before, after int64) error {
	for from := []byte{'p'}; from != nil; {
		var some []*parkedRecord
		var err error
		if some, from, err = p.some(s, from); err != nil {
			return err
		}
		for _, rec := range some {
			if err := s.guard.RenewParked(&rec.raw, before, after); err != nil {
				return err
			}
		}
	}
	return nil
}

// some returns parked records of a source from a key on, and the key to go on from, nil after the last.
func (p *parked) some(s *source, from []byte) (some []*parkedRecord, next []byte, err error) {
	it := p.view.Iterate(from, prefixEnd([]byte{'p'}), false)
	defer it.Close()
	for it.Next() {
		if len(some) == renewAtATime {
			return some, bytes.Clone(it.Key()), nil
		}
		rec, err := decodeParked(bytes.Clone(it.Value()))
		if err != nil {
			return nil, nil, err
		}
		if rec.source == s.node.Name {
			some = append(some, rec)
		}
	}
	return some, nil, it.Err()
}

func (t *Task) sourceNamed(name string) *source {
	for i := range t.sources {
		if t.sources[i].node.Name == name && !t.sources[i].input.Replay {
			return &t.sources[i]
		}
	}
	return nil
}
