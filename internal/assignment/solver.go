package assignment

import (
	"cmp"
	"slices"
)

// solver looks for the cheapest placement of the tasks. The problem is a min-cost flow with convex costs,
//
//	task -> cell (member, group) -> member -> sink
//
// where a task's arc costs a move and its rank, a cell with c tasks costs c*c, and a member with l tasks costs l*l, each
// on its own level of importance. It is optimal exactly when the residual network has no negative cycle.
type solver struct {
	members, groups int
	eligible        [][]int // by group: members that may run it
	tasks           []task
	ranks           ranks

	at    []int   // by task: the member; nobody until fill
	cells [][]int // by cell: its tasks
	load  []int   // by member: its tasks

	// shifts[(group*members+from)*members+to] is the cheapest way to move a task of the group from one member to
	// another. cancel keeps it up to date.
	shifts []shift
	net    network
	// majorOnly makes refine look at balance and moves alone.
	majorOnly bool
}

// shift is a task that could move, and what that changes.
type shift struct {
	cost cost
	task int // nobody if there is no task to move
}

// cost compares lexicographically. major holds balance, then moves; minor holds freshness, then evenness. The parts of
// one word cannot run into each other: with T tasks, moves change by at most T and evenness by at most T*T.
type cost struct{ major, minor int64 }

func (a cost) add(b cost) cost  { return cost{a.major + b.major, a.minor + b.minor} }
func (a cost) sub(b cost) cost  { return cost{a.major - b.major, a.minor - b.minor} }
func (a cost) less(b cost) bool { return a.major < b.major || a.major == b.major && a.minor < b.minor }

func newSolver(members int, groups []group, tasks []task, r ranks) *solver {
	s := &solver{members: members, groups: len(groups), tasks: tasks, ranks: r}
	for _, g := range groups {
		s.eligible = append(s.eligible, g.members)
	}
	s.at = make([]int, len(tasks))
	for i := range s.at {
		s.at[i] = nobody
	}
	s.cells = make([][]int, members*len(groups))
	s.load = make([]int, members)
	return s
}

func (s *solver) cell(member, group int) int { return member*s.groups + group }

func (s *solver) rank(task, member int) int64 { return int64(s.ranks[task*s.members+member]) }

func (s *solver) balanceCost(n int) cost { return cost{major: int64(n) * int64(len(s.tasks)+1)} }

func (s *solver) evennessCost(n int) cost { return cost{minor: int64(n)} }

// taskCost is what it costs to have the task at the member.
func (s *solver) taskCost(task, member int) cost {
	owner := s.tasks[task].owner
	if owner == member {
		return cost{}
	}
	c := cost{minor: s.rank(task, member) * int64(len(s.tasks)*len(s.tasks)+1)}
	if owner != nobody {
		c.major = 1
	}
	return c
}

// fill places every task: owners keep theirs up to their share, the rest goes to the best of those that have room. If
// all members subscribe alike, this is already optimal in balance and moves.
func (s *solver) fill() {
	share := s.shares()
	for _, i := range s.ownedInTurn() {
		if owner := s.tasks[i].owner; s.load[owner] < share[owner] {
			s.put(i, owner)
		}
	}
	for i := range s.tasks {
		if s.at[i] == nobody {
			s.put(i, s.bestPlace(i, share))
		}
	}
}

// ownedInTurn lists the owned tasks so that an owner takes one task of each group, then a second of each, and so on: what
// it cannot keep comes from the groups that it has most of.
func (s *solver) ownedInTurn() []int {
	turn := make([]int, len(s.tasks))
	taken := make([]int, len(s.cells))
	var owned []int
	for i, t := range s.tasks {
		if t.owner != nobody {
			cell := s.cell(t.owner, t.group)
			turn[i] = taken[cell]
			taken[cell]++
			owned = append(owned, i)
		}
	}
	slices.SortStableFunc(owned, func(a, b int) int { return cmp.Compare(turn[a], turn[b]) })
	return owned
}

// shares divides the tasks evenly over the members that may run any; those that own most get the larger shares.
func (s *solver) shares() []int {
	share := make([]int, s.members)
	active := make([]bool, s.members)
	owned := make([]int, s.members)
	count := 0
	for _, members := range s.eligible {
		for _, m := range members {
			if !active[m] {
				active[m] = true
				count++
			}
		}
	}
	if count == 0 {
		return share
	}
	for _, t := range s.tasks {
		if t.owner != nobody {
			owned[t.owner]++
		}
	}
	for m := range share {
		if active[m] {
			share[m] = len(s.tasks) / count
		}
	}
	for range len(s.tasks) % count {
		next := nobody
		for m := range share {
			if active[m] && share[m] == len(s.tasks)/count && (next == nobody || owned[m] > owned[next]) {
				next = m
			}
		}
		share[next]++
	}
	return share
}

// bestPlace prefers members below their share, among those the fresher state; else the smaller load, then the member
// with fewer tasks of the group.
func (s *solver) bestPlace(task int, share []int) int {
	group := s.tasks[task].group
	measure := func(m int) [4]int {
		if s.load[m] >= share[m] {
			return [4]int{1, s.load[m], int(s.rank(task, m)), len(s.cells[s.cell(m, group)])}
		}
		return [4]int{0, int(s.rank(task, m)), len(s.cells[s.cell(m, group)]), s.load[m]}
	}
	best := nobody
	var least [4]int
	for _, m := range s.eligible[group] {
		if v := measure(m); best == nobody || lessInts(v, least) {
			best, least = m, v
		}
	}
	return best
}

func lessInts(a, b [4]int) bool {
	for i := range a {
		if a[i] != b[i] {
			return a[i] < b[i]
		}
	}
	return false
}

// put places a task that has no place.
func (s *solver) put(task, member int) {
	s.at[task] = member
	cell := s.cell(member, s.tasks[task].group)
	s.cells[cell] = append(s.cells[cell], task)
	s.load[member]++
}
