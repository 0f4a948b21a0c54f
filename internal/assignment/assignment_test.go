package assignment

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/statestore"
)

var orders = Group{"orders", []string{"orders", "customers"}}

func member(id string, groups ...Group) Member {
	m := Member{ID: id, Instance: id, UserData: &UserData{Groups: append([]Group{}, groups...)}}
	for _, g := range groups {
		m.Topics = append(m.Topics, g.Topics...)
	}
	return m
}

func holding(m Member, process byte, held ...Held) Member {
	m.UserData.Process[0], m.UserData.Held = process, held
	return m
}

func owning(m Member, generation int32, g Group, partitions ...int32) Member {
	for _, p := range partitions {
		own(&m, g, p)
	}
	m.Generation = generation
	return m
}

func counts(g Group, n int32) map[string]int32 {
	c := map[string]int32{}
	for _, t := range g.Topics {
		c[t] = n
	}
	return c
}

func taskOf(p int32) statestore.TaskID { return statestore.TaskID{SubTopology: "orders", Partition: p} }

// loads renders "a:[0 1] b:[2]", the partitions of orders that each member is given.
func loads(plan Plan) string {
	var b strings.Builder
	for _, m := range plan.Members {
		var partitions []int32
		for _, id := range m.Tasks {
			partitions = append(partitions, id.Partition)
		}
		fmt.Fprintf(&b, "%s:%v ", m.Member, partitions)
	}
	return strings.TrimSpace(b.String())
}

func TestAllInputsOfATaskGoToOneMember(t *testing.T) {
	plan := Balance(Input{Members: []Member{member("a", orders), member("b", orders)}, Partitions: counts(orders, 4)})
	for _, m := range plan.Members {
		if len(m.Partitions) != 2 || !slices.Equal(m.Partitions[0].Partitions, m.Partitions[1].Partitions) || len(m.Tasks) != 2 {
			t.Errorf("%+v", m)
		}
	}
}

func TestEachSubTopologyIsSpreadEvenly(t *testing.T) {
	audit := Group{"audit", []string{"log"}}
	in := Input{Members: []Member{member("a", orders, audit), member("b", orders, audit)}, Partitions: counts(orders, 4)}
	in.Partitions["log"] = 6
	for _, m := range Balance(in).Members {
		n := map[string]int{}
		for _, id := range m.Tasks {
			n[id.SubTopology]++
		}
		if n["orders"] != 2 || n["audit"] != 3 {
			t.Errorf("%s: %v", m.Member, n)
		}
	}
}

