package assignment

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/oncemill/oncemill/internal/problem"
)

// group is a sub-topology that can be assigned.
type group struct {
	Group            // Topics sorted, without doubles
	partitions int32 // of each topic
	members    []int // that may run its tasks, rising; never empty
}

// definition is one reading of a sub-topology. During a rolling upgrade two members may disagree on one.
type definition struct {
	Group
	members []int
}

// resolve finds the sub-topologies to assign, ordered by name, and reports what is left out.
//
// Two definitions that share a name or a topic exclude each other: a partition can only go to one task. The one that
// more members run wins, so that the members of the old version keep working until the new one has the majority; then
// the one with more topics, then by name and topics.
func resolve(members []Member, leader []Group, partitions map[string]int32) ([]group, []Unassigned) {
	var groups []group
	var left []Unassigned
	defs := definitions(members, leader)
	inForce := make(map[string]Group) // by name and by topic: the definition that was taken
	covered := make(map[string]bool)
	for _, d := range defs {
		for _, t := range d.Topics {
			covered[t] = true
		}
		reason := d.check(partitions)
		if other, found := rival(inForce, d.Group); found {
			reason = problem.New(problem.TasksUnassigned, d.Name, "its inputs %s do not go together with %s, which more members run with the inputs %s",
				strings.Join(d.Topics, ", "), other.Name, strings.Join(other.Topics, ", "))
		} else {
			inForce["name "+d.Name] = d.Group
			for _, t := range d.Topics {
				inForce["topic "+t] = d.Group
			}
		}
		if reason != nil {
			left = append(left, Unassigned{Group: d.Name, Topics: d.Topics, Err: reason})
			continue
		}
		groups = append(groups, group{Group: d.Group, partitions: partitions[d.Topics[0]], members: d.members})
	}
	slices.SortFunc(groups, func(a, b group) int { return cmp.Compare(a.Name, b.Name) })
	left = append(left, uncovered(members, covered)...)
	slices.SortFunc(left, func(a, b Unassigned) int {
		return cmp.Or(cmp.Compare(a.Group, b.Group), slices.Compare(a.Topics, b.Topics))
	})
	return groups, left
}

// definitions lists the definitions of the leader and of all members once each, strongest first.
func definitions(members []Member, leader []Group) []definition {
	byKey := make(map[string]*definition)
	add := func(g Group) {
		g = Group{Name: g.Name, Topics: sortedSet(g.Topics)}
		if len(g.Topics) > 0 { // a sub-topology without inputs has no tasks
			byKey[key(g)] = &definition{Group: g}
		}
	}
	for _, g := range leader {
		add(g)
	}
	for _, m := range members {
		if m.UserData != nil {
			for _, g := range m.UserData.Groups {
				add(g)
			}
		}
	}
	var defs []definition
	for _, d := range byKey {
		for i := range members {
			if members[i].mayRun(d.Group) {
				d.members = append(d.members, i)
			}
		}
		defs = append(defs, *d)
	}
	slices.SortFunc(defs, func(a, b definition) int {
		return cmp.Or(cmp.Compare(len(b.members), len(a.members)), cmp.Compare(len(b.Topics), len(a.Topics)),
			cmp.Compare(a.Name, b.Name), slices.Compare(a.Topics, b.Topics))
	})
	return defs
}

// mayRun reports whether the member subscribes to all inputs and, if it published its sub-topologies, has this one.
func (m *Member) mayRun(g Group) bool {
	for _, t := range g.Topics {
		if !slices.Contains(m.Topics, t) {
			return false
		}
	}
	if m.UserData == nil || m.UserData.Groups == nil {
		return true
	}
	return slices.ContainsFunc(m.UserData.Groups, func(own Group) bool {
		return own.Name == g.Name && slices.Equal(sortedSet(own.Topics), g.Topics)
	})
}

// check returns why the sub-topology cannot be assigned, or nil.
func (d *definition) check(partitions map[string]int32) error {
	if len(d.members) == 0 {
		return problem.New(problem.TasksUnassigned, d.Name, "no member subscribes to all of its inputs %s", strings.Join(d.Topics, ", "))
	}
	equal := true
	var counts []string
	for _, t := range d.Topics {
		if partitions[t] <= 0 {
			return problem.New(problem.TopicMissing, t, "input of %s", d.Name)
		}
		equal = equal && partitions[t] == partitions[d.Topics[0]]
		counts = append(counts, fmt.Sprintf("%s has %d partitions", t, partitions[t]))
	}
	if !equal {
		return problem.New(problem.NotCopartitioned, d.Name, "%s", strings.Join(counts, ", "))
	}
	return nil
}

// rival returns the definition in force that excludes g.
func rival(inForce map[string]Group, g Group) (Group, bool) {
	if other, found := inForce["name "+g.Name]; found {
		return other, true
	}
	for _, t := range g.Topics {
		if other, found := inForce["topic "+t]; found {
			return other, true
		}
	}
	return Group{}, false
}

// uncovered reports the subscribed topics that are an input of no known sub-topology.
func uncovered(members []Member, covered map[string]bool) []Unassigned {
	topics := make(map[string]bool)
	for _, m := range members {
		for _, t := range m.Topics {
			topics[t] = !covered[t]
		}
	}
	var left []Unassigned
	for _, t := range slices.Sorted(maps.Keys(topics)) {
		if topics[t] {
			left = append(left, Unassigned{Topics: []string{t},
				Err: problem.New(problem.TasksUnassigned, t, "a member subscribes to it, and no known sub-topology reads it")})
		}
	}
	return left
}

func sortedSet(topics []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(topics)))
}

// key tells definitions apart: no name of a topic or sub-topology holds a zero byte.
func key(g Group) string { return g.Name + "\x00" + strings.Join(g.Topics, "\x00") }
