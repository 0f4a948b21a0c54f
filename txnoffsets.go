package oncemill

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/internal/step"
	"github.com/oncemill/oncemill/internal/task"
)

// lostEnds refuses a transaction whose changelog records came to lie before what was committed: an unclean election of a leader took that
// away, and the state could not be restored any more. It is looked for whether or not the transaction can be committed: its records may
// fill the gap.
func lostEnds(written map[*running][]task.Written) error {
	for r, places := range written {
		for _, w := range places {
			for _, log := range r.task.Logs() {
				if log.Topic == w.Topic && log.TopicID == w.TopicID && w.First < log.Next {
					return problem.New(problem.StateBehind, r.task.ID().String(), "%s/%d lost its end: committed was up to %d, the next record went to %d",
						w.Topic, r.task.ID().Partition, log.Next, w.First)
				}
			}
		}
	}
	return nil
}

// commitOffsets adds the positions to the transaction.
func (s *session) commitOffsets(ctx context.Context, dirty []*running, written map[*running][]task.Written) error {
	by, err := s.sender(ctx)
	if err != nil {
		return err
	}
	if by != s.producer {
		s.broken = errBeganAnew
		return s.broken
	}
	if s.oldTxns {
		if err := s.w.at(step.AddOffsets); err != nil {
			return err
		}
		if err := s.addOffsets(ctx, by); err != nil {
			return err
		}
		if err := s.w.after(step.AddOffsets); err != nil {
			return err
		}
	}
	if err := s.w.at(step.CommitOffsets); err != nil {
		return err
	}
	req := kmsg.NewPtrTxnOffsetCommitRequest()
	req.TransactionalID, req.Group, req.ProducerID, req.ProducerEpoch = s.txnID, s.group, by.id, by.epoch
	req.InstanceID = &s.w.instance
	eachOffset(dirty, written, func(topic string, partition int32, next int64, leaderEpoch int32, metadata string) {
		p := kmsg.NewTxnOffsetCommitRequestTopicPartition()
		p.Partition, p.Offset, p.LeaderEpoch, p.Metadata = partition, next, leaderEpoch, &metadata
		if n := len(req.Topics); n == 0 || req.Topics[n-1].Topic != topic {
			t := kmsg.NewTxnOffsetCommitRequestTopic()
			t.Topic, t.TopicID = topic, s.w.app.topics.info(topic).id
			req.Topics = append(req.Topics, t)
		}
		t := &req.Topics[len(req.Topics)-1]
		t.Partitions = append(t.Partitions, p)
	})
	return s.fencedByGroup(ctx, func() error {
		as, err := s.w.fence()
		if err != nil {
			return err
		}
		req.MemberID, req.Generation = as.id, as.generation
		resp, err := req.RequestWith(ctx, s.client)
		if err != nil {
			return err
		}
		for _, t := range resp.Topics {
			for _, p := range t.Partitions {
				if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
					return fmt.Errorf("TxnOffsetCommit of %s/%d: %w", t.Topic, p.Partition, err)
				}
			}
		}
		return nil
	})
}

// fencedByGroup retries an offset commit while the group is between two generations. A generation that the worker has not been
// told of is refused until the callback that tells of it waits: until then nobody knows whether the tasks are still ours.
func (s *session) fencedByGroup(ctx context.Context, commit func() error) error {
	deadline := time.Now().Add(s.w.app.cfg.TransactionTimeout / 2)
	for {
		err := commit()
		if err != nil && s.w.lapsed() {
			return fmt.Errorf("%w (%v)", errGivenUp, err) // fenced by our own next membership, not by another process
		}
		retriable := errors.Is(err, kerr.RebalanceInProgress) || errors.Is(err, kerr.IllegalGeneration) || errors.Is(err, kerr.ConcurrentTransactions) ||
			errors.Is(err, kerr.CoordinatorLoadInProgress) || errors.Is(err, kerr.NotCoordinator) || errors.Is(err, kerr.CoordinatorNotAvailable)
		if !retriable || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(commitBackoff):
		}
	}
}

// commitBackoff is the pause between two tries of an offset commit.
const commitBackoff = 20 * time.Millisecond

func (s *session) addOffsets(ctx context.Context, by producer) error {
	return s.fencedByGroup(ctx, func() error {
		req := kmsg.NewPtrAddOffsetsToTxnRequest()
		req.TransactionalID, req.Group, req.ProducerID, req.ProducerEpoch = s.txnID, s.group, by.id, by.epoch
		resp, err := req.RequestWith(ctx, s.client)
		if err != nil {
			return err
		}
		return kerr.ErrorForCode(resp.ErrorCode)
	})
}

// eachOffset yields the position of every input of every task, also of inputs that were empty: a position that is missing
// later means that it was lost, not that there was never one.
func eachOffset(dirty []*running, written map[*running][]task.Written, fn func(topic string, partition int32, next int64, epoch int32, metadata string)) {
	for _, r := range dirty {
		m := r.task.Metadata(written[r])
		text := m.Encode()
		for _, in := range r.task.Sealed().Inputs {
			fn(in.Topic, r.task.ID().Partition, in.Next, in.LeaderEpoch, text)
		}
	}
}
