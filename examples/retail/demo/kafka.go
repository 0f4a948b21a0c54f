package demo

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/oncemill/oncemill/examples/retail"
	"github.com/oncemill/oncemill/internal/graph"
	"github.com/oncemill/oncemill/internal/guest"
)

// kafka is what the trial asks of the brokers.
type kafka struct {
	*guest.Guest
	app    string
	plan   *graph.Plan // nil for ByHand
	topics retail.Topics
	// owned topics are created by the trial, internal ones by the engine; repartition topics are among the latter.
	owned, internal, repartition []string
	instances                    []string // static members that the worker leaves behind
}

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
	var err error
	k.Guest, err = guest.New(c.App, guest.Options(c.Client...))
	return k, err
}

// outputs are the owned topics that the worker writes.
func (k *kafka) outputs() []string {
	return []string{k.topics.Accepted, k.topics.Gifts, k.topics.Units}
}

// create creates the topics that must exist before the worker starts. Topics that exist are refused: they are somebody's.
func (k *kafka) create(ctx context.Context, timeout time.Duration) error {
	if err := k.Reach(ctx, "demo", timeout); err != nil {
		return err
	}
	return k.Create(ctx, partitions, -1, nil, k.owned...)
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
	offsets, err := k.Admin.FetchOffsets(ctx, k.app)
	if slices.ContainsFunc(notYet, func(e error) bool { return errors.Is(err, e) }) {
		return positions{}, nil
	}
	if err != nil {
		return positions{}, guest.Failed("OffsetFetch", err)
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
	ends, err := k.Admin.ListEndOffsets(ctx, k.outputs()...)
	if err == nil {
		err = ends.Error()
	}
	n := int64(0)
	ends.Each(func(end kadm.ListedOffset) { n += end.Offset })
	return int(n), err
}

// cleanTimeout bounds the cleaning; it also comes after a run whose time was over.
const cleanTimeout = 10 * time.Second

// clean deletes topics and group.
func (k *kafka) clean() error {
	return k.Clean(cleanTimeout, k.instances, slices.Concat(k.owned, k.internal))
}
