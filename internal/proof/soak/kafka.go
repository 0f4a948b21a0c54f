package soak

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/oncemill/oncemill/internal/graph"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/internal/proof"
	"github.com/oncemill/oncemill/internal/verify/kafkalog"
	"github.com/oncemill/oncemill/record"
)

// kafka is what the soak itself asks of the brokers.
type kafka struct {
	client *kgo.Client
	admin  *kadm.Client
	app    string
	names  proof.Names
	plan   *graph.Plan
	made   bool // something may have been made that is to be removed
}

// metadataMinAge lets clients see new topics and leaders soon.
const metadataMinAge = 100 * time.Millisecond

func newKafka(c *Config, job *proof.Job) (*kafka, error) {
	plan, err := job.Topology.Build()
	if err != nil {
		return nil, err
	}
	client, err := kgo.NewClient(c.clientOptions()...)
	if err != nil {
		return nil, problem.Wrap(problem.ConfigInvalid, "connection", err)
	}
	return &kafka{client: client, admin: kadm.NewClient(client), app: c.App, names: job.Names, plan: plan}, nil
}

// owned are the topics that the soak makes; the application makes its internal ones.
func (k *kafka) owned() []string { return []string{k.names.Commands, k.names.Events, k.names.Totals} }

// internal are the topics that the application makes.
func (k *kafka) internal() []string {
	var names []string
	for _, in := range k.plan.Internal {
		names = append(names, in.Name)
	}
	return names
}

// inputs are the topics that have committed positions.
func (k *kafka) inputs() []string {
	return []string{k.names.Commands, k.names.Replays, k.names.ByProduct}
}

// create makes the topics. Topics that exist are refused: they are somebody's.
func (k *kafka) create(ctx context.Context, partitions int32, replicas int16, timeout time.Duration) error {
	contact, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := k.client.Ping(contact); err != nil {
		return failed("soak", err)
	}
	k.made = true
	forever := "-1"
	created, err := k.admin.CreateTopics(ctx, partitions, replicas, map[string]*string{"retention.ms": &forever, "retention.bytes": &forever}, k.owned()...)
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

// versions are those of the brokers: the release as far as it can be told, and the transaction protocol.
func (k *kafka) versions(ctx context.Context) (release string, transactions int16, err error) {
	all, err := k.admin.ApiVersions(ctx)
	if err != nil {
		return "", 0, failed("ApiVersions", err)
	}
	for _, v := range all {
		release = v.VersionGuess()
	}
	request := kmsg.NewPtrApiVersionsRequest()
	request.ClientSoftwareName, request.ClientSoftwareVersion = "oncemill", "1"
	response, err := request.RequestWith(ctx, k.client)
	if err != nil {
		return "", 0, failed("ApiVersions", err)
	}
	for _, f := range response.FinalizedFeatures {
		if f.Name == "transaction.version" {
			transactions = f.MaxVersionLevel
		}
	}
	return release, transactions, nil
}

// place is where a partition of an input stands.
type place struct {
	topic     string
	partition int32
	committed int64 // -1: nothing was committed yet
	stable    int64 // the last stable offset
}

// behind are records between the position and the end.
func (p place) behind() int64 { return p.stable - max(p.committed, 0) }

// places are those of all partitions of all inputs that exist.
func (k *kafka) places(ctx context.Context) ([]place, error) {
	ends, err := k.admin.ListCommittedOffsets(ctx, k.inputs()...)
	if err != nil {
		return nil, failed("ListOffsets", err)
	}
	positions, err := k.admin.FetchOffsets(ctx, k.app)
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return nil, failed("OffsetFetch", err)
	}
	var out []place
	var first error
	ends.Each(func(end kadm.ListedOffset) {
		if end.Err != nil && !errors.Is(end.Err, kerr.UnknownTopicOrPartition) && first == nil {
			first = failed("ListOffsets of "+end.Topic, end.Err)
		}
		if end.Err != nil {
			return // an input that the application has not made yet
		}
		p := place{topic: end.Topic, partition: end.Partition, committed: -1, stable: end.Offset}
		if at, ok := positions.Lookup(end.Topic, end.Partition); ok && at.Err == nil {
			p.committed = at.At
		}
		out = append(out, p)
	})
	return out, first
}

