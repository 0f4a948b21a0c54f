// Package assignment decides which member of a consumer group runs which task. It is pure: the same input gives the same
// plan, whatever the order of members, groups and topics in it, and nothing here knows a Kafka client.
//
// A task is a sub-topology and a partition p. It reads partition p of every input topic of the sub-topology, so all of
// these go to one member. The plan is the best one in this order of aims:
//
//  1. Balance: the number of tasks per member is as even as the subscriptions allow (within one if all subscribe alike).
//  2. Stickiness: as few tasks as possible leave a live owner.
//  3. Freshness: a task that must be placed goes to the member whose local state is newest, next to another worker of
//     that member's process, which shares its state directory, next to holders of older state.
//  4. Evenness of each sub-topology over the members.
//
// The plan is carried out in two phases (KIP-429). A task that another member may still be running is withheld: nobody
// is given it in this round, its owner sees it missing and revokes it, which makes the owner rejoin, and the next round
// hands it out. One further round is enough, because the first plan is still optimal in the second and needs no move.
//
// In pseudo-code:
//
//	groups  := the sub-topologies that members publish; where two disagree, the one that more members run
//	owner   := per task, the member that claims it in the newest generation and may run it
//	target  := fill(owner), then refine: cancel negative cycles until the costs above are minimal
//	plan    := target, without the tasks that someone else claims
package assignment

import (
	"cmp"
	"slices"

	"github.com/oncemill/oncemill/statestore"
)

// Group is a sub-topology and its input topics.
type Group struct {
	Name string
	// Topics are co-partitioned. Their order means nothing.
	Topics []string
}

// Held says that a member has the state of a task on its disk, as of the task's transaction N.
type Held struct {
	Task statestore.TaskID
	N    uint64
}

// Process is a random id of a process. The workers of a process share its state directory, so that a task whose state one
// of them holds costs the others nothing to take over. The zero Process is shared with nobody.
type Process [16]byte

// TopicPartitions is a topic and some of its partitions, in rising order.
type TopicPartitions struct {
	Topic      string
	Partitions []int32
}

// Member is a member of the group as the leader sees it.
type Member struct {
	// ID is unique in the group and changes when the member restarts.
	ID string
	// Instance is the id of a static member, or empty. Static members come first where a choice is left to the order.
	Instance string
	// Topics is the subscription.
	Topics []string
	// Owned is what the member says it still holds, as of Generation. A claim on a partition is outdated if another
	// member claims it in a later generation.
	Owned      []TopicPartitions
	Generation int32
	// UserData is nil if the member sent none, or none that can be read: such a member may run every task whose topics
	// it subscribes to, and holds no state.
	UserData *UserData
}

// Input is all that a plan depends on.
type Input struct {
	Members []Member
	// Groups are the sub-topologies that the leader knows. Those that members publish are added.
	Groups []Group
	// Partitions is the number of partitions of each topic. A topic that is missing, or has none, does not exist.
	Partitions map[string]int32
}

// Plan is the result.
type Plan struct {
	// Members has one entry for each member, in the order of their ids.
	Members []Assignment
	// Withheld are the tasks that are given out in the next round only, once their owners have let go.
	Withheld []Withheld
	// Unassigned are the sub-topologies and topics that nobody is given, each with the reason.
	Unassigned []Unassigned
}

// Assignment is what one member is given.
type Assignment struct {
	Member string
	Tasks  []statestore.TaskID
	// Partitions are the topic-partitions of Tasks, by topic.
	Partitions []TopicPartitions
	// Rejoin says that the member is in the From of a withheld task, which waits for it to join again.
	Rejoin bool
}

// Withheld is a task on its way from its owners to another member.
//
// Invariant: each member of From is given none of the task in this plan, so it revokes and rejoins.
type Withheld struct {
	Task statestore.TaskID
	From []string
	To   string
}

// Unassigned is a sub-topology (or, with an empty Group, a single topic) of which nothing is assigned.
type Unassigned struct {
	Group  string
	Topics []string
	// Err is a *problem.Error.
	Err error
}

// task is a task under consideration. Tasks are ordered by group name, then partition.
type task struct {
	id    statestore.TaskID
	group int
	// owner is the index of the member that keeps the task if it can, or nobody.
	owner int
}

// nobody stands for a member where there is none.
const nobody = -1

// Balance makes the plan.
func Balance(in Input) Plan {
	members := ordered(in.Members)
	groups, unassigned := resolve(members, in.Groups, in.Partitions)
	var tasks []task
	for g, group := range groups {
		for p := range group.partitions {
			tasks = append(tasks, task{id: statestore.TaskID{SubTopology: group.Name, Partition: p}, group: g, owner: nobody})
		}
	}
	claims := claimsOf(members)
	for i := range tasks {
		tasks[i].owner = claims.owner(groups[tasks[i].group], tasks[i].id.Partition)
	}
	s := newSolver(len(members), groups, tasks, freshness(members, tasks))
	s.fill()
	s.refine(refineBudget)
	plan := handOut(members, groups, tasks, s.at, claims)
	plan.Unassigned = unassigned
	return plan
}

// ordered copies the members into the order in which ties are broken: static members by instance, then the others by id.
// An id that is listed twice, by a broken broker, counts once.
func ordered(members []Member) []Member {
	members = slices.Clone(members)
	slices.SortStableFunc(members, func(a, b Member) int {
		if (a.Instance == "") != (b.Instance == "") {
			return cmp.Compare(b.Instance, a.Instance) // empty last
		}
		return cmp.Or(cmp.Compare(a.Instance, b.Instance), cmp.Compare(a.ID, b.ID))
	})
	seen := make(map[string]bool, len(members))
	return slices.DeleteFunc(members, func(m Member) bool {
		again := seen[m.ID]
		seen[m.ID] = true
		return again
	})
}

// handOut turns targets into the assignments of this round.
func handOut(members []Member, groups []group, tasks []task, target []int, claims claims) Plan {
	plan := Plan{Members: make([]Assignment, len(members))}
	byTopic := make([]map[string][]int32, len(members))
	for m := range members {
		plan.Members[m].Member = members[m].ID
		byTopic[m] = make(map[string][]int32)
	}
	for i, t := range tasks {
		to, g := target[i], groups[t.group]
		if from := claims.others(g, t.id.Partition, to); len(from) > 0 {
			w := Withheld{Task: t.id, To: members[to].ID}
			for _, m := range from {
				w.From = append(w.From, members[m].ID)
				plan.Members[m].Rejoin = true
			}
			slices.Sort(w.From)
			plan.Withheld = append(plan.Withheld, w)
			continue
		}
		plan.Members[to].Tasks = append(plan.Members[to].Tasks, t.id)
		for _, topic := range g.Topics {
			byTopic[to][topic] = append(byTopic[to][topic], t.id.Partition)
		}
	}
	for m := range members {
		for topic, partitions := range byTopic[m] {
			plan.Members[m].Partitions = append(plan.Members[m].Partitions, TopicPartitions{topic, partitions})
		}
		slices.SortFunc(plan.Members[m].Partitions, func(a, b TopicPartitions) int { return cmp.Compare(a.Topic, b.Topic) })
	}
	slices.SortFunc(plan.Members, func(a, b Assignment) int { return cmp.Compare(a.Member, b.Member) })
	return plan
}
