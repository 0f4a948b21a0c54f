package assignment

import (
	"cmp"
	"slices"

	"github.com/oncemill/oncemill/statestore"
)

// Ranks of a member for a task, best first. Beyond agesTold ages the difference no longer matters.
//
//	0  its own state, the newest in the group     1  the same through its process
//	2  its own state, second newest               3  the same through its process   ...
const (
	agesTold = 4
	rankNone = 2 * agesTold // no state at all
)

// ranks holds the rank of each member for each task: rank[task*members+member].
type ranks []uint8

// freshness compares what the members hold.
func freshness(members []Member, tasks []task) ranks {
	index := make(map[statestore.TaskID]int, len(tasks))
	for i, t := range tasks {
		index[t.id] = i
	}
	type holder struct {
		member int
		n      uint64
	}
	holders := make([][]holder, len(tasks))
	for m := range members {
		if members[m].UserData == nil {
			continue
		}
		for _, h := range members[m].UserData.Held {
			if i, known := index[h.Task]; known {
				holders[i] = append(holders[i], holder{m, h.N})
			}
		}
	}
	out := make(ranks, len(tasks)*len(members))
	for i := range out {
		out[i] = rankNone
	}
	for i := range tasks {
		slices.SortFunc(holders[i], func(a, b holder) int { return cmp.Or(cmp.Compare(b.n, a.n), cmp.Compare(a.member, b.member)) })
		row := out[i*len(members) : (i+1)*len(members)]
		age := 0
		for k, h := range holders[i] {
			if k > 0 && h.n != holders[i][k-1].n {
				age++
			}
			if age == agesTold {
				break
			}
			rank := uint8(2 * age)
			row[h.member] = min(row[h.member], rank)
			for m := range members {
				if sameProcess(&members[m], &members[h.member]) {
					row[m] = min(row[m], rank+1)
				}
			}
		}
	}
	return out
}

func sameProcess(a, b *Member) bool {
	return a.UserData != nil && b.UserData != nil && a.UserData.Process == b.UserData.Process && a.UserData.Process != Process{}
}
