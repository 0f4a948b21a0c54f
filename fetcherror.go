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
	if partition < 0 { // all of them
		place = fmt.Sprintf("topic %q", topic)
	}
	var loss *kgo.ErrDataLoss
	switch {
	case errors.As(err, &loss):
		w.suspect(topic, partition, problem.InputTruncated, err)
		return nil
	case errors.Is(err, kerr.OffsetOutOfRange):
		w.suspect(topic, partition, problem.OffsetOutOfRange, err)
		return nil
	case unknownTopic(err):
		return problem.Wrap(problem.TopicMissing, place, err)
	case errors.Is(err, kerr.TopicAuthorizationFailed):
		return problem.Wrap(problem.BrokersRefused, place, err)
	}
	w.log.Warn("reading an input failed; trying again", "input", place, "err", err)
	return nil
}

func unknownTopic(err error) bool {
	return errors.Is(err, kerr.UnknownTopicOrPartition) || errors.Is(err, kerr.UnknownTopicID)
}
