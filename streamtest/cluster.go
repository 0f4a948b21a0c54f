package streamtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/internal/embedded"
	"github.com/oncemill/oncemill/internal/graph"
	"github.com/oncemill/oncemill/internal/memnet"
	"github.com/oncemill/oncemill/internal/murmur"
	"github.com/oncemill/oncemill/internal/task"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/topology"
)

// ClusterOptions configure a Cluster. Topology is required; the zero value of any other field is the default given.
type ClusterOptions struct {
	Topology *topology.Topology
	// Brokers is the number of brokers, 1 to 3. Default 1.
	Brokers int
	// Partitions of the source and sink topics. Default 1.
	Partitions int32
	// Topics sets the number of partitions of single topics, and names topics that exist beside those of the topology.
	Topics map[string]int32
	// Seed chooses what a crash leaves of the unsynced part of a disk. Default: the environment variable
	// STREAMTEST_SEED, else 1.
	Seed uint64
	// Configure changes the configuration of a process before it starts.
	Configure func(process string, cfg *oncemill.Config)
	// RebalanceOnRestart lets the embedded broker rebalance when a static member restarts; see Cluster. What the group then
	// knows of a restarted member is what it says itself, not what it said before.
	RebalanceOnRestart bool
	// JoinTime, if set, is how long the group waits for members after the last one that has joined, instead of their rebalance timeout.
	// The embedded broker begins to wait anew with each member that joins, and joins again when its patience is over, which Apache Kafka
	// does not: with as long a timeout as the members have, some of them keep each other waiting for ever for one that is gone.
	JoinTime time.Duration
	// OldTransactions takes transaction.version 2 (KIP-890) from the brokers: they speak the protocol of Kafka 3.6.
	OldTransactions bool
	// Archive names topics whose records are kept when the application deletes them; see Cluster.Archived.
	Archive []string
}

// SeedVariable is the environment variable that ClusterOptions.Seed defaults to.
const SeedVariable = "STREAMTEST_SEED"

func (o *ClusterOptions) setDefaults() {
	o.Brokers = max(o.Brokers, 1)
	o.Partitions = max(o.Partitions, 1)
	if o.Seed == 0 {
		o.Seed, _ = strconv.ParseUint(os.Getenv(SeedVariable), 10, 64)
	}
	o.Seed = max(o.Seed, 1)
}

// Cluster is a Kafka and the processes of an application in one testing/synctest bubble: embedded brokers and an in-memory
// network, and for each process the production worker with a disk that can lose what was not synced. Time is virtual, so
// that sessions and transactions time out within milliseconds.
//
// Faults enter at the doors: a process is killed, frozen, or crashed before a named step of the commit path
// ([Process.CrashAt]); requests and answers are lost, delayed or go astray ([Cluster.Lose] and others); brokers refuse
// ([Cluster.Refuse]), leaders and coordinators move; disks fill up and lose their unsynced part.
//
// A test that fails prints the seed, the faults, a trace of what happened, and the command that repeats it. Which goroutine
// runs first is not replayed by the seed: the command repeats the test, and counts.
//
// Limits of the embedded broker: it ends transactions synchronously and does not replicate. It may never finish a rebalance
// during which a static member dies for good. It compares the metadata of a static member that joins again, where Apache
// Kafka compares the name of the protocol; the cluster hides that, so that a restart causes no rebalance.
type Cluster struct {
	t      *testing.T
	opts   ClusterOptions
	plan   *graph.Plan
	net    *memnet.Network
	broker *kfake.Cluster
	client *kgo.Client // of Produce
	began  time.Time
	trace  trace
	wire   wire
	// addresses are those of all brokers by number, also while one has ended: who starts meanwhile knows them all.
	addresses []string
	archive   archive

	observe atomic.Pointer[func(p *Process, step string) Strike]

	mu struct {
		sync.Mutex
		rng       *rand.Rand
		processes []*Process
		hosts     int
		running   sync.WaitGroup
		joins     map[string][]kmsg.JoinGroupRequestProtocol // the last of each instance
	}
}

// Simulate runs a test with a cluster, in a bubble of virtual time. The test must not call t.Run or t.Parallel inside.
func Simulate(t *testing.T, o ClusterOptions, test func(t *testing.T, c *Cluster)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, o)
		t.Cleanup(c.close)
		test(t, c)
	})
}