func TestAFreeTaskGoesToTheFreshestStateThenToItsProcess(t *testing.T) {
	for _, c := range []struct {
		name    string
		members []Member
		want    string
	}{
		{"the newest", []Member{holding(member("a", orders), 1, Held{taskOf(0), 5}), holding(member("b", orders), 2, Held{taskOf(0), 6})}, "a:[] b:[0]"},
		{"its process before older state", []Member{
			owning(holding(member("a", orders), 1, Held{taskOf(0), 9}), 3, orders, 1),
			owning(holding(member("b", orders), 2, Held{taskOf(0), 8}), 3, orders),
			owning(holding(member("c", orders), 1), 3, orders),
		}, "a:[1] b:[] c:[0]"},
		{"older state before none", []Member{
			owning(holding(member("a", orders), 1, Held{taskOf(0), 9}), 3, orders, 1),
			owning(holding(member("b", orders), 2), 3, orders),
			owning(holding(member("c", orders), 3, Held{taskOf(0), 1}), 3, orders),
		}, "a:[1] b:[] c:[0]"},
	} {
		in := Input{Members: c.members, Partitions: counts(orders, int32(len(c.members)-1))}
		if got := loads(Balance(in)); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func TestAStaticMemberThatComesBackGetsItsTasks(t *testing.T) {
	back := holding(member("b", orders), 2, Held{taskOf(1), 40}, Held{taskOf(4), 41})
	back.ID, back.Generation = "b-restarted", -1
	in := Input{Partitions: counts(orders, 6), Members: []Member{
		owning(member("a", orders), 3, orders, 0, 3), back, owning(member("c", orders), 3, orders, 2, 5)}}
	plan := Balance(in)
	if got := loads(plan); got != "a:[0 3] b-restarted:[1 4] c:[2 5]" || len(plan.Withheld) > 0 {
		t.Errorf("%s, withheld %v", got, plan.Withheld)
	}
}

func TestATaskIsWithheldWhileAnyOfItsPartitionsIsOwned(t *testing.T) {
	a := Member{ID: "a", Topics: []string{"orders"}, Owned: []TopicPartitions{{"customers", []int32{0}}}, Generation: 1}
	b := member("b", orders)
	plan := Balance(Input{Members: []Member{a, b}, Partitions: counts(orders, 2)})
	want := []Withheld{{Task: taskOf(0), From: []string{"a"}, To: "b"}}
	if loads(plan) != "a:[] b:[1]" || !reflect.DeepEqual(plan.Withheld, want) {
		t.Errorf("%s, withheld %+v", loads(plan), plan.Withheld)
	}
}

func TestAnOutdatedClaimIsNoOwnership(t *testing.T) {
	stale := owning(member("a", orders), 3, orders, 0, 1)
	current := owning(member("b", orders), 5, orders, 0, 1)
	plan := Balance(Input{Members: []Member{stale, current}, Partitions: counts(orders, 2)})
	if got := loads(plan); len(plan.Withheld) != 1 || plan.Withheld[0].To != "a" || !slices.Equal(plan.Withheld[0].From, []string{"b"}) {
		t.Errorf("%s, withheld %+v: b owns both and must let go of one before a has it", got, plan.Withheld)
	}
}

func TestWhatCannotBeAssignedIsReported(t *testing.T) {
	for _, c := range []struct {
		name string
		in   Input
		code problem.Code
		text []string
	}{
		{"unequal counts", Input{Members: []Member{member("a", orders)}, Partitions: map[string]int32{"orders": 4, "customers": 6}},
			problem.NotCopartitioned, []string{"orders has 4", "customers has 6"}},
		{"missing topic", Input{Members: []Member{member("a", orders)}, Partitions: map[string]int32{"orders": 4}},
			problem.TopicMissing, []string{"customers"}},
		{"no member", Input{Members: []Member{{ID: "a", Topics: []string{"orders"}}}, Groups: []Group{orders}, Partitions: counts(orders, 2)},
			problem.TasksUnassigned, []string{"orders", "customers"}},
		{"unknown topic", Input{Members: []Member{{ID: "a", Topics: []string{"strange"}}}, Partitions: map[string]int32{"strange": 1}},
			problem.TasksUnassigned, []string{"strange"}},
	} {
		plan := Balance(c.in)
		if len(plan.Unassigned) != 1 || problem.CodeOf(plan.Unassigned[0].Err) != c.code || loads(plan) != "a:[]" {
			t.Errorf("%s: %+v", c.name, plan)
			continue
		}
		for _, part := range c.text {
			if !strings.Contains(plan.Unassigned[0].Err.Error(), part) {
				t.Errorf("%s: %q does not name %q", c.name, plan.Unassigned[0].Err, part)
			}
		}
	}
}

func TestOneBrokenSubTopologyLeavesTheOthersAlone(t *testing.T) {
	audit := Group{"audit", []string{"log"}}
	in := Input{Members: []Member{member("a", orders, audit)}, Partitions: map[string]int32{"orders": 1, "customers": 2, "log": 3}}
	if plan := Balance(in); len(plan.Members[0].Tasks) != 3 || len(plan.Unassigned) != 1 {
		t.Errorf("%+v", plan)
	}
}

func TestTheDefinitionOfTheMajorityIsInForce(t *testing.T) {
	grown := Group{"orders", []string{"customers", "orders", "prices"}}
	partitions := counts(grown, 3)
	for _, c := range []struct {
		members []Member
		want    string
	}{
		{[]Member{member("a", orders), member("b", orders), member("c", grown)}, "orders+customers"},
		{[]Member{member("a", orders), member("b", grown), member("c", grown)}, "all three"},
		{[]Member{member("a", orders), member("c", grown)}, "all three"}, // as many: the larger one
	} {
		plan := Balance(Input{Members: c.members, Groups: []Group{orders}, Partitions: partitions})
		given := map[string]int{}
		for _, m := range plan.Members {
			for _, tp := range m.Partitions {
				given[tp.Topic] += len(tp.Partitions)
			}
		}
		want := map[string]int{"orders": 3, "customers": 3}
		if c.want == "all three" {
			want["prices"] = 3
		}
		if !reflect.DeepEqual(given, want) || len(plan.Unassigned) != 1 || problem.CodeOf(plan.Unassigned[0].Err) != problem.TasksUnassigned {
			t.Errorf("%s: given %v, unassigned %+v", c.want, given, plan.Unassigned)
		}
	}
}

func TestASubTopologyThatOnlyAFollowerKnowsIsAssigned(t *testing.T) {
	audit := Group{"audit", []string{"log"}}
	in := Input{Members: []Member{member("old", orders), member("new", orders, audit)}, Groups: []Group{orders}, Partitions: counts(orders, 2)}
	in.Partitions["log"] = 2
	plan := Balance(in)
	if len(plan.Unassigned) > 0 || len(plan.Members[0].Tasks) != 2 || len(plan.Members[1].Tasks) != 2 || plan.Members[0].Member != "new" {
		t.Errorf("%+v", plan)
	}
}

func TestAMemberWithoutReadableUserDataGoesByItsSubscription(t *testing.T) {
	in := Input{Members: []Member{{ID: "a", Topics: orders.Topics}, member("b", orders)}, Partitions: counts(orders, 2)}
	if got := loads(Balance(in)); got != "a:[1] b:[0]" {
		t.Error(got)
	}
}

func TestNobodyAndNothing(t *testing.T) {
	if plan := Balance(Input{}); len(plan.Members)+len(plan.Withheld)+len(plan.Unassigned) != 0 {
		t.Errorf("%+v", plan)
	}
	plan := Balance(Input{Members: []Member{member("a", orders), member("b", orders), member("c", orders)}, Partitions: counts(orders, 1)})
	if got := loads(plan); got != "a:[0] b:[] c:[]" {
		t.Error(got)
	}
}

// BenchmarkBalance places 2,000 tasks on 100 members of which 50 have just joined.
func BenchmarkBalance(b *testing.B) {
	var in Input
	in.Partitions = map[string]int32{}
	var groups []Group
	for g := range 10 {
		groups = append(groups, Group{fmt.Sprintf("g%d", g), []string{fmt.Sprintf("t%d", g)}})
		in.Partitions[groups[g].Topics[0]] = 200
	}
	for m := range 100 {
		in.Members = append(in.Members, member(fmt.Sprintf("m%03d", m), groups...))
		for g := range groups {
			for p := int32(m); m < 50 && p < 200; p += 50 {
				own(&in.Members[m], groups[g], p)
				in.Members[m].UserData.Held = append(in.Members[m].UserData.Held, Held{statestore.TaskID{SubTopology: groups[g].Name, Partition: p}, 1})
			}
		}
	}
	for b.Loop() {
		if plan := Balance(in); len(plan.Withheld) != 1000 {
			b.Fatal(len(plan.Withheld))
		}
	}
}
