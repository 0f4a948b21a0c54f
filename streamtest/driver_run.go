package streamtest

import (
	"fmt"
	"time"

	"github.com/oncemill/oncemill/internal/host"
	"github.com/oncemill/oncemill/internal/invariants"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/record"
)

// Pipe appends messages to a topic, one after the other, and processes each before the next is appended.
func (d *Driver) Pipe(topic string, messages ...Message) {
	if d.tb != nil {
		d.tb.Helper()
	}
	for _, m := range messages {
		d.Append(topic, m)
		d.Run()
	}
}

// Append appends messages to a topic without processing anything.
func (d *Driver) Append(topic string, messages ...Message) {
	if d.tb != nil {
		d.tb.Helper()
	}
	for _, m := range messages {
		if d.err != nil {
			return
		}
		d.fail(d.append(topic, m))
	}
}

func (d *Driver) append(name string, m Message) error {
	if m.err != nil {
		return fmt.Errorf("a message for topic %q: %w", name, m.err)
	}
	t := d.topics.byName[name]
	if t == nil {
		return problem.New(problem.TopicMissing, fmt.Sprintf("topic %q", name), "the topology does not have it")
	}
	raw := cloneRaw(&m.raw)
	if !m.timed {
		raw.Timestamp = d.Now()
	}
	if !m.pinned {
		raw.Partition = d.partitionOf(t, raw.Key)
	}
	if raw.Partition < 0 || int(raw.Partition) >= len(t.partitions) {
		return fmt.Errorf("topic %q has %d partitions, a message is for partition %d", name, len(t.partitions), raw.Partition)
	}
	d.order++
	t.append(d.order, committed, raw)
	return nil
}

// Run processes everything that can be read and fires the timers that are due. An error of the application, such as the
// failure policy that stops it, fails the driver; see TryRun.
func (d *Driver) Run() {
	if d.tb != nil {
		d.tb.Helper()
	}
	d.fail(d.TryRun())
}

// TryRun is Run that returns the error which ends the application. The open transaction is then aborted, and its records
// are processed again by the next Run.
func (d *Driver) TryRun() error {
	for {
		more, err := d.TryStep()
		if err != nil || !more {
			return err
		}
	}
}

// Step fires the timers that are due and processes one record, the oldest that can be read. It reports whether there was
// one.
func (d *Driver) Step() bool {
	if d.tb != nil {
		d.tb.Helper()
	}
	more, err := d.TryStep()
	d.fail(err)
	return more
}

// TryStep is Step that returns the error which ends the application.
func (d *Driver) TryStep() (more bool, err error) {
	if d.err != nil {
		return false, d.err
	}
	if err := d.fireDue(); err != nil {
		return false, err
	}
	s, input, e := d.oldest()
	if s == nil {
		return false, nil
	}
	raw := cloneRaw(&e.raw)
	if err := d.guard(s, func() error { return s.task.Step(input, &raw, d.Now()) }); err != nil {
		return false, err
	}
	return true, d.fireDue()
}

// guard runs a part of a task, takes its outputs and counts. An error aborts the open transaction.
func (d *Driver) guard(s *slot, run func() error) error {
	before := s.task.Steps()
	if err := run(); err != nil {
		d.abort()
		return fmt.Errorf("task %s: %w", s.id, err)
	}
	d.open += s.task.Steps() - before
	for _, o := range s.task.TakeOutputs() {
		d.pending = append(d.pending, pending{output: o, raw: rawOf(&o), slot: s})
	}
	if d.opts.CommitEvery > 0 && d.open >= d.opts.CommitEvery && !d.rerunning {
		return d.commitOnce()
	}
	return nil
}

func rawOf(o *host.Output) record.Raw {
	return cloneRaw(&record.Raw{Key: o.Key, Value: o.Value, Headers: o.Headers, Timestamp: o.Timestamp,
		Position: record.Position{Topic: o.Topic, Partition: o.Partition}})
}

// oldest finds the record that was appended first among those that tasks have not processed.
func (d *Driver) oldest() (s *slot, input int, e *entry) {
	for _, slot := range d.slots {
		for i, in := range slot.task.Inputs() {
			candidate := d.topics.byName[in.Topic].partitions[slot.partition].from(slot.task.Next(i))
			if candidate != nil && (e == nil || candidate.order < e.order) {
				s, input, e = slot, i, candidate
			}
		}
	}
	return s, input, e
}

// maxTimerRounds bounds how often timers of one moment may set timers that are due at once.
const maxTimerRounds = 10_000

// fireDue fires the timers that are due, over all tasks in the order of their time.
func (d *Driver) fireDue() error { return d.fireUntil(d.Now()) }

// fireUntil moves the clock from timer to timer.
func (d *Driver) fireUntil(until time.Time) error {
	for range maxTimerRounds {
		s, due, err := d.nextTimer()
		if err != nil {
			return err
		}
		if s == nil || due.After(until) {
			return d.fireStream()
		}
		if due.After(d.Now()) {
			d.clock.Store(due.UnixNano())
		}
		if _, err := d.fire(s, due); err != nil {
			return err
		}
	}
	return fmt.Errorf("wall-clock timers set timers that are due at once, %d rounds of them", maxTimerRounds)
}

// nextTimer finds the wall-clock timer that is due first.
func (d *Driver) nextTimer() (first *slot, due time.Time, err error) {
	for _, s := range d.slots {
		at, found, err := s.task.NextTimer()
		if err != nil {
			return nil, due, fmt.Errorf("task %s: %w", s.id, err)
		}
		if found && (first == nil || at.Before(due)) {
			first, due = s, at
		}
	}
	return first, due, nil
}

// fireStream fires the stream-time timers that a bound left over.
func (d *Driver) fireStream() error {
	for _, s := range d.slots {
		for round := 0; ; round++ {
			more, err := d.fire(s, d.Now())
			if err != nil {
				return err
			}
			if !more {
				break
			}
			if round == maxTimerRounds {
				return fmt.Errorf("task %s: timers set timers that are due at once, %d rounds of them", s.id, round)
			}
		}
	}
	return nil
}

func (d *Driver) fire(s *slot, now time.Time) (more bool, err error) {
	err = d.guard(s, func() error {
		more, err = s.task.FireTimers(now)
		return err
	})
	return more, err
}

// Advance moves the clock on, fires the wall-clock timers that come due on the way, each at its time, and processes what can
// be read.
func (d *Driver) Advance(by time.Duration) {
	if d.tb != nil {
		d.tb.Helper()
	}
	d.fail(d.TryAdvance(by))
}

// TryAdvance is Advance that returns the error which ends the application.
func (d *Driver) TryAdvance(by time.Duration) error {
	if d.err != nil {
		return d.err
	}
	target := d.Now().Add(by)
	if err := d.fireUntil(target); err != nil {
		return err
	}
	invariants.Must(!d.Now().After(target), "streamtest clock", "it went beyond %v", target)
	d.clock.Store(target.UnixNano())
	return d.TryRun()
}

// wait plays the pause between two attempts of a retry in place: it is noted, and over at once.
func (d *Driver) wait(pause time.Duration) bool {
	d.waits = append(d.waits, pause)
	return true
}

// Waits are the pauses of retries in place so far.
func (d *Driver) Waits() []time.Duration { return d.waits }
