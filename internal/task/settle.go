package task

import (
	"fmt"

	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/internal/host"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/processor"
)

// settle applies the failure policy to the current record. Everything the record did is rolled back first.
func (t *Task) settle(s *source, d dedup.Decision, failure *host.Failure, attempts int) error {
	t.rollback()
	t.Stats.Failures[failure.Phase]++
	policy := t.policy(s, failure)
	tried := attempts
	for {
		if policy.Action != processor.ActionRetry && policy.Action != processor.ActionPark || tried < len(policy.Delays) {
			break
		}
		tried -= len(policy.Delays)
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

// keepsOrder reports that a failure policy of the sub-topology keeps the order of keys.
func (t *Task) keepsOrder() bool {
	for _, i := range t.cfg.Sub.Nodes {
		p := &t.cfg.Plan.Nodes[i].Policies
		if p.Process.KeepsOrder() || p.Decode.KeepsOrder() || p.Encode.KeepsOrder() || p.Produce.KeepsOrder() {
			return true
		}
	}
	return false
}

// refusedRecord is a record by its position.
type refusedRecord struct {
	topic  string
	offset int64
}

// Refuse remembers that the broker refused an output of a record, so that the record meets its produce policy when it is
// processed again after the abort. A timer's output has no record, and a refused dead letter has no other policy to meet: then
// Refuse returns false, and the error is fatal.
func (t *Task) Refuse(o *host.Output, err error) bool {
	if o.CauseTopic == "" || o.Node < 0 {
		return false
	}
	t.RefuseRecord(o.CauseTopic, o.CauseOffset, &host.Failure{Phase: host.PhaseProduce, Node: t.cfg.Plan.Nodes[o.Node].Name,
		Err: problem.Wrap(problem.ProduceFailed, fmt.Sprintf("topic %q", o.Topic), err)})
	return true
}

// RefuseRecord remembers that a record may not run again: on the re-run it meets its failure policy instead.
func (t *Task) RefuseRecord(topic string, offset int64, f *host.Failure) {
	if t.refused == nil {
		t.refused = map[refusedRecord]*host.Failure{}
	}
	t.refused[refusedRecord{topic, offset}] = f
}

// refusal returns the remembered failure of the current record.
func (t *Task) refusal(s *source) *host.Failure {
	if len(t.refused) == 0 {
		return nil
	}
	return t.refused[refusedRecord{t.current.raw.Topic, t.current.raw.Offset}]
}