func newCluster(t *testing.T, o ClusterOptions) *Cluster {
	t.Helper()
	o.setDefaults()
	c := &Cluster{t: t, opts: o, net: memnet.New(), began: time.Now()}
	c.mu.rng = rand.New(rand.NewPCG(o.Seed, 0))
	c.mu.joins = map[string][]kmsg.JoinGroupRequestProtocol{}
	c.wire.cluster = c
	c.archive.lock = make(chan struct{}, 1)
	c.trace.began = c.began
	var err error
	if c.plan, err = o.Topology.Build(); err != nil {
		t.Fatalf("streamtest: %v", err)
	}
	options := []kfake.Opt{kfake.NumBrokers(o.Brokers), kfake.ListenFn(c.net.Listen)}
	for _, name := range c.ownedTopics() {
		options = append(options, kfake.SeedTopics(c.partitionsOf(name), name))
	}
	if o.OldTransactions {
		options = append(options, kfake.MaxVersions(kversion.V3_6_0()))
	}
	if c.broker, err = kfake.NewCluster(options...); err != nil {
		t.Fatalf("streamtest: %v", err)
	}
	c.addresses = c.broker.ListenAddrs()
	embedded.MendFetches(c.broker)
	c.broker.ControlKey(int16(kmsg.JoinGroup), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.broker.KeepControl()
		c.joinAsKafka(req.(*kmsg.JoinGroupRequest))
		return nil, nil, false
	})
	c.client = c.NewClient(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	return c
}

// joinAsKafka makes a static member that restarts while the group is stable look unchanged: Apache Kafka compares the name of its
// protocol, the embedded broker its metadata, which no longer list owned partitions. During a rebalance it is what the member says that
// counts: it must not claim what it had before.
func (c *Cluster) joinAsKafka(req *kmsg.JoinGroupRequest) {
	if c.opts.JoinTime > 0 {
		req.RebalanceTimeoutMillis = int32(c.opts.JoinTime.Milliseconds())
	}
	if req.InstanceID == nil || c.opts.RebalanceOnRestart {
		return
	}
	group := c.broker.GroupInfo(req.Group)
	c.mu.Lock()
	defer c.mu.Unlock()
	if last := c.mu.joins[*req.InstanceID]; req.MemberID == "" && last != nil && group != nil && group.State == "Stable" {
		req.Protocols = last
	}
	c.mu.joins[*req.InstanceID] = req.Protocols
}

// ownedTopics are the topics of the user, in order.
func (c *Cluster) ownedTopics() []string {
	names := append(c.plan.Sources(), c.plan.Sinks()...)
	for name := range c.opts.Topics {
		names = append(names, name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (c *Cluster) partitionsOf(topic string) int32 {
	if n := c.opts.Topics[topic]; n > 0 {
		return n
	}
	return c.opts.Partitions
}

// Broker is the embedded Kafka, for what the cluster has no method for.
func (c *Cluster) Broker() *kfake.Cluster { return c.broker }

// Seed is the seed of this run.
func (c *Cluster) Seed() uint64 { return c.opts.Seed }

// NewClient makes a client with an address of its own, for what the test itself does in Kafka. It is closed with the
// cluster.
func (c *Cluster) NewClient(opts ...kgo.Opt) *kgo.Client {
	c.t.Helper()
	client, err := c.dial(opts...)
	if err != nil {
		c.t.Fatalf("streamtest: %v", err)
		return nil
	}
	c.t.Cleanup(client.Close) // runs before that of Simulate, which was registered earlier
	return client
}

// dial makes a client that its caller closes.
func (c *Cluster) dial(opts ...kgo.Opt) (*kgo.Client, error) {
	return kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(c.addresses...), kgo.Dialer(c.wire.dialer("", c.newHost(), notPaused)),
		kgo.DisableClientMetrics(), kgo.MetadataMinAge(10 * time.Millisecond)}, opts...)...)
}

// newHost hands out an address for a client or an incarnation of a process.
func (c *Cluster) newHost() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mu.hosts++
	return fmt.Sprintf("10.0.%d.%d", c.mu.hosts/250, c.mu.hosts%250+1)
}

// Produce writes messages to a topic, acknowledged in order. Without Message.On the key chooses the partition as a Java
// producer would, without Message.At the timestamp is the time of the bubble.
func (c *Cluster) Produce(topic string, messages ...Message) {
	c.t.Helper()
	for _, m := range messages {
		if m.err != nil {
			c.t.Fatalf("streamtest: %v", m.err)
		}
		r := &kgo.Record{Topic: topic, Key: m.raw.Key, Value: m.raw.Value, Timestamp: m.raw.Timestamp, Partition: m.raw.Partition}
		if !m.pinned && r.Key != nil {
			r.Partition = murmur.Partition(r.Key, int32(len(c.broker.PartitionInfos(topic))))
		}
		for _, h := range m.raw.Headers {
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
		}
		if err := c.client.ProduceSync(context.Background(), r).FirstErr(); err != nil {
			c.t.Fatalf("streamtest: produce to %s: %v", topic, err)
		}
	}
}

