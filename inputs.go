package oncemill

import (
	"context"
	"fmt"
	"slices"

	"github.com/oncemill/oncemill/internal/graph"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/internal/task"
	"github.com/oncemill/oncemill/statestore"
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
	stable := ends
	if j.w.app.cfg.StartFrom == StartLatest { // what an open transaction holds becomes visible after the start
		if stable, err = listOffsets(ctx, j.client, topics, j.id.Partition, atEnd, readCommitted); err != nil {
			return err
		}
	}
	for _, in := range j.sub.Inputs {
		log := inputLog{first: starts[in.Topic], end: ends[in.Topic], stable: stable[in.Topic]}
		if log.kept, err = j.kept(ctx, in.Topic); err != nil {
			return err
		}
		start, err := j.startOf(in, log)
		if err != nil {
			return err
		}
		j.starts = append(j.starts, start)
	}
	return nil
}

// inputLog is what the leader of an input says of its log. The stable end is the first offset of an open transaction, or the end.
type inputLog struct {
	first, end, stable int64
	// kept is the end of what the log has of the leader epoch in which the position lies, or -1 if there is none to ask for. It is
	// below the position if the log lost its end in an unclean election, even if it has grown beyond it since (KIP-320).
	kept int64
}

// kept asks for the end of the leader epoch of the position in an input.
func (j *restoreJob) kept(ctx context.Context, topic string) (int64, error) {
	i := j.positionIn(topic)
	if i < 0 || j.at.Inputs[i].LeaderEpoch < 0 || j.at.Inputs[i].TopicID != j.w.app.topics.info(topic).id {
		return -1, nil
	}
	return epochEnd(ctx, j.client, topic, j.id.Partition, j.at.Inputs[i].LeaderEpoch)
}

// positionIn returns the index of an input among the positions of the state, or -1.
func (j *restoreJob) positionIn(topic string) int {
	return slices.IndexFunc(j.at.Inputs, func(at statestore.Input) bool { return at.Topic == topic })
}

// startOf returns where an input begins beyond the position of the state, or 0.
func (j *restoreJob) startOf(in graph.Input, log inputLog) (int64, error) {
	cfg, place := j.w.app.cfg, fmt.Sprintf("%s/%d", in.Topic, j.id.Partition)
	known := j.positionIn(in.Topic)
	c, first := j.committed[in.Topic], log.first
	if known < 0 {
		if c.Offset >= 0 {
			return c.Offset, nil
		}
		added := j.id.Partition >= j.w.app.atStart[in.Topic] // while we run: all that it has was written after the start
		if cfg.StartFrom == StartLatest && !in.Internal && !added {
			j.chosen = true
			return log.stable, nil
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
		return 0, problem.New(problem.InvariantBroken, place, "transaction %d: committed offset %d, state at %d", j.at.N, c.Offset, at.Next).WithCure("%s", j.trustState())
	case c.Offset > at.Next && !cfg.AcceptSkip:
		return 0, problem.New(problem.OffsetAhead, place, "the offset was moved to %d, the state is at %d", c.Offset, at.Next).
			WithCure("stop all instances; %s; or skip the records between with Config.AcceptSkip", j.setOffset(in.Topic, at.Next))
	case c.Offset < at.Next:
		j.w.log.Warn("the committed offset was moved back; records that the state includes are not processed again", "input", place, "offset", c.Offset, "state", at.Next)
	}
	next, end := max(at.Next, c.Offset), log.end
	lost := next > end
	if log.kept >= 0 && log.kept < at.Next {
		lost, end = true, min(end, log.kept)
	}
	switch {
	case next < first:
		return 0, problem.New(problem.OffsetOutOfRange, place, "the position is %d, the topic begins at %d: %d records are gone", next, first, first-next).
			WithCure("restore the topic; or, to go on without them, stop all instances; %s; and start with Config.AcceptSkip", j.setOffset(in.Topic, first))
	case lost && cfg.accepts(in.Topic):
		j.w.log.Warn("the input ends before the position; what is written from here on is new", "input", place, "end", end, "position", next)
		at.Next, at.LeaderEpoch, j.chosen = end, -1, true
		return end, nil
	case lost:
		return 0, problem.New(problem.InputTruncated, place, "the position is %d, of that log the topic has records up to %d: %d records that were processed are gone", next, end, next-end).
			WithCure("restore the topic; or, if that cannot be, name %q in Config.AcceptRecreated: what was written from its end on is processed as new", in.Topic)
	}
	return next, nil
}

// trustState says how an operator who has put back older offsets, with their metadata, goes on with the state.
func (j *restoreJob) trustState() string {
	text := "If a tool has set the offsets of the group back, as a restored backup does: stop all instances"
	for _, in := range j.at.Inputs {
		text += "; " + j.setOffset(in.Topic, in.Next)
	}
	return text + ". Otherwise a part of a transaction may be committed and the rest not: keep the state directory, the topics and the logs as they are for the report"
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
