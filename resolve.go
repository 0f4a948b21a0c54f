package oncemill

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/internal/step"
	"github.com/oncemill/oncemill/internal/task"
)

// rollBack aborts: nothing of the transaction becomes visible. The record whose output the broker refused is remembered.
func (s *session) rollBack(ctx context.Context, dirty []*running, cause error, culprit *pending) (outcome, error) {
	if err := s.w.at(step.Aborting); err != nil {
		return rolledBack, err
	}
	if fatal := s.fatal(cause); fatal != nil {
		return rolledBack, fatal
	}
	s.w.log.Warn("transaction aborted", "cause", cause, "records", s.produced)
	s.w.timing.aborted(cause, culprit != nil, time.Since(s.w.began) > s.w.app.cfg.TransactionTimeout)
	s.w.tooSlowAlone(dirty)
	if err := s.blame(ctx, dirty, culprit, cause); err != nil {
		return rolledBack, err
	}
	if err := s.abort(ctx); step.Unwound(err) {
		return rolledBack, err
	} else if err != nil || s.stale {
		s.w.log.Warn("abort not confirmed, or a topic was made again; the producer is initialised again", "err", err)
		if err := s.renew(ctx); err != nil {
			return rolledBack, err
		}
	}
	for _, r := range dirty {
		r.task.Abort()
	}
	s.reset()
	return rolledBack, nil
}

// giveUp aborts the transaction of tasks that are ours no longer.
func (s *session) giveUp(ctx context.Context, dirty []*running, cause error) (outcome, error) {
	if _, err := s.rollBack(ctx, dirty, cause, nil); err != nil {
		return rolledBack, err
	}
	return tasksLost, nil
}

// blame remembers the record or timer whose output the broker refused for good, so that it meets its produce policy. Brokers
// refuse batches: while several run in one transaction, the next one runs them one by one to find out.
func (s *session) blame(ctx context.Context, dirty []*running, culprit *pending, cause error) error {
	switch {
	case culprit == nil:
		return nil
	case isOneOf(cause, kerr.UnknownTopicOrPartition, kerr.UnknownTopicID):
		return s.lookFor(ctx, culprit.Topic, cause)
	case !refusedForGood(cause):
		return nil
	case !s.w.alone && (s.w.several() || errors.Is(cause, kerr.CorruptMessage)): // a line can damage a batch, once
		s.w.refused = true
		return nil
	case culprit.log && dirty[0].task.RefuseLast(func(place string) error {
		return problem.Wrap(problem.ProduceFailed, fmt.Sprintf("%s, topic %q", place, culprit.Topic), cause)
	}):
		return nil
	case !culprit.log && culprit.Topic != s.w.app.plan.Fillers && culprit.owner.task.Refuse(culprit.output(), cause):
		return nil
	}
	return problem.Wrap(problem.ProduceFailed, fmt.Sprintf("topic %q", culprit.Topic), cause).
		WithCure("make topic %q as it was when the application started; nothing is lost: the record or timer behind it runs again after a restart", culprit.Topic)
}

// fatal returns the error if no abort and no waiting mends it: a newer process has this instance id, or an ACL is missing.
// A member that the group has given up is not among them: the group client finds out by itself, and the callbacks follow.
func (s *session) fatal(cause error) error {
	place := fmt.Sprintf("group %q, instance %q", s.group, s.w.instance)
	switch {
	case errors.Is(cause, kerr.FencedInstanceID):
		return problem.Wrap(problem.Fenced, place, cause)
	case errors.Is(cause, kerr.TransactionalIDAuthorizationFailed), errors.Is(cause, kerr.GroupAuthorizationFailed),
		errors.Is(cause, kerr.TopicAuthorizationFailed), errors.Is(cause, kerr.ClusterAuthorizationFailed):
		return problem.Wrap(problem.BrokersRefused, place, cause)
	}
	return nil
}

