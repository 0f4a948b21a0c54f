package oncemill

import (
	"bytes"
	"context"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/oncemill/oncemill/internal/assignment"
	"github.com/oncemill/oncemill/statestore"
)

func TestStaticMembersRestartWithoutARebalance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newTestGroup(t)
		defer g.close()
		g.startThree()
		generation := g.settle(3, allPartitions)
		g.beLenient()
		for _, w := range g.workers() { // one of them is the leader
			before := w.tasks()
			w.kill()
			<-time.After(20 * time.Second) // of virtual time, within the session
			again := g.start(w.instance, ordersGroup, auditGroup)
			if got := g.settle(3, allPartitions); got != generation {
				t.Errorf("the restart of %s caused a rebalance: generation %d, before %d", w.instance, got, generation)
			}
			if !slices.Equal(again.tasks(), before) {
				t.Errorf("%s has %v after its restart, before %v", w.instance, again.tasks(), before)
			}
			if again.balancer.outdated() {
				t.Errorf("the assignment of %s counts as outdated although nothing changed", w.instance)
			}
			again.takeEvents()
			for _, other := range g.workers() {
				if events := other.takeEvents(); len(events) > 0 {
					t.Errorf("the restart of %s is noticed by %s: %v", w.instance, other.instance, events)
				}
			}
		}
	})
}

func TestARebalanceDuringARestartMovesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newTestGroup(t)
		defer g.close()
		a, b, c := g.startThree()
		generation, before := g.settle(3, allPartitions), b.tasks()
		b.kill()
		b = g.start("b", ordersGroup, auditGroup) // not lenient: the broker rebalances
		if got := g.settle(3, allPartitions); got == generation {
			t.Error("no rebalance took place: the test shows nothing")
		}
		if !slices.Equal(b.tasks(), before) {
			t.Errorf("b has %v after its restart, before %v", b.tasks(), before)
		}
		if events := slices.Concat(a.takeEvents(), c.takeEvents()); len(events) > 0 {
			t.Errorf("the others saw %v", events)
		}
	})
}

func TestTasksOfALostMemberAreSharedAndComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newTestGroup(t)
		defer g.close()
		a, b, c := g.startThree()
		before := b.tasks()
		b.kill()
		g.settle(2, allPartitions) // after its session
		for _, w := range []*testWorker{a, c} {
			if n := len(w.tasks()); n != 4 && n != 5 {
				t.Errorf("%s has %d of 9 tasks", w.instance, n)
			}
			for _, event := range w.takeEvents() {
				if !strings.HasPrefix(event, "assigned") {
					t.Errorf("%s: %s, although it keeps all it has", w.instance, event)
				}
			}
		}
		b = g.start("b", ordersGroup, auditGroup)
		g.settle(3, allPartitions)
		if !slices.Equal(b.tasks(), before) {
			t.Errorf("b takes over %v, its disk holds %v", b.tasks(), before)
		}
		revoked := 0
		for _, event := range slices.Concat(a.takeEvents(), c.takeEvents()) {
			if !strings.HasPrefix(event, "revoked") {
				t.Errorf("unexpected: %s", event)
			}
			revoked++
		}
		if want := len(b.owned); revoked != want {
			t.Errorf("%d partitions were revoked for the %d that b received", revoked, want)
		}
	})
}

func TestAMemberThatWasCutOffLosesItsTasksAndGetsThemBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newTestGroup(t)
		defer g.close()
		_, b, _ := g.startThree()
		before := b.tasks()
		b.isolate(true)
		g.settle(2, allPartitions)
		b.isolate(false)
		g.settle(3, allPartitions)
		if !slices.Equal(b.tasks(), before) {
			t.Errorf("b has %v, before %v", b.tasks(), before)
		}
		lost := 0
		for _, event := range b.takeEvents() {
			if strings.HasPrefix(event, "lost") {
				lost++
			}
		}
		if lost != len(b.owned) {
			t.Errorf("b was told to have lost %d partitions, it had %d", lost, len(b.owned))
		}
	})
}

