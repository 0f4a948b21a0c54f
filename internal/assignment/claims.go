package assignment

import "slices"

// claim is one member's word that it holds a partition.
type claim struct {
	member     int
	generation int32
}

type topicPartition struct {
	topic     string
	partition int32
}

// claims are all claims on each partition, in the order of the members, each member at most once.
type claims map[topicPartition][]claim

func claimsOf(members []Member) claims {
	c := make(claims)
	for i, m := range members {
		for _, owned := range m.Owned {
			for _, p := range owned.Partitions {
				at := topicPartition{owned.Topic, p}
				if !slices.ContainsFunc(c[at], func(c claim) bool { return c.member == i }) {
					c[at] = append(c[at], claim{i, m.Generation})
				}
			}
		}
	}
	return c
}

// valid reports whether the member claims the partition and nobody does so in a later generation. A member that missed
// rebalances claims what has been given away since (KIP-792); its word does not count as ownership.
func (c claims) valid(at topicPartition, member int) bool {
	newest, own := int32(0), int32(0)
	found := false
	for i, claim := range c[at] {
		if i == 0 || claim.generation > newest {
			newest = claim.generation
		}
		if claim.member == member {
			own, found = claim.generation, true
		}
	}
	return found && own == newest
}

// owner returns the member that keeps the task if it can: the one with a valid claim on most of its partitions, the
// first among equals, or nobody.
func (c claims) owner(g group, partition int32) int {
	best, most := nobody, 0
	for _, m := range g.members {
		n := 0
		for _, topic := range g.Topics {
			if c.valid(topicPartition{topic, partition}, m) {
				n++
			}
		}
		if n > most {
			best, most = m, n
		}
	}
	return best
}

// others returns the members that must let go of the task before the given one may have it, rising. Any other claimant
// counts, an outdated one too, since it may still be consuming; unless the given member holds the partition itself by a
// valid claim: it goes on, and the others revoke.
func (c claims) others(g group, partition int32, to int) []int {
	var from []int
	for _, topic := range g.Topics {
		at := topicPartition{topic, partition}
		if c.valid(at, to) {
			continue
		}
		for _, claim := range c[at] {
			if claim.member != to && !slices.Contains(from, claim.member) {
				from = append(from, claim.member)
			}
		}
	}
	slices.Sort(from)
	return from
}
