package oncemill

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/oncemill/oncemill/internal/graph"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/internal/step"
)

// goneAfter is how long the brokers have to say that a topic does not exist until it is believed: a broker that has just come up
// does not know all topics yet, and that is an outage.
const goneAfter = 10 * time.Second

// lookFor asks for a topic that a broker did not know when it was produced to. Unless it is gone, the transaction is tried again:
// no record is to blame. One that is gone is the fault of the records that name it; a topic that the topology names is nobody's.
func (s *session) lookFor(ctx context.Context, name string, cause error) error {
	topics := s.w.app.topics
	if err := s.w.at(step.LookFor); err != nil {
		return err
	}
	id, err := s.idOf(ctx, name)
	if err := s.w.after(step.LookFor); err != nil {
		return err
	}
	switch gone := errors.Is(err, kerr.UnknownTopicOrPartition); {
	case err != nil && !gone:
		s.w.log.Warn("a broker does not know a topic, and the others cannot be asked", "topic", name, "err", err)
		return nil
	case !gone && id == topics.info(name).id:
		delete(s.w.unknown, name)
		s.stale = errors.Is(cause, kerr.UnknownTopicID) // the client may hold on to one before
		return nil
	case !gone && s.holdsState(name):
		return problem.Wrap(problem.TopicRecreated, fmt.Sprintf("topic %q", name), cause).
			WithCure("start again: what is in topic %q now is checked at every start", name)
	case !gone: // made again; the client holds on to the one before
		s.stale = true
		return topics.load(ctx, name)
	}
	since, known := s.w.unknown[name]
	if !known {
		since = time.Now()
		s.w.unknown[name] = since
	}
	if time.Since(since) < goneAfter {
		return nil
	}
	if _, internal := s.internal(name); internal || slices.Contains(s.w.app.plan.Sinks(), name) {
		return problem.Wrap(problem.TopicMissing, fmt.Sprintf("topic %q", name), cause).
			WithCure("make topic %q as it was when the application started; nothing is lost: what was not committed runs again", name)
	}
	s.refuseAll(name, cause)
	topics.forget(name)
	return nil
}

// internal finds an internal topic.
func (s *session) internal(topic string) (graph.TopicKind, bool) {
	for _, in := range s.w.app.plan.Internal {
		if in.Name == topic {
			return in.Kind, true
		}
	}
	return 0, false
}

// holdsState tells the topics that cannot be made again under a running application.
func (s *session) holdsState(topic string) bool {
	kind, internal := s.internal(topic)
	return internal && kind != graph.TopicDeadLetters && kind != graph.TopicFillers
}

// refuseAll refuses every output of the open transaction to a topic.
func (s *session) refuseAll(topic string, cause error) {
	for i := range s.produced {
		if p := &s.slabs[i/slabRecords][i%slabRecords]; p.Topic == topic {
			p.owner.task.Refuse(p.output(), cause)
		}
	}
}

// idOf asks for the id of a topic, in one try, and not the client's memory.
func (s *session) idOf(ctx context.Context, name string) (id [16]byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	req, topic := kmsg.NewPtrMetadataRequest(), kmsg.NewMetadataRequestTopic()
	topic.Topic = &name
	req.Topics = append(req.Topics, topic)
	resp, err := req.RequestWith(ctx, s.client)
	if err != nil {
		return id, err
	}
	for _, t := range resp.Topics {
		if t.Topic != nil && *t.Topic == name {
			return t.TopicID, kerr.ErrorForCode(t.ErrorCode)
		}
	}
	return id, kerr.UnknownTopicOrPartition
}

// forget makes the next output to a topic look for it.
func (t *topics) forget(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.mu.byName, name)
}
