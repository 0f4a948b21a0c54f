package oncemill

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/internal/problem"
)

// fetchError decides about an error of reading an input.
func (w *worker) fetchError(topic string, partition int32, err error) error {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return nil // the poll ended
	}
	place := fmt.Sprintf("%s/%d", topic, partition)
	var loss *kgo.ErrDataLoss
	switch {
	case errors.As(err, &loss):
		return w.suspect(topic, partition, problem.InputTruncated, err)
	case errors.Is(err, kerr.OffsetOutOfRange):
		return w.suspect(topic, partition, problem.OffsetOutOfRange, err)
	case errors.Is(err, kerr.UnknownTopicOrPartition), errors.Is(err, kerr.UnknownTopicID), errors.Is(err, kerr.TopicAuthorizationFailed):
		return problem.Wrap(problem.TopicMissing, place, err)
	}
	w.log.Warn("reading an input failed; trying again", "input", place, "err", err)
	return nil
}

// suspect asks the broker whether the log really has lost what the task processed, or what comes next, before it says so: the
// client compares its own position, which may lie behind a marker that the log lost, or that a newer leader wrote.
func (w *worker) suspect(topic string, partition int32, code problem.Code, claim error) error {
	place := fmt.Sprintf("%s/%d", topic, partition)
	s, ours := w.byTopic[topic][partition]
	if !ours {
		return nil // who owns it finds out
	}
	next := s.run.task.Next(s.input)
	topics := []string{topic}
	starts, err := listOffsets(w.ctx, w.session.client, topics, partition, atStart, readUncommitted)
	if err != nil {
		return problem.Wrap(code, place, errors.Join(claim, err))
	}
	ends, err := listOffsets(w.ctx, w.session.client, topics, partition, atEnd, readUncommitted)
	if err != nil {
		return problem.Wrap(code, place, errors.Join(claim, err))
	}
	end := ends[topic]
	if epoch := s.run.task.LeaderEpoch(s.input); epoch >= 0 {
		of, err := epochEnd(w.ctx, w.session.client, topic, partition, epoch)
		if err != nil {
			return problem.Wrap(code, place, errors.Join(claim, err))
		}
		if of >= 0 { // a log without a history of epochs says -1
			end = min(end, of)
		}
	}
	switch {
	case next > end:
		return problem.Wrap(problem.InputTruncated, place, fmt.Errorf("the position is %d, what was processed ends at %d: %w", next, end, claim))
	case next < starts[topic]:
		return problem.Wrap(problem.OffsetOutOfRange, place, fmt.Errorf("the position is %d, the topic begins at %d: %w", next, starts[topic], claim))
	}
	w.log.Info("an input has everything that was processed, although the client missed something; reading on", "input", place, "position", next, "claim", claim)
	w.session.client.RemoveConsumePartitions(map[string][]int32{topic: {partition}})
	w.session.client.AddConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: kgo.NewOffset().At(next)}})
	return nil
}
