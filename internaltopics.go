package oncemill

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/oncemill/oncemill/internal/graph"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/internal/step"
)

// setting is one that an internal topic must have, or state is lost.
type setting struct{ key, value string }

// settings of the kinds of internal topics.
func settings(kind graph.TopicKind) []setting {
	switch kind {
	case graph.TopicChangelog, graph.TopicFillers:
		return []setting{{"cleanup.policy", "compact"}}
	case graph.TopicMarkerChangelog, graph.TopicRepartition, graph.TopicDeadLetters, graph.TopicReplay:
		return []setting{{"cleanup.policy", "delete"}, {"retention.ms", "-1"}, {"retention.bytes", "-1"}}
	}
	return nil
}

// wanted is the number of partitions of an internal topic; 0 when nothing tells.
func (t *topics) wanted(in graph.InternalTopic) int32 {
	most := int32(0)
	for _, n := range t.tasks {
		most = max(most, n)
	}
	switch {
	case in.Kind == graph.TopicFillers:
		return in.Partitions
	case in.Sub >= 0:
		return t.tasks[in.Sub]
	}
	return most
}

// checkInternal refuses internal topics whose number of partitions is not that of their tasks.
func (t *topics) checkInternal(all []graph.InternalTopic) (errs []error) {
	for _, in := range all {
		want, info := t.wanted(in), t.info(in.Name)
		if info.missing || want == 0 || info.partitions == want || in.Kind == graph.TopicDeadLetters {
			continue
		}
		p := problem.New(problem.PartitionsChanged, fmt.Sprintf("%s topic %q", in.Kind, in.Name),
			"it has %d partitions, the inputs of its sub-topology have %d", info.partitions, want)
		if in.Sub >= 0 {
			p = p.WithCure("copy each input (%s) to a new topic with %d partitions and read that, since Kafka takes no partitions away; or use another application name and read the inputs again",
				strings.Join(t.inputsOf(in.Sub), ", "), info.partitions)
		}
		errs = append(errs, p)
	}
	return errs
}

// inputsOf are the user's topics that a sub-topology reads, or the repartition topics if there are none.
func (t *topics) inputsOf(sub int) (owned []string) {
	var internal []string
	for _, in := range t.plan.Subs[sub].Inputs {
		switch {
		case !in.Internal:
			owned = append(owned, in.Topic)
		case !in.Replay:
			internal = append(internal, in.Topic)
		}
	}
	if len(owned) == 0 {
		return internal
	}
	return owned
}

// checkSettings refuses an internal topic with settings that would lose state, with the command that mends them.
func (t *topics) checkSettings(name string, kind graph.TopicKind, values map[string]string) error {
	var wrong, mended []string
	for _, s := range settings(kind) {
		got, known := values[s.key]
		if !known || got == s.value || s == (setting{"cleanup.policy", "delete"}) && got == "" {
			continue
		}
		wrong = append(wrong, fmt.Sprintf("%s is %q, it must be %q", s.key, got, s.value))
		mended = append(mended, s.key+"="+s.value)
	}
	if len(wrong) == 0 {
		return nil
	}
	return problem.New(problem.TopicMisconfigured, fmt.Sprintf("%s topic %q", kind, name), "%s", strings.Join(wrong, "; ")).
		WithCure("kafka-configs.sh --bootstrap-server %s --alter --entity-type topics --entity-name %s --add-config %s", t.cfg.Brokers[0], name, strings.Join(mended, ","))
}

// createTimeout bounds the creation of internal topics, and the deletion of those whose stores were removed.
const createTimeout = 30 * time.Second

// createInternal creates the internal topics that are missing. Everything else was found to be right before.
func (t *topics) createInternal(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, createTimeout)
	defer cancel()
	var missing []graph.InternalTopic
	var names []string
	var errs []error
	for _, in := range t.plan.Internal {
		if !t.info(in.Name).missing {
			continue
		}
		missing, names = append(missing, in), append(names, in.Name)
		err := t.cfg.take(step.CreateTopics, func() error { return t.create(ctx, in) })
		if step.Unwound(err) {
			return err
		}
		if err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 || len(missing) == 0 {
		return errors.Join(errs...)
	}
	if err := t.await(ctx, names); err != nil {
		return err
	}
	t.cfg.Logger.Info("created internal topics", "topics", names)
	// Another process may have been faster, with other topics or another program.
	return errors.Join(append(t.checkInternal(missing), t.loadConfigs(ctx, names))...)
}

func (t *topics) create(ctx context.Context, in graph.InternalTopic) error {
	values := map[string]*string{}
	var flags strings.Builder
	for _, s := range append(settings(in.Kind), t.roomForInputs(in.Kind)...) {
		values[s.key] = &s.value
		fmt.Fprintf(&flags, " --config %s=%s", s.key, s.value)
	}
	partitions := max(1, t.wanted(in))
	var resp kadm.CreateTopicResponse
	err := whileItPasses(ctx, func() (err error) {
		resp, err = t.admin.CreateTopic(ctx, partitions, t.cfg.ReplicationFactor, values, in.Name)
		return err
	})
	if errors.Is(resp.Err, kerr.TopicAlreadyExists) { // the answer is an error too
		return nil
	}
	if err == nil {
		return nil
	}
	if resp.ErrMessage != "" {
		err = fmt.Errorf("%w (%s)", err, resp.ErrMessage)
	}
	p := t.cfg.unreachable(fmt.Sprintf("CreateTopics of %s topic %q", in.Kind, in.Name), err)
	command := fmt.Sprintf("kafka-topics.sh --bootstrap-server %s --create --topic %s --partitions %d%s", t.cfg.Brokers[0], in.Name, partitions, flags.String())
	switch {
	case resp.Err == nil, kerr.IsRetriable(resp.Err):
		return p
	case errors.Is(err, kerr.InvalidReplicationFactor):
		return p.WithCure("set Config.ReplicationFactor to at most the number of brokers")
	case isOneOf(err, kerr.ClusterAuthorizationFailed, kerr.TopicAuthorizationFailed):
		return p.WithCure("allow this user to create topics, or let an administrator do it: %s", command)
	}
	return p.WithCure("mend what the brokers name, or let an administrator create it, as near to this as they allow: %s", command)
}

// letterBytes is more than the error headers add to a record.
const letterBytes = 64 << 10

// roomForInputs lets the topics that take records of the inputs take the largest: a record that fails and does not fit into the
// dead letters would stop the application.
func (t *topics) roomForInputs(kind graph.TopicKind) []setting {
	if kind != graph.TopicDeadLetters && kind != graph.TopicReplay {
		return nil
	}
	most := 0
	for _, name := range t.plan.Sources() {
		most = max(most, t.info(name).limit)
	}
	if most == 0 { // unknown
		return nil
	}
	return []setting{{"max.message.bytes", strconv.Itoa(min(most, math.MaxInt32-letterBytes) + letterBytes)}}
}

// await waits until the metadata shows new topics.
func (t *topics) await(ctx context.Context, names []string) error {
	for {
		if err := t.load(ctx, names...); err != nil {
			return err
		}
		missing := ""
		for _, name := range names {
			if t.info(name).missing {
				missing = name
			}
		}
		if missing == "" {
			return nil
		}
		select {
		case <-ctx.Done():
			return problem.New(problem.TopicMissing, fmt.Sprintf("internal topic %q", missing), "it was created but does not appear").Because(ctx.Err()).
				WithCure("look at the brokers' logs for why it has no leader, and start again")
		case <-time.After(50 * time.Millisecond):
		}
	}
}
