package assignment

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/oncemill/oncemill/statestore"
)

// price is what a placement costs, most important first: sum of squared loads, moves away from an owner, ranks, sum of
// squared numbers of tasks per member and sub-topology.
type price [4]int

// TestPlansAreAsCheapAsTheBestOfAllPlacements compares with the cheapest of all placements, tried one by one.
func TestPlansAreAsCheapAsTheBestOfAllPlacements(t *testing.T) {
	reached := map[string]int{}
	for seed := range uint64(3000) {
		rng := rand.New(rand.NewPCG(seed, 1))
		in := smallInput(rng)
		plan := Balance(in)
		got, best := priceOf(in, targets(plan)), cheapest(in)
		if got != best {
			t.Fatalf("seed %d: the plan costs %v, the best placement %v\ninput %+v\nplan %+v", seed, got, best, in, plan)
		}
		if best[1] > 0 {
			reached["moves"]++
		}
		if len(plan.Withheld) > 0 {
			reached["withheld"]++
		}
		if len(plan.Unassigned) > 0 {
			reached["unassigned"]++
		}
		if uneven(plan) {
			reached["bound by subscriptions"]++
		}
	}
	for _, branch := range []string{"moves", "withheld", "unassigned", "bound by subscriptions"} {
		if reached[branch] < 50 {
			t.Errorf("%s: reached only %d times", branch, reached[branch])
		}
	}
}

// smallInput makes up to three members and up to seven tasks, with claims, state and subscriptions at random.
func smallInput(rng *rand.Rand) Input {
	in := Input{Partitions: map[string]int32{}}
	tasks := 0
	for g := range 1 + rng.IntN(3) {
		p := rng.IntN(min(5, 8-tasks))
		tasks += p
		group := Group{Name: fmt.Sprintf("g%d", g), Topics: []string{fmt.Sprintf("t%da", g), fmt.Sprintf("t%db", g)}}
		in.Groups = append(in.Groups, group)
		in.Partitions[group.Topics[0]], in.Partitions[group.Topics[1]] = int32(p), int32(p)
	}
	for m := range 1 + rng.IntN(3) {
		member := Member{ID: fmt.Sprintf("m%d", m), Generation: 7, UserData: &UserData{Groups: []Group{}}}
		member.UserData.Process[0] = byte(rng.IntN(3)) // 0: none
		for _, g := range in.Groups {
			if rng.IntN(4) > 0 {
				member.Topics = append(member.Topics, g.Topics...)
				member.UserData.Groups = append(member.UserData.Groups, g)
			}
		}
		in.Members = append(in.Members, member)
	}
	for _, g := range in.Groups {
		for p := range in.Partitions[g.Topics[0]] {
			if owner := rng.IntN(len(in.Members) + 1); owner < len(in.Members) {
				own(&in.Members[owner], g, p)
			}
			for m := range in.Members {
				if rng.IntN(2) == 0 {
					held := Held{Task: statestore.TaskID{SubTopology: g.Name, Partition: p}, N: uint64(rng.IntN(3))}
					in.Members[m].UserData.Held = append(in.Members[m].UserData.Held, held)
				}
			}
		}
	}
	return in
}

func own(m *Member, g Group, partition int32) {
	for _, t := range g.Topics {
		m.Owned = append(m.Owned, TopicPartitions{t, []int32{partition}})
	}
}

// targets is where each task goes in the end, those that are withheld included.
func targets(plan Plan) map[statestore.TaskID]string {
	to := map[statestore.TaskID]string{}
	for _, m := range plan.Members {
		for _, task := range m.Tasks {
			to[task] = m.Member
		}
	}
	for _, w := range plan.Withheld {
		to[w.Task] = w.To
	}
	return to
}

func uneven(plan Plan) bool {
	load := map[string]int{}
	for _, m := range targets(plan) {
		load[m]++
	}
	least, most := 1<<30, 0
	for _, m := range plan.Members {
		least, most = min(least, load[m.Member]), max(most, load[m.Member])
	}
	return most > least+1
}

// runners lists the tasks that somebody may run, and who.
func runners(in Input) (tasks []statestore.TaskID, who map[statestore.TaskID][]Member) {
	who = map[statestore.TaskID][]Member{}
	for _, g := range in.Groups {
		for p := range in.Partitions[g.Topics[0]] {
			id := statestore.TaskID{SubTopology: g.Name, Partition: p}
			for _, m := range in.Members {
				if slices.Contains(m.Topics, g.Topics[0]) {
					who[id] = append(who[id], m)
				}
			}
			if len(who[id]) > 0 {
				tasks = append(tasks, id)
			}
		}
	}
	return tasks, who
}

func cheapest(in Input) price {
	tasks, who := runners(in)
	best := price{1 << 30}
	to := map[statestore.TaskID]string{}
	var try func(i int)
	try = func(i int) {
		if i == len(tasks) {
			if p := priceOf(in, to); slices.Compare(p[:], best[:]) < 0 {
				best = p
			}
			return
		}
		for _, m := range who[tasks[i]] {
			to[tasks[i]] = m.ID
			try(i + 1)
		}
	}
	try(0)
	return best
}

func priceOf(in Input, to map[statestore.TaskID]string) price {
	load, cell := map[string]int{}, map[string]int{}
	var p price
	_, who := runners(in)
	for task, id := range to {
		load[id]++
		cell[id+"/"+task.SubTopology]++
		i := slices.IndexFunc(who[task], func(m Member) bool { return m.ID == id })
		if i < 0 {
			panic(fmt.Sprintf("%v is given to %s, which does not subscribe to it", task, id))
		}
		if owns(who[task][i], task) {
			continue
		}
		if slices.ContainsFunc(who[task], func(m Member) bool { return owns(m, task) }) {
			p[1]++
		}
		p[2] += rankOf(in, who[task][i], task)
	}
	for _, n := range load {
		p[0] += n * n
	}
	for _, n := range cell {
		p[3] += n * n
	}
	return p
}

func owns(m Member, task statestore.TaskID) bool {
	return slices.ContainsFunc(m.Owned, func(o TopicPartitions) bool {
		return o.Topic == "t"+task.SubTopology[1:]+"a" && o.Partitions[0] == task.Partition
	})
}

// rankOf counts the distinct newer states in the group: twice that, and one more if it is another worker's.
func rankOf(in Input, m Member, task statestore.TaskID) int {
	rank := 8
	for _, other := range in.Members {
		foreign := 0
		if other.ID != m.ID {
			if foreign = 1; other.UserData.Process != m.UserData.Process || m.UserData.Process == (Process{}) {
				continue
			}
		}
		if n, held := heldBy(other, task); held {
			newer := map[uint64]bool{}
			for _, o := range in.Members {
				if k, held := heldBy(o, task); held && k > n {
					newer[k] = true
				}
			}
			rank = min(rank, 2*len(newer)+foreign)
		}
	}
	return rank
}

func heldBy(m Member, task statestore.TaskID) (uint64, bool) {
	for _, h := range m.UserData.Held {
		if h.Task == task {
			return h.N, true
		}
	}
	return 0, false
}
