package demo

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/examples/retail"
	"github.com/oncemill/oncemill/internal/graph"
	"github.com/oncemill/oncemill/internal/problem"
)

// kafka is what the trial asks of the brokers.
type kafka struct {
	client *kgo.Client
	admin  *kadm.Client
	app    string
	plan   *graph.Plan // nil for ByHand
	topics retail.Topics
	// owned topics are created by the trial, internal ones by the engine; repartition topics are among the latter.
	owned, internal, repartition []string
	instances                    []string // static members that the worker leaves behind
	made                         bool     // something may have been made that is to be removed
}

// metadataMinAge lets clients see new topics soon.
const metadataMinAge = 100 * time.Millisecond

func newKafka(c Config) (*kafka, error) {
	k := &kafka{app: c.App, topics: retail.TopicsOf(c.App)}
	k.owned = k.topics.Owned()
	if c.Variant == ByHand {
		k.owned = append(k.owned, k.topics.DeadLetters)
		k.instances = []string{c.App + "-by-hand"}
	} else {
		plan, err := retail.Job(retail.JobOptions{App: c.App, NoDedup: c.Variant == NoDedup}).Build()
		if err != nil {
			return nil, err
		}
		k.plan, k.instances = plan, []string{instance + "-0"}
		for _, in := range plan.Internal {
			k.internal = append(k.internal, in.Name)
			if in.Kind == graph.TopicRepartition {
				k.repartition = append(k.repartition, in.Name)
			}
		}
	}
	client, err := kgo.NewClient(append([]kgo.Opt{kgo.MetadataMinAge(metadataMinAge), kgo.DisableClientMetrics()}, c.Client...)...)
	if err != nil {
		return nil, problem.Wrap(problem.ConfigInvalid, "connection", err)
	}
	k.client, k.admin = client, kadm.NewClient(client)
	return k, nil
}

// outputs are the owned topics that the worker writes.
func (k *kafka) outputs() []string {
	return []string{k.topics.Accepted, k.topics.Gifts, k.topics.Units}
}

// create creates the topics that must exist before the worker starts. Topics that exist are refused: they are somebody's.
func (k *kafka) create(ctx context.Context, timeout time.Duration) error {
	contact, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := k.client.Ping(contact); err != nil {
		return failed("demo", err)
	}
	k.made = true
	created, err := k.admin.CreateTopics(ctx, partitions, -1, nil, k.owned...)
	if err == nil {
		err = created.Error()
	}
	return failed("CreateTopics", err)
}

// failed tells a request that brokers refused from one that they did not get, or not answer. Nil stays nil.
func failed(place string, err error) error {
	var refused *kerr.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &refused):
		return problem.Wrap(problem.BrokersRefused, place, err)
	}
	return problem.Wrap(problem.BrokersUnreachable, place, err)
}

// positions are committed offsets.
type positions struct{ offsets kadm.OffsetResponses }

func (p positions) at(topic string, partition int32) int64 {
	at, ok := p.offsets.Lookup(topic, partition)
	if !ok {
		return 0
	}
	return max(at.At, 0) // -1: none yet
}

// notYet are the answers about a group that does not exist yet, or that no broker is in charge of at the moment: a cluster's
// first group waits for the topic of the offsets.
var notYet = []error{kerr.GroupIDNotFound, kerr.CoordinatorNotAvailable, kerr.CoordinatorLoadInProgress, kerr.NotCoordinator}

// positions returns the group's committed offsets, or none if they cannot be known now.
func (k *kafka) positions(ctx context.Context) (positions, error) {
	offsets, err := k.admin.FetchOffsets(ctx, k.app)
	if slices.ContainsFunc(notYet, func(e error) bool { return errors.Is(err, e) }) {
		return positions{}, nil
	}
	if err != nil {
		return positions{}, failed("OffsetFetch", err)
	}
	return positions{offsets}, nil
}

// committed is the number of input messages behind the group's position.
func (k *kafka) committed(ctx context.Context) (int, error) {
	at, err := k.positions(ctx)
	n := int64(0)
	for p := range int32(partitions) {
		n += at.at(k.topics.Input, p)
	}
	return int(n), err
}

// written is the number of records in the outputs, committed or not, with the markers of transactions.
func (k *kafka) written(ctx context.Context) (int, error) {
	ends, err := k.admin.ListEndOffsets(ctx, k.outputs()...)
	if err == nil {
		err = ends.Error()
	}
	n := int64(0)
	ends.Each(func(end kadm.ListedOffset) { n += end.Offset })
	return int(n), err
}

// cleanTimeout bounds the cleaning; it also comes after a run whose time was over.
const cleanTimeout = 10 * time.Second

// clean deletes topics and group. Static members keep their place until their session ends, and with it the group: they are
// asked to leave first. The first thing that fails ends it: brokers that are gone answer the rest no better.
func (k *kafka) clean() error {
	if !k.made {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), cleanTimeout)
	defer cancel()
	unless := func(what string, err error) error {
		if err == nil || errors.Is(err, kerr.UnknownTopicOrPartition) || errors.Is(err, kerr.GroupIDNotFound) ||
			errors.Is(err, kerr.UnknownMemberID) {
			return nil // it was not there: the run ended early
		}
		return failed(what+" of "+k.app, err)
	}
	left, err := k.admin.LeaveGroup(ctx, kadm.LeaveGroup(k.app).InstanceIDs(k.instances...))
	if err == nil {
		err = left.Error()
	}
	err = unless("LeaveGroup", err)
	if problem.CodeOf(err) == problem.BrokersUnreachable {
		return err
	}
	errs := []error{err}
	if _, err = k.admin.DeleteGroup(ctx, k.app); err != nil {
		errs = append(errs, unless("DeleteGroups", err))
	}
	deleted, err := k.admin.DeleteTopics(ctx, slices.Concat(k.owned, k.internal)...)
	errs = append(errs, unless("DeleteTopics", err))
	for _, d := range deleted {
		errs = append(errs, unless("DeleteTopics", d.Err))
	}
	return errors.Join(errs...)
}
