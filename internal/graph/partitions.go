package graph

// Partitions returns the number of tasks of each sub-topology, by index; 0 where it cannot be known. counts holds the
// partitions of existing topics, and may be nil. A repartition topic that is not there yet has the number that was asked for,
// or that of the sub-topology that writes to it.
//
// Inputs of one sub-topology that differ are not noticed here: they are refused where the topics are checked.
func (p *Plan) Partitions(counts map[string]int32) []int32 {
	known := make([]int32, len(p.Subs))
	for range p.Subs { // a chain of repartition topics resolves one link per round at worst
		for _, s := range p.Subs {
			if known[s.Index] == 0 {
				known[s.Index] = p.partitionsOf(s, counts, known)
			}
		}
	}
	return known
}

func (p *Plan) partitionsOf(s *SubTopology, counts map[string]int32, known []int32) int32 {
	for _, in := range s.Inputs {
		if n := counts[in.Topic]; n > 0 && !in.Replay {
			return n
		}
	}
	for _, t := range p.Internal {
		if t.Kind == TopicRepartition && t.Sub == s.Index && t.Partitions > 0 {
			return t.Partitions
		}
	}
	for _, in := range s.Inputs {
		for _, n := range p.Nodes {
			if in.Internal && !in.Replay && n.Kind == KindSink && n.Topic == in.Topic && known[n.Sub] > 0 {
				return known[n.Sub]
			}
		}
	}
	return 0
}
