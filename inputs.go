package oncemill

import (
	"context"
	"fmt"

	"github.com/oncemill/oncemill/internal/graph"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/internal/task"
)

// checkInputs decides where each input begins, and refuses what would lose or repeat records.
func (j *restoreJob) checkInputs(ctx context.Context) error {
	var topics []string
	for _, in := range j.sub.Inputs {
		topics = append(topics, in.Topic)
	}
	starts, err := listOffsets(ctx, j.client, topics, j.id.Partition, atStart, readUncommitted)
	if err != nil {
		return err
	}
	ends, err := listOffsets(ctx, j.client, topics, j.id.Partition, atEnd, readUncommitted)
	if err != nil {
		return err
	}
	for _, in := range j.sub.Inputs {
		start, err := j.startOf(in, starts[in.Topic], ends[in.Topic])
		if err != nil {
			return err
		}
		j.starts = append(j.starts, start)
	}
	return nil
}

// startOf returns where an input begins beyond the position of the state, or 0.
func (j *restoreJob) startOf(in graph.Input, first, end int64) (int64, error) {
	cfg, place := j.w.app.cfg, fmt.Sprintf("%s/%d", in.Topic, j.id.Partition)
	known := -1
	for i := range j.at.Inputs {
		if j.at.Inputs[i].Topic == in.Topic {
			known = i
		}
	}
	c := j.committed[in.Topic]
	if known < 0 {
		if c.Offset >= 0 {
			return c.Offset, nil
		}
		if cfg.StartFrom == StartLatest && !in.Internal {
			j.chosen = true
			return end, nil
		}
		return first, nil
	}
	at := &j.at.Inputs[known]
	if id := j.w.app.topics.info(in.Topic).id; at.TopicID != id {
		if !cfg.accepts(in.Topic) {
			return 0, problem.New(problem.TopicRecreated, place, "its topic id is %x, the state was built from %x", id, at.TopicID).
				WithCure("if that is intended, set Config.AcceptRecreated to %q: the new topic is read from its beginning, state and markers stay", in.Topic)
		}
		at.TopicID, at.Next, at.LeaderEpoch = id, first, -1
		return first, nil
	}
	_, ours, err := task.DecodeMetadata(c.Metadata)
	switch {
	case err != nil:
		return 0, err
	case c.Offset < 0:
		return 0, problem.New(problem.OffsetMissing, place, "state exists up to %d, but the group has no offset", at.Next).
			WithCure("stop all instances; %s", j.setOffset(in.Topic, at.Next))
	case ours && c.Offset != at.Next:
		return 0, problem.New(problem.InvariantBroken, place, "transaction %d: committed offset %d, state at %d", j.at.N, c.Offset, at.Next)
	case c.Offset > at.Next && !cfg.AcceptSkip:
		return 0, problem.New(problem.OffsetAhead, place, "the offset was moved to %d, the state is at %d", c.Offset, at.Next).
			WithCure("stop all instances; %s; or skip the records between with Config.AcceptSkip", j.setOffset(in.Topic, at.Next))
	case c.Offset < at.Next:
		j.w.log.Warn("the committed offset was moved back; records that the state includes are not processed again", "input", place, "offset", c.Offset, "state", at.Next)
	}
	next := max(at.Next, c.Offset)
	switch {
	case next < first:
		return 0, problem.New(problem.OffsetOutOfRange, place, "the position is %d, the topic begins at %d: %d records are gone", next, first, first-next).
			WithCure("restore the topic; or, to go on without them, stop all instances; %s; and start with Config.AcceptSkip", j.setOffset(in.Topic, first))
	case next > end && cfg.accepts(in.Topic):
		j.w.log.Warn("the input ends before the position; what is written from here on is new", "input", place, "end", end, "position", next)
		at.Next, at.LeaderEpoch, j.chosen = end, -1, true
		return end, nil
	case next > end:
		return 0, problem.New(problem.InputTruncated, place, "the position is %d, the topic ends at %d: %d records that were processed are gone", next, end, next-end).
			WithCure("restore the topic; or, if that cannot be, name %q in Config.AcceptRecreated: what is written from its end on is processed as new", in.Topic)
	}
	return next, nil
}

// setOffset is the command that moves the position of an input.
func (j *restoreJob) setOffset(topic string, to int64) string {
	return fmt.Sprintf("kafka-consumer-groups.sh --bootstrap-server %s --reset-offsets --to-offset %d --group %s --topic %s:%d --execute",
		j.w.app.cfg.Brokers[0], to, j.w.app.plan.App, topic, j.id.Partition)
}

func (c *Config) accepts(topic string) bool {
	for _, t := range c.AcceptRecreated {
		if t == topic {
			return true
		}
	}
	return false
}
