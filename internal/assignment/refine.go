package assignment

import "slices"

const (
	// refineBudget bounds the work of refine, in arcs looked at: about a second. What is found until then is kept;
	// balance and moves come first, so that a plan that runs into the bound is less fresh or less even than the best.
	refineBudget = 200_000_000
	// maxShifts bounds the memory of the table of shifts to about 100 MB. A larger group (2,000 members on one
	// sub-topology) is left as fill made it.
	maxShifts = 1 << 22
)

// network is the residual network. Its nodes are the cells, then the members, then the sink.
type network struct {
	dist []cost
	from []int // the node before, or nobody
	via  []int // the task that moves on the arc from there, or nobody
	mark []int // the walk of findCycles that came by, or 0
}

// refine cancels negative cycles until there are none, or the budget is used up. Each one makes the placement strictly
// better. A first pass looks at balance and moves alone. It returns what is left of the budget.
func (s *solver) refine(budget int) int {
	if s.groups*s.members*s.members > maxShifts {
		return budget
	}
	s.shifts = make([]shift, s.groups*s.members*s.members)
	for g := range s.groups {
		for _, m := range s.eligible[g] {
			s.updateShifts(m, g)
		}
	}
	nodes := len(s.cells) + s.members + 1
	s.net = network{dist: make([]cost, nodes), from: make([]int, nodes), via: make([]int, nodes), mark: make([]int, nodes)}
	for _, s.majorOnly = range []bool{true, false} {
		for budget > 0 {
			cycles := s.negativeCycles(&budget)
			if len(cycles) == 0 {
				break
			}
			for _, cycle := range cycles {
				s.cancel(cycle)
			}
		}
	}
	return budget
}

// updateShifts recomputes the cheapest shifts out of a cell.
func (s *solver) updateShifts(from, group int) {
	row := s.shifts[(group*s.members+from)*s.members:][:s.members]
	for i := range row {
		row[i].task = nobody
	}
	for _, task := range s.cells[s.cell(from, group)] {
		here := s.taskCost(task, from)
		for _, to := range s.eligible[group] {
			if c := s.taskCost(task, to).sub(here); to != from && (row[to].task == nobody || c.less(row[to].cost)) {
				row[to] = shift{c, task}
			}
		}
	}
}

// negativeCycles is Bellman-Ford from a virtual source before all nodes. It returns negative cycles that share no node,
// so that all can be canceled, or nothing if there are none (or no budget).
func (s *solver) negativeCycles(budget *int) [][]int {
	n := &s.net
	for i := range n.dist {
		n.dist[i], n.from[i], n.via[i] = cost{}, nobody, nobody
	}
	for *budget > 0 && s.relaxAll(budget) {
		if cycles := n.findCycles(); len(cycles) > 0 {
			return cycles
		}
	}
	return nil
}

func (s *solver) relaxAll(budget *int) (changed bool) {
	for g := range s.groups {
		for _, a := range s.eligible[g] {
			row := s.shifts[(g*s.members+a)*s.members:][:s.members]
			*budget -= len(s.eligible[g])
			if len(s.cells[s.cell(a, g)]) == 0 {
				continue
			}
			for _, b := range s.eligible[g] {
				if row[b].task != nobody && s.relax(s.cell(a, g), s.cell(b, g), row[b].cost, row[b].task) {
					changed = true
				}
			}
		}
	}
	sink := len(s.cells) + s.members
	for m := range s.members {
		node := len(s.cells) + m
		for g := range s.groups {
			cell := s.cell(m, g)
			c := len(s.cells[cell])
			changed = s.relax(cell, node, s.evennessCost(2*c+1), nobody) || changed
			if c > 0 {
				changed = s.relax(node, cell, s.evennessCost(1-2*c), nobody) || changed
			}
		}
		changed = s.relax(node, sink, s.balanceCost(2*s.load[m]+1), nobody) || changed
		if s.load[m] > 0 {
			changed = s.relax(sink, node, s.balanceCost(1-2*s.load[m]), nobody) || changed
		}
	}
	*budget -= s.members * (s.groups + 1)
	return changed
}

func (s *solver) relax(from, to int, c cost, task int) bool {
	n := &s.net
	if s.majorOnly {
		c.minor = 0
	}
	if d := n.dist[from].add(c); d.less(n.dist[to]) {
		n.dist[to], n.from[to], n.via[to] = d, from, task
		return true
	}
	return false
}

// findCycles returns the cycles along from. There are some only if their cost is negative.
func (n *network) findCycles() (cycles [][]int) {
	clear(n.mark)
	for start := range n.from {
		walk := start + 1
		at := start
		for at != nobody && n.mark[at] == 0 {
			n.mark[at] = walk
			at = n.from[at]
		}
		if at == nobody || n.mark[at] != walk {
			continue // ran out, or into an earlier walk
		}
		cycle := []int{at}
		for next := n.from[at]; next != at; next = n.from[next] {
			cycle = append(cycle, next)
		}
		cycles = append(cycles, cycle)
	}
	return cycles
}

// cancel moves the tasks on the arcs of the cycle, each into the cell that the arc leads to.
func (s *solver) cancel(cycle []int) {
	for _, node := range cycle {
		if task := s.net.via[node]; task != nobody {
			s.move(task, node/s.groups) // only arcs between cells carry tasks
		}
	}
	for _, node := range cycle {
		if node < len(s.cells) {
			s.updateShifts(node/s.groups, node%s.groups)
		}
	}
}

func (s *solver) move(task, to int) {
	from := s.at[task]
	cell := s.cell(from, s.tasks[task].group)
	s.cells[cell] = slices.DeleteFunc(s.cells[cell], func(t int) bool { return t == task })
	s.load[from]--
	s.put(task, to)
}
