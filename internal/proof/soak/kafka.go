package soak

import (
	"context"
	"errors"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/oncemill/oncemill/internal/graph"
	"github.com/oncemill/oncemill/internal/guest"
	"github.com/oncemill/oncemill/internal/proof"
	"github.com/oncemill/oncemill/internal/verify/kafkalog"
	"github.com/oncemill/oncemill/record"
)

// kafka is what the soak itself asks of the brokers.
type kafka struct {
	*guest.Guest
	app   string
	names proof.Names
	plan  *graph.Plan
}

func newKafka(c *Config, job *proof.Job) (*kafka, error) {
	plan, err := job.Topology.Build()
	if err != nil {
		return nil, err
	}
	g, err := guest.New(c.App, c.clientOptions())
	if err != nil {
		return nil, err
	}
	return &kafka{Guest: g, app: c.App, names: job.Names, plan: plan}, nil
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
	if err := k.Reach(ctx, "soak", timeout); err != nil {
		return err
	}
	forever := "-1"
	return k.Create(ctx, partitions, replicas, map[string]*string{"retention.ms": &forever, "retention.bytes": &forever}, k.owned()...)
}

// versions are those of the brokers: the release as far as it can be told, and the transaction protocol.
func (k *kafka) versions(ctx context.Context) (release string, transactions int16, err error) {
	all, err := k.Admin.ApiVersions(ctx)
	if err != nil {
		return "", 0, guest.Failed("ApiVersions", err)
	}
	for _, v := range all {
		release = v.VersionGuess()
	}
	request := kmsg.NewPtrApiVersionsRequest()
	request.ClientSoftwareName, request.ClientSoftwareVersion = "oncemill", "1"
	response, err := request.RequestWith(ctx, k.Client)
	if err != nil {
		return "", 0, guest.Failed("ApiVersions", err)
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
	ends, err := k.Admin.ListCommittedOffsets(ctx, k.inputs()...)
	if err != nil {
		return nil, guest.Failed("ListOffsets", err)
	}
	positions, err := k.Admin.FetchOffsets(ctx, k.app)
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return nil, guest.Failed("OffsetFetch", err)
	}
	var out []place
	var first error
	ends.Each(func(end kadm.ListedOffset) {
		if end.Err != nil && !errors.Is(end.Err, kerr.UnknownTopicOrPartition) && first == nil {
			first = guest.Failed("ListOffsets of "+end.Topic, end.Err)
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
	meta, err := k.Admin.BrokerMetadata(ctx)
	if err != nil {
		return 0, "", guest.Failed("Metadata", err)
	}
	brokers := meta.Brokers
	if len(brokers) == 0 {
		return 0, "", guest.Failed("Metadata", errors.New("no broker is listed"))
	}
	slices.SortFunc(brokers, func(a, b kadm.BrokerDetail) int { return int(a.NodeID - b.NodeID) })
	chosen := brokers[f.Broker%len(brokers)]
	var responses kadm.FindCoordinatorResponses
	switch f.Place {
	case GroupCoordinator:
		responses = k.Admin.FindGroupCoordinators(ctx, k.app)
	case TxnCoordinator:
		responses = k.Admin.FindTxnCoordinators(ctx, k.app+"-"+instance)
	}
	for _, r := range responses {
		if r.Err != nil {
			return 0, "", guest.Failed("FindCoordinator", r.Err)
		}
		for _, b := range brokers {
			if b.NodeID == r.NodeID {
				chosen = b
			}
		}
	}
	return chosen.NodeID, net.JoinHostPort(chosen.Host, strconv.Itoa(int(chosen.Port))), nil
}

// cleanTimeout bounds the cleaning; it also comes after a run whose time was over.
const cleanTimeout = 30 * time.Second

// clean deletes topics and group.
func (k *kafka) clean(instances []string) error {
	return k.Clean(cleanTimeout, instances, slices.Concat(k.owned(), k.internal()))
}
