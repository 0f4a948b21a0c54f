package topology

import "github.com/oncemill/oncemill/internal/graph"

// Description is a topology as plain data, with renderers: Text (which is also String), JSON, Mermaid and DOT. The fields of
// the JSON are the contract for tools and carry a version.
type Description = graph.Description

// Describe builds the topology and describes it. No broker is needed: numbers of partitions that only Kafka knows are left
// out. The error is that of Build.
func (t *Topology) Describe() (Description, error) {
	p, err := t.Build()
	if err != nil {
		return Description{}, err
	}
	return graph.Describe(p, nil), nil
}
