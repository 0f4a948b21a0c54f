package assignment

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/oncemill/oncemill/statestore"
)

// world is a consumer group: members join, leave, crash and come back, and carry out the plans as a cooperative client
// does. It checks every plan.
type world struct {
	t          *testing.T
	rng        *rand.Rand
	groups     []Group
	partitions map[string]int32
	generation int32
	clock      uint64
	live       map[string]*worker // by member id
	disks      map[string]map[statestore.TaskID]uint64
	uniform    bool // all members subscribe to everything
	reached    map[string]int
	born       int
}

type worker struct {
	instance   string
	groups     []Group
	owned      map[topicPartition]bool
	generation int32
	process    Process
}

func newWorld(t *testing.T, seed uint64, uniform bool, reached map[string]int) *world {
	w := &world{t: t, rng: rand.New(rand.NewPCG(seed, 2)), partitions: map[string]int32{}, live: map[string]*worker{},
		disks: map[string]map[statestore.TaskID]uint64{}, uniform: uniform, reached: reached}
	for g := range 1 + w.rng.IntN(4) {
		group := Group{Name: fmt.Sprintf("g%d", g)}
		count := int32(1 + w.rng.IntN(12))
		for i := range 1 + w.rng.IntN(3) {
			topic := fmt.Sprintf("t%d-%d", g, i)
			group.Topics = append(group.Topics, topic)
			w.partitions[topic] = count
		}
		w.groups = append(w.groups, group)
	}
	return w
}

// join starts a member on the disk of the given instance.
func (w *world) join(instance string) {
	w.born++
	m := &worker{instance: instance, owned: map[topicPartition]bool{}, generation: -1, groups: w.groups}
	m.process[0] = byte(1 + instance[1]%2) // two machines
	if !w.uniform {
		m.groups = slices.DeleteFunc(slices.Clone(w.groups), func(Group) bool { return w.rng.IntN(4) == 0 })
	}
	if w.disks[instance] == nil {
		w.disks[instance] = map[statestore.TaskID]uint64{}
	}
	w.live[fmt.Sprintf("%s-%d", instance, w.born)] = m
}

// input is what the leader sees, in random order.
func (w *world) input() Input {
	in := Input{Groups: slices.Clone(w.groups), Partitions: w.partitions}
	for id, m := range w.live {
		member := Member{ID: id, Instance: m.instance, Generation: m.generation, UserData: &UserData{Process: m.process, Groups: slices.Clone(m.groups)}}
		for _, g := range m.groups {
			member.Topics = append(member.Topics, g.Topics...)
		}
		for at := range m.owned {
			member.Owned = append(member.Owned, TopicPartitions{at.topic, []int32{at.partition}})
		}
		for task, n := range w.disks[m.instance] {
			member.UserData.Held = append(member.UserData.Held, Held{task, n})
		}
		w.shuffle(len(member.Owned), reflect.Swapper(member.Owned))
		w.shuffle(len(member.Topics), reflect.Swapper(member.Topics))
		in.Members = append(in.Members, member)
	}
	w.shuffle(len(in.Members), reflect.Swapper(in.Members))
	w.shuffle(len(in.Groups), reflect.Swapper(in.Groups))
	return in
}

func (w *world) shuffle(n int, swap func(i, j int)) { w.rng.Shuffle(n, swap) }

// settle rebalances until nothing is withheld: two rounds at most.
func (w *world) settle() {
	first := w.round()
	if len(first.Withheld) == 0 {
		w.checkSettled(first)
		return
	}
	w.reached["two rounds"]++
	second := w.round()
	if len(second.Withheld) > 0 {
		w.t.Fatalf("a second round withholds %v", second.Withheld)
	}
	if a, b := targets(first), targets(second); len(a) != len(b) {
		w.t.Fatalf("the rounds place %d and %d tasks", len(a), len(b))
	}
	w.checkSettled(second)
}

func (w *world) round() Plan {
	in := w.input()
	plan := Balance(in)
	if again := Balance(w.input()); !reflect.DeepEqual(plan, again) {
		w.t.Fatalf("the plan depends on the order of its input:\n%+v\n%+v", plan, again)
	}
	w.checkMoves(plan)
	w.apply(plan)
	return plan
}