// rest counts the records between the position and the end. A topic that is written in transactions ends in their markers, which
// need not be committed.
func (k *kafka) rest(ctx context.Context, c *Config, p place) (n int, err error) {
	if p.topic != k.names.ByProduct || p.committed < 0 || p.behind() > mostMarkers {
		return int(p.behind()), nil
	}
	log, err := kafkalog.Open(c.Seeds, c.Contact, c.clientOptions()...)
	if err != nil {
		return 0, err
	}
	defer log.Close()
	if _, err := log.Topics(ctx, []string{p.topic}); err != nil { // it needs the id
		return 0, err
	}
	return n, log.Read(ctx, p.topic, p.partition, p.committed, p.stable, func(*record.Raw) error {
		n++
		return nil
	})
}

// mostMarkers bounds what is looked at one by one: so many transactions do not end without a record in between.
const mostMarkers = 1000

// broker finds the broker that a fault is about: its id, and its address as the workers dial it.
func (k *kafka) broker(ctx context.Context, f Fault, instance string) (id int32, addr string, err error) {
	meta, err := k.admin.BrokerMetadata(ctx)
	if err != nil {
		return 0, "", failed("Metadata", err)
	}
	brokers := meta.Brokers
	if len(brokers) == 0 {
		return 0, "", failed("Metadata", errors.New("no broker is listed"))
	}
	slices.SortFunc(brokers, func(a, b kadm.BrokerDetail) int { return int(a.NodeID - b.NodeID) })
	chosen := brokers[f.Broker%len(brokers)]
	var responses kadm.FindCoordinatorResponses
	switch f.Place {
	case GroupCoordinator:
		responses = k.admin.FindGroupCoordinators(ctx, k.app)
	case TxnCoordinator:
		responses = k.admin.FindTxnCoordinators(ctx, k.app+"-"+instance)
	}
	for _, r := range responses {
		if r.Err != nil {
			return 0, "", failed("FindCoordinator", r.Err)
		}
		for _, b := range brokers {
			if b.NodeID == r.NodeID {
				chosen = b
			}
		}
	}
	return chosen.NodeID, net.JoinHostPort(chosen.Host, strconv.Itoa(int(chosen.Port))), nil
}

// remove takes static members out of the group, so that their tasks move before the session ends. One that is not in it is no
// error.
func (k *kafka) remove(ctx context.Context, instances ...string) error {
	left, err := k.admin.LeaveGroup(ctx, kadm.LeaveGroup(k.app).InstanceIDs(instances...).Reason("the soak has stopped it for good"))
	if err == nil {
		left.EachError(func(r kadm.LeaveGroupResponse) {
			if !absent(r.Err) {
				err = r.Err
			}
		})
	}
	if absent(err) {
		return nil
	}
	return failed("LeaveGroup", err)
}

func absent(err error) bool {
	return errors.Is(err, kerr.UnknownMemberID) || errors.Is(err, kerr.GroupIDNotFound) || errors.Is(err, kerr.UnknownTopicOrPartition)
}

// cleanTimeout bounds the cleaning; it also comes after a run whose time was over.
const cleanTimeout = 30 * time.Second

// clean deletes topics and group. The first thing that fails does not keep the rest from being tried.
func (k *kafka) clean(instances []string) error {
	if !k.made {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), cleanTimeout)
	defer cancel()
	errs := []error{k.remove(ctx, instances...)}
	if _, err := k.admin.DeleteGroup(ctx, k.app); err != nil && !absent(err) {
		errs = append(errs, failed("DeleteGroups", err))
	}
	deleted, err := k.admin.DeleteTopics(ctx, slices.Concat(k.owned(), k.internal())...)
	if err != nil {
		errs = append(errs, failed("DeleteTopics", err))
	}
	for _, d := range deleted {
		if d.Err != nil && !absent(d.Err) {
			errs = append(errs, failed(fmt.Sprintf("DeleteTopics of %q", d.Topic), d.Err))
		}
	}
	return errors.Join(errs...)
}
