package oncemill

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/oncemill/oncemill/internal/assignment"
	"github.com/oncemill/oncemill/internal/memnet"
	"github.com/oncemill/oncemill/statestore"
)

var (
	ordersGroup = assignment.Group{Name: "orders", Topics: []string{"customers", "orders"}}
	auditGroup  = assignment.Group{Name: "audit", Topics: []string{"log"}}
)

// testGroup is a consumer group, most often on an embedded broker and in virtual time. It checks after every callback
// that no partition is owned twice.
type testGroup struct {
	t       *testing.T
	seeds   []string
	net     *memnet.Network // nil on a real broker
	cluster *kfake.Cluster  // nil on a real broker
	mu      struct {
		sync.Mutex
		workers map[string]*testWorker // the running one of each instance
		disks   map[string]map[statestore.TaskID]uint64
		joins   map[string][]kmsg.JoinGroupRequestProtocol // the last of each instance
		// lenient makes a static member that restarts look unchanged. Apache Kafka compares the name of the protocol
		// only; the embedded broker compares the metadata, which no longer lists owned partitions.
		lenient bool
	}
}

type testWorker struct {
	group    *testGroup
	instance string
	topology []assignment.Group
	client   *kgo.Client
	balancer *balancer
	owned    map[string]bool // "topic/partition"; guarded by group.mu
	events   []string        // guarded by group.mu
	cutOff   bool            // does not hear of rebalances, so its partitions do not count; guarded by group.mu
}

func emptyTestGroup(t *testing.T) *testGroup {
	g := &testGroup{t: t}
	g.mu.workers = map[string]*testWorker{}
	g.mu.disks = map[string]map[statestore.TaskID]uint64{}
	g.mu.joins = map[string][]kmsg.JoinGroupRequestProtocol{}
	return g
}

func newTestGroup(t *testing.T) *testGroup {
	g := emptyTestGroup(t)
	g.net = memnet.New()
	cluster, err := kfake.NewCluster(kfake.NumBrokers(3), kfake.ListenFn(g.net.Listen),
		kfake.SeedTopics(6, "orders", "customers"), kfake.SeedTopics(3, "log"))
	if err != nil {
		t.Fatal(err)
	}
	g.cluster, g.seeds = cluster, cluster.ListenAddrs()
	cluster.ControlKey(int16(kmsg.JoinGroup), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		g.seeJoin(req.(*kmsg.JoinGroupRequest))
		return nil, nil, false
	})
	return g
}

func (g *testGroup) seeJoin(req *kmsg.JoinGroupRequest) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if last := g.mu.joins[*req.InstanceID]; g.mu.lenient && req.MemberID == "" && last != nil {
		req.Protocols = last
	}
	g.mu.joins[*req.InstanceID] = req.Protocols
}

func (g *testGroup) beLenient() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.mu.lenient = true
}

func (g *testGroup) close() {
	for _, w := range g.workers() {
		w.client.Close()
	}
	g.cluster.Close()
}

func (g *testGroup) workers() []*testWorker {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Collect(maps.Values(g.mu.workers))
}

// start runs a worker of the instance, which has an address of its own.
func (g *testGroup) start(instance string, topology ...assignment.Group) *testWorker {
	w := &testWorker{group: g, instance: instance, topology: topology, owned: map[string]bool{}}
	w.balancer = newBalancer(func() []assignment.Group { return topology }, w.local, slog.New(slog.DiscardHandler)).inProcess(assignment.Process{instance[0]})
	var topics []string
	for _, sub := range topology {
		topics = append(topics, sub.Topics...)
	}
	options := []kgo.Opt{kgo.SeedBrokers(g.seeds...),
		kgo.ConsumerGroup("app"), kgo.InstanceID(instance), kgo.ConsumeTopics(topics...), kgo.Balancers(w.balancer),
		kgo.DisableAutoCommit(), kgo.SessionTimeout(45 * time.Second), kgo.HeartbeatInterval(3 * time.Second),
		kgo.OnPartitionsAssigned(w.callback("assigned")), kgo.OnPartitionsRevoked(w.callback("revoked")), kgo.OnPartitionsLost(w.callback("lost"))}
	if g.net != nil {
		options = append(options, kgo.Dialer(g.net.Dialer(w.host())))
	}
	client, err := kgo.NewClient(options...)
	if err != nil {
		g.t.Fatal(err)
	}
	w.client = client
	g.mu.Lock()
	defer g.mu.Unlock()
	g.mu.workers[instance] = w
	return w
}

func (w *testWorker) host() string { return "10.0.0." + fmt.Sprint(w.instance[0]-'a'+1) }

// kill ends the worker without a word to the brokers, as far as there is a network to cut; a static member sends no
// LeaveGroup anyway.
func (w *testWorker) kill() {
	w.group.mu.Lock()
	delete(w.group.mu.workers, w.instance)
	w.group.mu.Unlock()
	if w.group.net == nil {
		w.client.Close()
		return
	}
	w.group.net.Isolate(w.host())
	w.client.Close()
	w.group.net.Heal(w.host())
}