// ReplayDeadLetter sends a dead letter to the replay topic of its source, as it is replayed by hand (docs/guarantees.md). force is the
// operator's word that it must run although its marker has expired.
func (c *Cluster) ReplayDeadLetter(letter record.Raw, force bool) {
	c.t.Helper()
	replay, err := task.ReplayOf(c.plan, &letter, force)
	if err != nil {
		c.t.Fatalf("streamtest: %v", err)
	}
	c.Produce(replay.Topic, Copy(replay).On(replay.Partition))
}

// Refuse makes the brokers answer requests of a kind with an error, that many times; for ever with -1.
func (c *Cluster) Refuse(key kmsg.Key, err *kerr.Error, times int) *kfake.FaultHandle {
	c.trace.fault("brokers refuse %s with %v, %d times", key.Name(), err, times)
	return c.broker.Fault(kfake.Fault{Keys: []kmsg.Key{key}, Err: err, Count: times})
}

// RefuseProcesses is Refuse for requests of processes: what the test itself produces is accepted.
func (c *Cluster) RefuseProcesses(key kmsg.Key, err *kerr.Error, times int) *kfake.FaultHandle {
	c.trace.fault("brokers refuse %s of processes with %v, %d times", key.Name(), err, times)
	return c.broker.Fault(kfake.Fault{Keys: []kmsg.Key{key}, Err: err, Count: times, When: func(req kmsg.Request) bool {
		switch r := req.(type) {
		case *kmsg.ProduceRequest:
			return r.TransactionID != nil
		case *kmsg.InitProducerIDRequest:
			return r.TransactionalID != nil
		}
		return true
	}})
}

// Recreate deletes a topic and creates it again with the same settings, empty, with another topic id.
func (c *Cluster) Recreate(topic string) {
	c.t.Helper()
	c.trace.fault("topic %s is deleted and created again", topic)
	n, configs := int32(len(c.broker.PartitionInfos(topic))), map[string]string{}
	for key, value := range c.broker.TopicInfo(topic).Configs {
		if value != nil {
			configs[key] = *value
		}
	}
	if err := errors.Join(c.broker.DeleteTopic(topic), c.broker.CreateTopic(topic, n, configs)); err != nil {
		c.t.Fatalf("streamtest: %v", err)
	}
	c.client.PurgeTopicsFromClient(topic)
}

// MoveLeaders gives every partition a new leader, and raises its leader epoch.
func (c *Cluster) MoveLeaders() {
	c.trace.fault("leaders move")
	c.broker.ShufflePartitionLeaders()
}

// MoveCoordinators gives groups and transactional ids new coordinators.
func (c *Cluster) MoveCoordinators() {
	c.trace.fault("coordinators move")
	c.broker.RehashCoordinators()
}

// closeTimeout is how long processes may take to end: longer than Config.ShutdownTimeout and everything inside it.
const closeTimeout = 10 * time.Minute

// close kills what runs and waits for it, so that the bubble can end.
func (c *Cluster) close() {
	for _, p := range c.Processes() {
		p.kill(0, false)
	}
	ended := make(chan struct{})
	go func() {
		c.mu.running.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(closeTimeout):
		c.t.Errorf("streamtest: killed processes still run after %v", closeTimeout)
		c.report()
		panic("streamtest: goroutines of a killed process do not end; the stacks follow")
	}
	if c.wire.delays() {
		<-time.After(closeTimeout) // clients do not wait for who reads an answer that is late
	}
	c.broker.Close()
	<-time.After(time.Second) // what sleeps in a control function of the broker ends by time, which stands still without this goroutine
	c.report()
}

// report prints what is needed to understand and repeat a failure.
func (c *Cluster) report() {
	if !c.t.Failed() {
		return
	}
	c.t.Logf("streamtest: seed %d. Repeat it and count the failures:\n  %s", c.opts.Seed, repeatCommand(c.t.Name(), c.opts.Seed))
	c.t.Logf("streamtest: faults and trace, by virtual time:\n%s", c.trace.text())
}

// random returns a generator for one use, by the seed and the number of uses before.
func (c *Cluster) random() *rand.Rand {
	c.mu.Lock()
	defer c.mu.Unlock()
	return rand.New(rand.NewPCG(c.mu.rng.Uint64(), c.opts.Seed))
}

// Processes are the processes that were ever started, in order.
func (c *Cluster) Processes() []*Process {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.mu.processes)
}
