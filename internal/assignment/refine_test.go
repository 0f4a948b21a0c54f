package assignment

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/oncemill/oncemill/statestore"
)

// largeSolver has 60 members that subscribe to half of 8 sub-topologies each, and 40 tasks in each of these, placed and
// held at random: far from balance.
func largeSolver() *solver {
	rng := rand.New(rand.NewPCG(1, 3))
	in := Input{Partitions: map[string]int32{}}
	var known []Group
	for g := range 8 {
		known = append(known, Group{fmt.Sprintf("g%d", g), []string{fmt.Sprintf("t%d", g)}})
		in.Partitions[known[g].Topics[0]] = 40
	}
	for m := range 60 {
		var groups []Group
		for _, g := range known {
			if rng.IntN(2) == 0 {
				groups = append(groups, g)
			}
		}
		in.Members = append(in.Members, member(fmt.Sprintf("m%02d", m), groups...))
	}
	groups, _ := resolve(ordered(in.Members), nil, in.Partitions)
	var tasks []task
	for g, group := range groups {
		for p := range group.partitions {
			owner := group.members[rng.IntN(min(5, len(group.members)))]
			tasks = append(tasks, task{statestore.TaskID{SubTopology: group.Name, Partition: p}, g, owner})
			holder := &in.Members[rng.IntN(len(in.Members))]
			holder.UserData.Held = append(holder.UserData.Held, Held{tasks[len(tasks)-1].id, 1})
		}
	}
	s := newSolver(len(in.Members), groups, tasks, freshness(in.Members, tasks))
	s.fill()
	return s
}

func (s *solver) total() (c cost) {
	for i, m := range s.at {
		c = c.add(s.taskCost(i, m))
	}
	for _, n := range s.load {
		c = c.add(s.balanceCost(n * n))
	}
	for _, cell := range s.cells {
		c = c.add(s.evennessCost(len(cell) * len(cell)))
	}
	return c
}

func TestALargeGroupIsRefinedWithinTheBudget(t *testing.T) {
	s := largeSolver()
	if left := s.refine(refineBudget); left < refineBudget/2 {
		t.Errorf("%d of %d left", left, refineBudget)
	}
}

func TestMoreBudgetNeverMakesThePlanWorse(t *testing.T) {
	previous := largeSolver().total()
	better := 0
	for budget := 1; budget < refineBudget; budget *= 4 {
		s := largeSolver()
		s.refine(budget)
		for i, m := range s.at {
			if m == nobody {
				t.Fatalf("with a budget of %d task %d has no place", budget, i)
			}
		}
		c := s.total()
		if previous.less(c) {
			t.Fatalf("a budget of %d costs %v, a smaller one %v", budget, c, previous)
		}
		if c.less(previous) {
			better++
		}
		previous = c
	}
	if better < 3 {
		t.Errorf("the budget mattered %d times only", better)
	}
}