// isolate takes the worker off the network, or puts it back.
func (w *testWorker) isolate(cutOff bool) {
	w.group.mu.Lock()
	w.cutOff = cutOff
	w.group.mu.Unlock()
	if cutOff {
		w.group.net.Isolate(w.host())
	} else {
		w.group.net.Heal(w.host())
	}
}

// local is the state on the instance's disk, which stays when the worker is gone.
func (w *testWorker) local() (held []assignment.Held) {
	w.group.mu.Lock()
	defer w.group.mu.Unlock()
	for id, n := range w.group.mu.disks[w.instance] {
		held = append(held, assignment.Held{Task: id, N: n})
	}
	return held
}

func (w *testWorker) callback(what string) func(context.Context, *kgo.Client, map[string][]int32) {
	return func(_ context.Context, _ *kgo.Client, partitions map[string][]int32) {
		g := w.group
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.mu.workers[w.instance] != w && what != "assigned" {
			return // killed: what it does at its end reaches nobody
		}
		for topic, ps := range partitions {
			for _, p := range ps {
				at := fmt.Sprintf("%s/%d", topic, p)
				w.events = append(w.events, what+" "+at)
				if what != "assigned" {
					delete(w.owned, at)
					continue
				}
				w.owned[at] = true
				for _, other := range g.mu.workers {
					if other != w && other.owned[at] && !other.cutOff {
						g.t.Errorf("%s is assigned to %s while %s has it", at, w.instance, other.instance)
					}
				}
			}
		}
		w.rememberLocked()
	}
}

// rememberLocked writes the state of the tasks that the worker now has.
func (w *testWorker) rememberLocked() {
	disk := w.group.mu.disks[w.instance]
	if disk == nil {
		disk = map[statestore.TaskID]uint64{}
		w.group.mu.disks[w.instance] = disk
	}
	for _, id := range w.tasksLocked() {
		disk[id]++
	}
}

// tasksLocked lists the tasks of which the worker has every input, and fails if it has only some.
func (w *testWorker) tasksLocked() (tasks []statestore.TaskID) {
	for _, sub := range []assignment.Group{auditGroup, ordersGroup} {
		for p := range int32(6) {
			n := 0
			for _, topic := range sub.Topics {
				if w.owned[fmt.Sprintf("%s/%d", topic, p)] {
					n++
				}
			}
			if n == len(sub.Topics) {
				tasks = append(tasks, statestore.TaskID{SubTopology: sub.Name, Partition: p})
			} else if n > 0 {
				w.group.t.Errorf("%s has %d of the %d inputs of %s_%d", w.instance, n, len(sub.Topics), sub.Name, p)
			}
		}
	}
	return tasks
}

// takeEvents returns the callbacks since the last call.
func (w *testWorker) takeEvents() []string {
	w.group.mu.Lock()
	defer w.group.mu.Unlock()
	events := w.events
	w.events = nil
	return events
}

func (w *testWorker) tasks() []statestore.TaskID {
	w.group.mu.Lock()
	defer w.group.mu.Unlock()
	return w.tasksLocked()
}

// settle waits until the group is stable, all partitions are given out, and the workers have heard of it. It returns the
// generation.
func (g *testGroup) settle(members, partitions int) int32 {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	info, err := g.cluster.WaitGroupInfo(ctx, "app", func(info *kfake.GroupInfo) bool {
		if info == nil || info.State != "Stable" || len(info.Members) != members || info.NumAssigned() != partitions {
			return false
		}
		owned := 0
		for _, w := range g.workers() {
			g.mu.Lock()
			if !w.cutOff {
				owned += len(w.owned)
			}
			g.mu.Unlock()
		}
		return owned == partitions
	})
	if err != nil {
		g.t.Fatalf("the group does not settle: %v, %+v", err, info)
	}
	<-time.After(5 * time.Second) // of virtual time: a heartbeat and a half, in which nothing more may happen
	if again := g.cluster.GroupInfo("app"); again.Epoch != info.Epoch {
		g.t.Fatalf("the group looked settled in generation %d and went on to %d", info.Epoch, again.Epoch)
	}
	return info.Epoch
}

// awaitStable waits for the end of a rebalance, and until nothing is in flight.
func (g *testGroup) awaitStable() {
	g.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	for {
		info, err := g.cluster.WaitGroupStable(ctx, "app", -1)
		if err != nil {
			g.t.Fatalf("the group does not get stable: %v, %+v", err, info)
		}
		synctest.Wait()
		if again := g.cluster.GroupInfo("app"); again.State == "Stable" && again.Epoch == info.Epoch {
			return
		}
	}
}

const allPartitions = 6 + 6 + 3

func (g *testGroup) startThree() (a, b, c *testWorker) {
	a, b, c = g.start("a", ordersGroup, auditGroup), g.start("b", ordersGroup, auditGroup), g.start("c", ordersGroup, auditGroup)
	g.settle(3, allPartitions)
	for _, w := range []*testWorker{a, b, c} {
		if n := len(w.tasks()); n != 3 {
			g.t.Errorf("%s has %d of 9 tasks", w.instance, n)
		}
		w.takeEvents()
	}
	return a, b, c
}