// The callbacks check that nothing is owned twice on the way. Members die only while the group is stable: the embedded
// broker counts a member wrongly that is replaced while it waits in SyncGroup, and may then never end a rebalance.
func TestChurn(t *testing.T) {
	for seed := range uint64(30) {
		synctest.Test(t, func(t *testing.T) {
			g := newTestGroup(t)
			defer g.close()
			rng := rand.New(rand.NewPCG(seed, 4))
			g.start("a", ordersGroup, auditGroup)
			for range 12 {
				instance := string(rune('b' + rng.IntN(4)))
				g.mu.Lock()
				w := g.mu.workers[instance]
				g.mu.Unlock()
				switch {
				case w == nil:
					g.start(instance, ordersGroup, auditGroup)
				case rng.IntN(2) == 0:
					g.awaitStable()
					w.kill()
				default:
					g.awaitStable()
					g.net.Cut(w.host())
				}
				<-time.After(time.Duration(rng.IntN(20_000)) * time.Millisecond) // of virtual time
			}
			workers := g.workers()
			g.settle(len(workers), allPartitions)
			for _, w := range workers {
				if n, share := len(w.tasks()), 9/len(workers); n != share && n != share+1 {
					t.Errorf("seed %d: %s of %d members has %d of 9 tasks", seed, w.instance, len(workers), n)
				}
			}
		})
	}
}

func TestAStaticRestartWithAnotherTopologyIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newTestGroup(t)
		defer g.close()
		g.start("a", ordersGroup)
		old := g.start("b", ordersGroup)
		g.settle(2, 12)
		g.beLenient()
		old.kill()
		upgraded := g.start("b", ordersGroup, auditGroup)
		g.settle(2, 12)
		if !upgraded.balancer.outdated() {
			t.Fatal("the assignment was made for the old topology and does not count as outdated")
		}
		upgraded.client.ForceRebalance()
		g.settle(2, allPartitions)
		if upgraded.balancer.outdated() {
			t.Error("still outdated after the rebalance")
		}
		if n := len(upgraded.tasks()); n != 5 && n != 4 {
			t.Errorf("the upgraded member has %d of 9 tasks", n)
		}
	})
}

// A task is withheld until a member joins again. A member that revokes it does so by itself; asking for a rebalance as well would
// cause two. One that restarted has nothing to revoke and has to ask, once.
func TestOnlyAMemberWithoutTheWithheldTaskAsksForARebalance(t *testing.T) {
	assigned := func(rejoin bool, partitions ...int32) []byte {
		basis := basisOf(&kmsg.ConsumerMemberMetadata{Topics: []string{"log"}, UserData: assignment.UserData{Groups: []assignment.Group{}}.Encode()})
		a := kmsg.NewConsumerMemberAssignment()
		a.UserData = assignment.Note{Basis: basis, Rejoin: rejoin}.Encode()
		a.Topics = []kmsg.ConsumerMemberAssignmentTopic{{Topic: "log", Partitions: partitions}}
		return a.AppendTo(nil)
	}
	b := newBalancer(func() []assignment.Group { return nil }, func() []assignment.Held { return nil }, slog.New(slog.DiscardHandler))
	for i, test := range []struct {
		claimed  map[string][]int32
		assigned []byte
		want     bool
	}{
		{map[string][]int32{"log": {0, 1}}, assigned(true, 0), false},
		{map[string][]int32{"log": {0}}, assigned(false, 0), false},
		{nil, assigned(true, 0), true},
		{map[string][]int32{"log": {0}}, assigned(false, 0), false},
		{map[string][]int32{"log": {0}}, assigned(true, 0, 1), true},
		{map[string][]int32{"log": {0, 2}}, assigned(true, 0, 1), false},
		{map[string][]int32{"log": {0}, "orders": {0}}, assigned(true, 0), false},
	} {
		b.JoinGroupMetadata([]string{"log"}, test.claimed, 1)
		if _, err := b.ParseSyncAssignment(test.assigned); err != nil || b.outdated() != test.want {
			t.Errorf("%d: asks for a rebalance: %v, %v", i, b.outdated(), err)
		}
	}
}

