package task

import (
	"fmt"

	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/internal/host"
	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/statestore"
)

// settle applies the failure policy to the current record. Everything the record did is rolled back first.
func (t *Task) settle(s *source, d dedup.Decision, failure *host.Failure, attempts int) error {
	t.rollback()
	t.Stats.Failures[failure.Phase]++
	policy := t.policy(s, failure)
	tried := attempts
	for {
		if n := len(policy.Delays); policy.Action == processor.ActionRetry && tried < n && t.wasRefused(failure) {
			attempts, tried = attempts+n-tried, n
		}
		parks := policy.Action == processor.ActionPark
		if policy.Action != processor.ActionRetry && !parks || tried < len(policy.Delays) && (!parks || t.parked.fits(s) == nil) {
			break
		}
		tried = max(0, tried-len(policy.Delays))
		policy = policy.Next()
	}
	t.decided(failure, s.node.Name, policy.Action)
	switch policy.Action {
	case processor.ActionRetry:
		t.Stats.RetriesInPlace++
		if !t.cfg.Wait(policy.Delays[tried]) {
			return fmt.Errorf("%s: %w", t.current.place(), failure)
		}
		return t.attempt(s, d, attempts+1)
	case processor.ActionPark:
		t.Stats.Parked++
		if err := t.parked.park(s, attempts+1, t.clock.Add(policy.Delays[tried]), policy.KeepOrder); err != nil {
			return err
		}
		return t.concludeFailed(s, &d, dedup.Parked)
	case processor.ActionSkip:
		t.Stats.Skipped++
		return t.concludeFailed(s, &d, dedup.Skipped)
	case processor.ActionDeadLetter:
		if err := t.deadLetter(failure, &d); err != nil {
			return err
		}
		return t.concludeFailed(s, &d, dedup.DeadLettered)
	default:
		return fmt.Errorf("%s: %w", t.current.place(), failure)
	}
}

// settleReplay applies the failure policy to a duplicate whose recorded outputs the broker refused. The marker of the message stays
// as it is, and a duplicate waits for nothing.
func (t *Task) settleReplay(s *source, d *dedup.Decision, failure *host.Failure) error {
	t.setMark()
	t.Stats.Failures[failure.Phase]++
	policy := t.policy(s, failure)
	for policy.Action == processor.ActionRetry || policy.Action == processor.ActionPark {
		policy = policy.Next()
	}
	t.decided(failure, s.node.Name, policy.Action)
	switch policy.Action {
	case processor.ActionSkip:
		t.Stats.Skipped++
		return nil
	case processor.ActionDeadLetter:
		return t.deadLetter(failure, d)
	default:
		return fmt.Errorf("%s: %w", t.current.place(), failure)
	}
}

// conclude writes the marker of a record that is settled.
func (t *Task) conclude(s *source, d *dedup.Decision, outcome dedup.Outcome) error {
	if s.guard == nil {
		return nil
	}
	var outputs []dedup.Output
	if outcome == dedup.Applied && s.node.Dedup.OnDuplicate == dedup.ReplayOutputs {
		outputs = recordable(t.outputs[t.outMark:])
	}
	t.now.markerTime = max(t.now.markerTime, t.current.timestamp)
	return s.guard.Record(d, t.current.raw, t.now.markerTime, outcome, outputs)
}

// evict moves the horizons with marker time: whole buckets expire, the same on every replay. The markers of parked records
// are written again first: a marker of work that is under way is never evicted (R8).
func (t *Task) evict() error {
	before, after := t.mark.markerTime, t.now.markerTime
	for i := range t.sources {
		s := &t.sources[i]
		if s.guard == nil || s.input.Replay || !s.isFirstOf(t.sources[:i]) || s.guard.Horizon(before) == s.guard.Horizon(after) {
			continue
		}
		if t.parked != nil {
			if err := t.parked.renew(s, before, after); err != nil {
				return err
			}
		}
		if before != statestore.MinStreamTime {
			t.Stats.Inputs[s.index].Evicted += min(s.guard.Horizon(after)-s.guard.Horizon(before), uint64(s.guard.LiveBuckets()))
		}
		t.state.SetHorizon(s.store, s.guard.Horizon(after))
	}
	return nil
}

func (t *Task) concludeFailed(s *source, d *dedup.Decision, outcome dedup.Outcome) error {
	if err := t.conclude(s, d, outcome); err != nil {
		return err
	}
	return t.evict()
}

// policy finds the failure policy: that of the node that failed, in its phase.
func (t *Task) policy(s *source, f *host.Failure) processor.Policy {
	n := s.node
	if named := t.cfg.Plan.Node(f.Node); named != nil {
		n = named
	}
	switch f.Phase {
	case host.PhaseDecode:
		return n.Policies.Decode
	case host.PhaseEncode:
		return n.Policies.Encode
	case host.PhaseProduce:
		return n.Policies.Produce
	case host.PhaseTimer:
		return n.Policies.Timer
	default:
		return n.Policies.Process
	}
}

// quarantine sends a record that dedup refuses to the dead letters.
func (t *Task) quarantine(s *source, d dedup.Decision) error {
	t.setMark()
	// Several records may be refused under one id, and the message of that id may be a dead letter itself: their ids are
	// made from the positions, to be distinct.
	t.current.hasCause = false
	failure := &host.Failure{Phase: host.PhaseDedup, Node: s.node.Name, Err: d.Reason}
	t.Stats.Failures[host.PhaseDedup]++
	t.decided(failure, s.node.Name, processor.ActionDeadLetter)
	if err := t.deadLetter(failure, &d); err != nil {
		return err
	}
	return t.concludeFailed(s, &d, dedup.DeadLettered)
}

// keeper names the node and the phase whose failure policy keeps the order of keys, as a failure without an error; nil when there is
// none. With several it is the first.
func (t *Task) keeper() *host.Failure {
	for _, i := range t.cfg.Sub.Nodes {
		n := t.cfg.Plan.Nodes[i]
		switch p := &n.Policies; {
		case p.Decode.KeepsOrder():
			return &host.Failure{Phase: host.PhaseDecode, Node: n.Name}
		case p.Process.KeepsOrder():
			return &host.Failure{Phase: host.PhaseProcess, Node: n.Name}
		case p.Encode.KeepsOrder():
			return &host.Failure{Phase: host.PhaseEncode, Node: n.Name}
		case p.Produce.KeepsOrder():
			return &host.Failure{Phase: host.PhaseProduce, Node: n.Name}
		}
	}
	return nil
}