// apply gives the members what the plan says. Nobody may newly receive a partition that another member has not let go
// of, be it by an outdated claim.
func (w *world) apply(plan Plan) {
	w.generation++
	next := map[string]map[topicPartition]bool{}
	for _, a := range plan.Members {
		next[a.Member] = map[topicPartition]bool{}
		for _, tp := range a.Partitions {
			for _, p := range tp.Partitions {
				at := topicPartition{tp.Topic, p}
				next[a.Member][at] = true
				for id, other := range w.live {
					if id != a.Member && other.owned[at] && !w.live[a.Member].owned[at] {
						w.t.Fatalf("%v goes to %s while %s still has it", at, a.Member, id)
					}
				}
			}
		}
	}
	lost := map[string]bool{}
	for id, m := range w.live {
		for at := range m.owned {
			lost[id] = lost[id] || !next[id][at]
		}
	}
	told := map[string]bool{}
	for _, a := range plan.Members {
		told[a.Member] = a.Rejoin
	}
	awaited := map[string]bool{}
	for _, held := range plan.Withheld {
		for _, from := range held.From {
			awaited[from] = true
			if !lost[from] {
				w.t.Fatalf("%v waits for %s, which revokes nothing and so never rejoins", held.Task, from)
			}
		}
	}
	for id, m := range w.live {
		if told[id] != awaited[id] {
			w.t.Fatalf("a task waits for %s: %v; it is told to join again: %v", id, awaited[id], told[id])
		}
		m.owned, m.generation = next[id], w.generation
		for _, g := range m.groups {
			for p := range w.partitions[g.Topics[0]] {
				if m.owned[topicPartition{g.Topics[0], p}] {
					w.clock++
					w.disks[m.instance][statestore.TaskID{SubTopology: g.Name, Partition: p}] = w.clock
				}
			}
		}
	}
}

// checkMoves compares the moves of a plan with what no plan can avoid: with everyone subscribing alike, a member must
// lose what it owns above its share, and the larger shares are best given to those that own most.
func (w *world) checkMoves(plan Plan) {
	if !w.uniform || len(w.live) == 0 {
		return
	}
	to := targets(plan)
	moves, owned := 0, map[string]int{}
	for task, target := range to {
		if id := w.ownerOf(task); id != "" {
			owned[id]++
			if id != target {
				moves++
			}
		}
	}
	most := slices.SortedFunc(maps.Keys(w.live), func(a, b string) int { return owned[b] - owned[a] })
	bound := 0
	for i, id := range most {
		share := len(to) / len(most)
		if i < len(to)%len(most) {
			share++
		}
		bound += max(0, owned[id]-share)
	}
	if moves != bound {
		w.t.Fatalf("%d tasks move, %d must: %+v", moves, bound, plan)
	}
	w.reached["moves"] += moves
}

// ownerOf returns the member whose claim is the newest, or "".
func (w *world) ownerOf(task statestore.TaskID) string {
	i := slices.IndexFunc(w.groups, func(g Group) bool { return g.Name == task.SubTopology })
	at := topicPartition{w.groups[i].Topics[0], task.Partition}
	owner := ""
	for id, m := range w.live {
		if m.owned[at] && (owner == "" || m.generation > w.live[owner].generation) {
			owner = id
		}
	}
	return owner
}