// Tools describe groups by taking the consumer protocol apart.
func TestToolsCanReadTheProtocol(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newTestGroup(t)
		defer g.close()
		a, _, _ := g.startThree()
		groups, err := kadm.NewClient(a.client).DescribeGroups(context.Background(), "app")
		if err != nil {
			t.Fatal(err)
		}
		described := groups["app"]
		if described.ProtocolType != "consumer" || described.Protocol != "oncemill-v1" || len(described.Members) != 3 {
			t.Errorf("%+v", described)
		}
		for _, m := range described.Members {
			join, ok1 := m.Join.AsConsumer()
			assigned, ok2 := m.Assigned.AsConsumer()
			if !ok1 || !ok2 || !slices.Equal(join.Topics, []string{"customers", "log", "orders"}) || len(assigned.Topics) == 0 {
				t.Errorf("%s: %+v, %+v", m.MemberID, join, assigned)
			}
		}
	})
}

func TestJoinMetadataDependsOnContentOnly(t *testing.T) {
	held := []assignment.Held{{Task: statestore.TaskID{SubTopology: "orders", Partition: 1}, N: 4}, {Task: statestore.TaskID{SubTopology: "orders"}, N: 3}}
	b := newBalancer(func() []assignment.Group { return []assignment.Group{ordersGroup, auditGroup} },
		func() []assignment.Held { slices.Reverse(held); return held }, slog.New(slog.DiscardHandler)).inProcess(assignment.Process{7})
	owned := map[string][]int32{"orders": {0, 1}, "customers": {0, 1}, "log": {2}}
	first := b.JoinGroupMetadata([]string{"customers", "log", "orders"}, owned, 3)
	for range 20 {
		if again := b.JoinGroupMetadata([]string{"customers", "log", "orders"}, maps.Clone(owned), 3); !bytes.Equal(first, again) {
			t.Fatalf("%x\n%x", first, again)
		}
	}
	var meta kmsg.ConsumerMemberMetadata
	if err := meta.ReadFrom(first); err != nil || meta.Generation != 3 || len(meta.OwnedPartitions) != 3 || meta.OwnedPartitions[0].Topic != "customers" {
		t.Errorf("%+v, %v", meta, err)
	}
	data, err := assignment.DecodeUserData(meta.UserData)
	if err != nil || data.Process != (assignment.Process{7}) || len(data.Groups) != 2 || len(data.Held) != 2 {
		t.Errorf("%+v, %v", data, err)
	}
}

func TestTheLeaderReportsWhatItCannotAssign(t *testing.T) {
	var log bytes.Buffer
	b := newBalancer(func() []assignment.Group { return []assignment.Group{ordersGroup, auditGroup} },
		func() []assignment.Held { return nil }, slog.New(slog.NewTextHandler(&log, nil)))
	foreign := kmsg.NewConsumerMemberMetadata()
	foreign.Topics, foreign.UserData = []string{"customers", "log", "orders"}, []byte("of a stranger")
	members := []kmsg.JoinGroupResponseMember{
		{MemberID: "m1", ProtocolMetadata: b.JoinGroupMetadata([]string{"customers", "log", "orders"}, nil, -1)},
		{MemberID: "m2", ProtocolMetadata: foreign.AppendTo(nil)},
	}
	balancer, topics, err := b.MemberBalancer(members)
	if err != nil || len(topics) != 3 {
		t.Fatal(topics, err)
	}
	plan, err := balancer.(kgo.GroupMemberBalancerOrError).BalanceOrError(map[string]int32{"orders": 6, "customers": 4, "log": 2})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range plan.IntoSyncAssignment() {
		if got, err := b.ParseSyncAssignment(m.MemberAssignment); err != nil || len(got) != 1 || len(got["log"]) != 1 {
			t.Errorf("%s is given %v, %v", m.MemberID, got, err)
		}
	}
	for _, part := range []string{"OM104", "orders has 6", "customers has 4", "without readable user data", "member=m2"} {
		if !strings.Contains(log.String(), part) {
			t.Errorf("the log does not say %q:\n%s", part, log.String())
		}
	}
}

func TestMalformedMetadataIsAnError(t *testing.T) {
	b := newBalancer(func() []assignment.Group { return nil }, func() []assignment.Held { return nil }, slog.New(slog.DiscardHandler))
	if _, _, err := b.MemberBalancer([]kmsg.JoinGroupResponseMember{{MemberID: "m", ProtocolMetadata: []byte{0, 3, 0}}}); err == nil {
		t.Error("truncated metadata of a member was accepted")
	}
	if _, err := b.ParseSyncAssignment([]byte{0}); err == nil {
		t.Error("a truncated assignment was accepted")
	}
}