// refusedForGood tells a record that will be refused again from an outage.
func refusedForGood(err error) bool {
	for _, e := range []error{kerr.MessageTooLarge, kerr.RecordListTooLarge, kerr.InvalidRecord, kerr.InvalidTimestamp, kerr.CorruptMessage,
		kerr.PolicyViolation} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// abort ends the transaction without a trace.
func (s *session) abort(ctx context.Context) error {
	if !s.open {
		return nil
	}
	if err := s.w.at(step.AbortTxn); err != nil {
		return err
	}
	if s.broken != nil {
		return s.broken // asked to abort, the client waits for the same records again, or aborts another transaction
	}
	// After its timeout the broker has aborted the transaction by itself, and the client sets no bound. See flush.
	bounded, cancel := context.WithTimeout(ctx, s.w.app.cfg.TransactionTimeout)
	defer cancel()
	if err := s.client.AbortBufferedRecords(bounded); err != nil {
		return err
	}
	if err := s.endTransaction(bounded, kgo.TryAbort); err != nil {
		return err
	}
	// One that was fenced begins no transaction any more: before transaction.version 2, brokers call one so whose transaction they
	// have timed out.
	if _, _, err := s.client.ProducerID(bounded); err != nil {
		return err
	}
	return s.w.after(step.AbortTxn)
}

// renew replaces the client: InitProducerID makes the outcome of whatever the old one had open final.
func (s *session) renew(ctx context.Context) error {
	s.client.Close()
	fresh, err := newSession(ctx, s.w)
	if err != nil {
		return err
	}
	*s = *fresh // with new slabs: requests of the old client may still read the records of the old ones
	for _, r := range s.w.tasks {
		r.task.DropMemory()
	}
	s.w.refetch()
	return nil
}

// resolve finds out what became of a transaction whose answer did not come (R5). The producer is initialised again, which
// makes the outcome final; then the committed metadata decides, by the counter and never by an offset.
func (s *session) resolve(ctx context.Context, dirty []*running, written map[*running][]task.Written, cause error) (outcome, error) {
	if fatal := s.fatal(cause); fatal != nil {
		return rolledBack, fatal
	}
	s.w.log.Warn("the outcome of a transaction is unknown; resolving", "cause", cause)
	since := time.Now()
	s.w.timing.resolved, s.w.timing.err = true, cause
	s.w.unresolved(since, false)
	defer func() { s.w.unresolved(since, true) }()
	if err := s.w.at(step.Resolve); err != nil {
		return rolledBack, err
	}
	if err := s.renew(ctx); err != nil {
		return rolledBack, problem.Wrap(problem.CommitUnresolved, s.txnID, err)
	}
	if err := s.w.after(step.Resolve); err != nil {
		return rolledBack, err
	}
	decided, err := s.decide(ctx, dirty)
	if err != nil {
		return rolledBack, problem.Wrap(problem.CommitUnresolved, s.txnID, err)
	}
	if err := s.w.at(step.Resolved); err != nil {
		return rolledBack, err
	}
	s.w.log.Info("transaction resolved", "outcome", outcomeOf(decided, true))
	if decided == committed {
		s.open = false
		s.w.timing.lapped = time.Now() // resolving is no phase
		return s.confirm(dirty, written)
	}
	s.w.tooSlowAlone(dirty)
	for _, r := range dirty {
		r.task.Abort()
	}
	s.reset()
	return decided, nil
}

// decide compares the counters of the dirty tasks with the committed ones. They were committed in one transaction, so they
// agree; tasks of which another owner has committed since are lost. Such an owner may have committed the same number, after our
// transaction was aborted: only number and attempt together are ours. Without metadata of ours, which an operator's move takes away, the
// offsets tell nothing: the task is given up and restored, since the changelogs know.
func (s *session) decide(ctx context.Context, dirty []*running) (outcome, error) {
	decided := rolledBack
	for i, r := range dirty {
		if err := s.w.at(step.Decide); err != nil {
			return rolledBack, err
		}
		m, ours, err := committedCounter(ctx, s.client, s.w.app.topics, s.group, r.task)
		if err != nil {
			return rolledBack, err
		}
		if err := s.w.after(step.Decide); err != nil {
			return rolledBack, err
		}
		n, this := r.task.Sealed().N, rolledBack
		switch {
		case r.task.IsSealed(&m):
			this = committed
		case m.N >= n, !ours && n > 1:
			this = tasksLost
		case m.N < n-1:
			return rolledBack, problem.New(problem.InvariantBroken, r.task.ID().String(), "committed counter %d, last known %d", m.N, n-1)
		}
		if i > 0 && this != decided && this != tasksLost && decided != tasksLost {
			return rolledBack, problem.New(problem.InvariantBroken, r.task.ID().String(), "tasks of one transaction disagree about its outcome")
		}
		if i == 0 || this == tasksLost {
			decided = this
		}
	}
	return decided, nil
}
