//go:build kafka

package oncemill

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/kafkatest/kafkaproc"
)

// TestStaticMembersOnApacheKafka shows what the embedded broker cannot: whether Kafka lets a static member restart
// without a rebalance, although its metadata changed, and whether Java's tools can read the protocol.
func TestStaticMembersOnApacheKafka(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	kafka, err := kafkaproc.Start(ctx, kafkaproc.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer kafka.Close()
	g := emptyTestGroup(t)
	g.seeds = kafka.Addrs()
	g.createTopics(ctx)
	for _, instance := range []string{"a", "b", "c"} {
		w := g.start(instance, ordersGroup)
		defer func() { w.client.Close() }()
	}
	generation := g.agree(ctx, 3, 12)

	for _, instance := range []string{"a", "b", "c"} { // one of them is the leader
		old := g.worker(instance)
		before := old.tasks()
		for _, w := range g.workers() {
			w.takeEvents()
		}
		old.kill()
		again := g.start(instance, ordersGroup)
		defer again.client.Close()
		if got := g.agree(ctx, 3, 12); got != generation {
			t.Errorf("the restart of %s caused a rebalance: generation %d, before %d", instance, got, generation)
		}
		if !slices.Equal(again.tasks(), before) || again.balancer.outdated() {
			t.Errorf("%s has %v after its restart, before %v; outdated: %v", instance, again.tasks(), before, again.balancer.outdated())
		}
		for _, w := range g.workers() {
			if events := w.takeEvents(); w != again && len(events) > 0 {
				t.Errorf("the restart of %s is noticed by %s: %v", instance, w.instance, events)
			}
		}
	}
	described, err := kafka.DescribeGroup(ctx, "app")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range described.Members {
		if len(m.Partitions) != 4 {
			t.Errorf("Java sees %+v", m)
		}
	}

	for _, instance := range []string{"a", "b", "c"} { // a rolling upgrade
		g.worker(instance).kill()
		w := g.start(instance, ordersGroup, auditGroup)
		defer w.client.Close()
		for w.balancer.joinedWith.Load() == 0 || len(w.tasks()) == 0 {
			wait(ctx, t)
		}
		if !w.balancer.outdated() {
			t.Errorf("%s does not notice that its assignment was made for the old topology", instance)
		}
		w.client.ForceRebalance()
		g.agree(ctx, 3, allPartitions)
	}
}

func (g *testGroup) createTopics(ctx context.Context) {
	client, err := kgo.NewClient(kgo.SeedBrokers(g.seeds...))
	if err != nil {
		g.t.Fatal(err)
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	if _, err := admin.CreateTopics(ctx, 6, 1, nil, ordersGroup.Topics...); err != nil {
		g.t.Fatal(err)
	}
	if _, err := admin.CreateTopics(ctx, 3, 1, nil, auditGroup.Topics...); err != nil {
		g.t.Fatal(err)
	}
}

func (g *testGroup) worker(instance string) *testWorker {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.mu.workers[instance]
}

// agree waits until the workers are of one generation and own that many partitions together, and have been so for
// longer than a heartbeat.
func (g *testGroup) agree(ctx context.Context, members, partitions int) int32 {
	since, last := time.Now(), int32(-1)
	for time.Since(since) < 4*time.Second {
		owned, generations := 0, map[int32]int{}
		generation := int32(-1)
		for _, w := range g.workers() {
			_, generation = w.client.GroupMetadata()
			generations[generation]++
			g.mu.Lock()
			owned += len(w.owned)
			g.mu.Unlock()
		}
		if generations[generation] != members || owned != partitions || generation != last {
			since, last = time.Now(), generation
		}
		wait(ctx, g.t)
	}
	return last
}

func wait(ctx context.Context, t *testing.T) {
	t.Helper()
	select {
	case <-ctx.Done():
		t.Fatal("the group does not agree: ", ctx.Err())
	case <-time.After(50 * time.Millisecond):
	}
}