func (w *world) checkSettled(plan Plan) {
	load := map[string]int{}
	runs := map[statestore.TaskID]string{}
	for id, m := range w.live {
		for _, g := range m.groups {
			for p := range w.partitions[g.Topics[0]] {
				n := 0
				for _, topic := range g.Topics {
					if m.owned[topicPartition{topic, p}] {
						n++
					}
				}
				task := statestore.TaskID{SubTopology: g.Name, Partition: p}
				if n != 0 && n != len(g.Topics) {
					w.t.Fatalf("%s has %d of the %d inputs of %v", id, n, len(g.Topics), task)
				}
				if n > 0 {
					load[id]++
					runs[task] = id
				}
			}
		}
	}
	total := 0
	for _, g := range w.groups {
		taken := slices.ContainsFunc(slices.Collect(maps.Values(w.live)), func(m *worker) bool { return runsGroup(m, g.Name) })
		reported := slices.ContainsFunc(plan.Unassigned, func(u Unassigned) bool { return u.Group == g.Name && u.Err != nil })
		if taken == reported {
			w.t.Fatalf("%s: somebody can run it: %v; reported as unassigned: %v", g.Name, taken, reported)
		}
		if taken {
			total += int(w.partitions[g.Topics[0]])
		} else {
			w.reached["unassigned"]++
		}
	}
	if len(runs) != total {
		w.t.Fatalf("%d tasks run, want %d", len(runs), total)
	}
	w.checkBalance(runs, load)
}

func runsGroup(m *worker, name string) bool {
	return slices.ContainsFunc(m.groups, func(g Group) bool { return g.Name == name })
}

// checkBalance follows chains of members that could pass tasks on: a plan is balanced exactly if none leads from a
// member to one with two tasks less.
func (w *world) checkBalance(runs map[statestore.TaskID]string, load map[string]int) {
	for start := range w.live {
		seen := map[string]bool{start: true}
		for queue := []string{start}; len(queue) > 0; queue = queue[1:] {
			for task, id := range runs {
				if id != queue[0] {
					continue
				}
				for other, m := range w.live {
					if !seen[other] && runsGroup(m, task.SubTopology) {
						seen[other] = true
						queue = append(queue, other)
					}
				}
			}
		}
		for other := range seen {
			if load[start] > load[other]+1 {
				w.t.Fatalf("%s has %d tasks and could pass one on to %s with %d", start, load[start], other, load[other])
			}
		}
	}
}

func TestHistories(t *testing.T) {
	for name, uniform := range map[string]bool{"all subscribe alike": true, "rolling upgrades": false} {
		t.Run(name, func(t *testing.T) {
			reached := map[string]int{}
			for seed := range uint64(250) {
				runHistory(newWorld(t, seed, uniform, reached))
			}
			want := []string{"two rounds", "crash", "leave", "join", "zombie"}
			if uniform {
				want = append(want, "moves")
			} else {
				want = append(want, "unassigned")
			}
			for _, branch := range want {
				if reached[branch] < 50 {
					t.Errorf("%s: reached only %d times", branch, reached[branch])
				}
			}
		})
	}
}

func runHistory(w *world) {
	for i := range 1 + w.rng.IntN(3) {
		w.join(fmt.Sprintf("i%d", i))
	}
	w.settle()
	for range 12 {
		ids := slices.Sorted(maps.Keys(w.live))
		pick := ids[w.rng.IntN(len(ids))]
		switch w.rng.IntN(4) {
		case 0: // a new member, or one that was away
			instance := fmt.Sprintf("i%d", w.rng.IntN(8))
			if !slices.ContainsFunc(ids, func(id string) bool { return w.live[id].instance == instance }) {
				w.join(instance)
				w.reached["join"]++
			}
		case 1: // away for longer than the session
			if len(ids) > 1 {
				delete(w.live, pick)
				w.reached["leave"]++
			}
		case 2: // restarted: owns nothing, finds its state
			instance := w.live[pick].instance
			delete(w.live, pick)
			w.join(instance)
			w.reached["crash"]++
		case 3: // comes back claiming what it had, after the others were given it
			if len(ids) > 1 {
				zombie := w.live[pick]
				delete(w.live, pick)
				w.settle()
				zombie.owned = w.claimsThatClash(zombie)
				w.live[pick] = zombie
			}
		}
		w.settle()
	}
}

// claimsThatClash returns the zombie's outdated claims. It has noticed that it was expelled, so it consumes nothing, but
// the plan cannot know.
func (w *world) claimsThatClash(zombie *worker) map[topicPartition]bool {
	for at := range zombie.owned {
		for _, m := range w.live {
			if m.owned[at] {
				w.reached["zombie"]++
			}
		}
	}
	return zombie.owned
}
