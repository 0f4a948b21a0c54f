package oncemill

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/statestore"
)

// A restore waits outages out. While it stands still, it says so, another one has its place, and what can only be mended by a
// person ends it.

// stands gives way to others and says what the restore waits for.
func (j *restoreJob) stands(ctx context.Context, s *stall, what string, cause error) error {
	if err := j.giveWay(ctx); err != nil {
		return err
	}
	if s.mustTell(stallPatience) {
		j.w.log.Warn("a task waits for what it needs to begin", "task", j.id, "for", what, "waited", s.lasted(), "err", cause)
	}
	return j.lookForTopics(ctx, cause)
}

// giveWay gives up the place among the restores, and the memory that a chunk frees: others may need both to go on.
func (j *restoreJob) giveWay(ctx context.Context) error {
	if !j.placed {
		return nil
	}
	if j.reading && j.state.Unwritten() > 0 {
		if err := j.writeChunk(ctx); err != nil {
			return err
		}
	}
	j.standAside()
	return nil
}

func (j *restoreJob) standAside() {
	if j.placed {
		<-j.limit
		j.placed = false
	}
}

// goesOn waits for a place.
func (j *restoreJob) goesOn(ctx context.Context) error {
	j.unknown = time.Time{}
	if j.placed {
		return nil
	}
	select {
	case j.limit <- struct{}{}:
		j.placed = true
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// endPatience is how long a changelog may end below the end that the restore was told until its leader is asked for the end again.
const endPatience = 10 * time.Second

// errShortened is a changelog that has lost its end since it was listed.
var errShortened = errors.New("a changelog ends below the end that was listed")

// awaitEnd waits for a transaction that is open in a changelog. If the log has no such end any more, none is: an unclean election took
// it. The leader's answer to ListOffsets is final, since one that does not know its end yet gives none (KIP-207).
func (j *restoreJob) awaitEnd(ctx context.Context, topic string, l *restoreLog) error {
	if l.open.mustTell(stallPatience) {
		j.w.log.Warn("a task waits for what it needs to begin", "task", j.id, "for", fmt.Sprintf("the end of a transaction that is open in %s/%d", topic, j.id.Partition),
			"waited", l.open.lasted(), "position", l.next, "end", l.end)
	}
	if l.open.lasted() < endPatience {
		return nil
	}
	ends, err := listOffsets(ctx, j.client, []string{topic}, j.id.Partition, atEnd, readUncommitted)
	if err != nil {
		return err
	}
	if end := ends[topic]; end < l.end {
		j.w.log.Warn("a changelog has lost its end while it was read; the task is restored anew", "task", j.id, "topic", topic, "partition", j.id.Partition, "end", end, "before", l.end)
		return errShortened
	}
	return nil
}

// startOver drops what was read of a log that is another one now.
func (j *restoreJob) startOver(ctx context.Context) error {
	if err := j.readAnew(); err != nil {
		return err
	}
	j.restored, j.latest = restored{id: j.id, sub: j.sub, state: j.state}, statestore.Checkpoint{}
	return j.state.Drop(ctx)
}

// lookForTopics ends a restore whose topics are gone. Brokers that have just come up do not know all topics yet, so they are asked
// only when that has lasted.
func (j *restoreJob) lookForTopics(ctx context.Context, cause error) error {
	if !unknownTopic(cause) {
		return nil
	}
	if j.unknown.IsZero() {
		j.unknown = time.Now()
	}
	if time.Since(j.unknown) < goneAfter {
		return nil
	}
	j.unknown = time.Now()
	var names []string
	for _, in := range j.sub.Inputs {
		names = append(names, in.Topic)
	}
	for _, st := range j.sub.Stores {
		names = append(names, st.Changelog)
	}
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	found, err := kadm.NewClient(j.client).ListTopics(ctx, names...)
	if err != nil {
		return nil // the brokers can be waited for
	}
	slices.Sort(names)
	for _, name := range names {
		if err := j.judgeTopic(name, found[name], cause); err != nil {
			return err
		}
	}
	return nil
}

// judgeTopic refuses a topic that is gone. One that has too few partitions is of a task that was made while the application ran:
// the other tasks go on.
func (j *restoreJob) judgeTopic(name string, found kadm.TopicDetail, cause error) error {
	place := fmt.Sprintf("topic %q", name)
	_, has := found.Partitions[j.id.Partition]
	switch {
	case errors.Is(found.Err, kerr.UnknownTopicOrPartition):
		return problem.Wrap(problem.TopicMissing, place, cause).
			WithCure("make topic %q as it was when the application started, with its records if it is a changelog", name)
	case found.Err != nil:
	case found.ID != j.w.app.topics.info(name).id:
		return problem.Wrap(problem.TopicRecreated, place, cause).
			WithCure("start again: what is in topic %q now is checked at every start", name)
	case !has && j.lacking.mustTell(0):
		j.w.log.Error("a task does not run: partitions were added to an input while the application ran", "task", j.id, "topic", name,
			"err", problem.New(problem.PartitionsChanged, place, "it has %d partitions, none for task %s", len(found.Partitions), j.id).
				WithCure("stop all instances and start them again: the start names the topics that do not fit, and what to do"))
	}
	return nil
}
