// Package graph is the untyped plan of a topology: nodes, edges, sub-topologies, stores and topics. The typed functions of
// package topology make it; the task and the application walk it. Typed work happens in closures that the typed functions
// left in the nodes, so that nothing is boxed on the way of a record.
package graph

import (
	"time"

	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/internal/host"
	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/statestore"
)

// Kind of a node.
type Kind uint8

const (
	KindSource Kind = iota + 1
	KindProcessor
	KindMerge
	KindBranch
	KindSink
)

// String returns the word used in descriptions.
func (k Kind) String() string {
	return [...]string{"none", "source", "processor", "merge", "branch", "sink"}[k]
}

// Node is one node. Nodes are listed so that parents come before children.
type Node struct {
	host.Node
	Kind     Kind
	Parents  []int
	Children []int // in the order of declaration, which is the order of Forward
	Sub      int   // index of the sub-topology

	// Topics of a source. ReplayTopic is read by this source too; empty without deduplication.
	Topics      []string
	ReplayTopic string
	Dedup       *dedup.Config

	// Topic of a sink; empty for a dynamic one.
	Topic string
	// Repartition is the name given by topology.Repartition, on the sink and on the source of the internal topic.
	Repartition string

	KeyFormat, ValueFormat string
	Policies               processor.Policies
	// TimerStores are the stores whose timers this node handles.
	TimerStores []*statestore.Declaration

	// Instantiate builds the node for one task; its children are built already.
	Instantiate func(in *Instance) error
}

// Instance is the graph of one task.
type Instance struct {
	Host host.Host
	Task string
	// Ports holds the typed input port of each node that is built (processor.Port[K, V]).
	Ports map[int]any
	// Sources by node index.
	Sources map[int]host.SourcePort
	// Timers by node and store.
	Timers map[TimerKey]host.TimerPort
	Close  []func() error
}

// TimerKey finds a timer handler.
type TimerKey struct {
	Node  string
	Store uint32
}

// SubTopology is a connected part of the graph: its tasks are its partitions.
type SubTopology struct {
	Index int
	Name  string // of its first source
	Nodes []int  // parents before children
	// Inputs are all topics that its tasks read, source topics, repartition topics and replay topics, in the order of
	// declaration. They are co-partitioned, except that replay topics are made to fit.
	Inputs []Input
	Stores []*Store
}

// Input is one topic that a sub-topology reads.
type Input struct {
	Topic  string
	Source int // node index
	// Internal topics are created by the application.
	Internal bool
	Replay   bool
}

// Store is a declared store with its changelog.
type Store struct {
	*statestore.Declaration
	Changelog string
	// Source is the node of a marker store, else -1.
	Source int
}

// InternalTopic is a topic that the application creates and verifies.
type InternalTopic struct {
	Name string
	Kind TopicKind
	// Sub is the sub-topology whose number of partitions it has; -1 for the dead letters and the fillers.
	Sub int
	// Partitions, when not zero, is explicit (repartition topics).
	Partitions int32
	Retention  time.Duration
}

// TopicKind decides the settings of an internal topic.
type TopicKind uint8

const (
	TopicChangelog TopicKind = iota + 1
	TopicMarkerChangelog
	TopicRepartition
	TopicReplay
	TopicDeadLetters
	TopicFillers
)

// String returns the word used in descriptions.
func (k TopicKind) String() string {
	return [...]string{"none", "changelog", "marker changelog", "repartition", "replay", "dead letters", "fillers"}[k]
}

// Plan is a valid topology.
type Plan struct {
	App      string
	Nodes    []*Node
	Subs     []*SubTopology
	Internal []InternalTopic
	// DeadLetters is the topic of dead letters; empty when no policy can send one.
	DeadLetters string
	// Fillers is the topic of the one record of a transaction that would be empty; empty without stateless sub-topologies.
	Fillers string
	// OwnHeaders are the identity headers of the topology's sources. They name the input and never pass through to an
	// output.
	OwnHeaders []string
}

// Node finds a node by name, or returns nil.
func (p *Plan) Node(name string) *Node {
	for _, n := range p.Nodes {
		if n.Name == name {
			return n
		}
	}
	return nil
}

// Sources returns the topics that the user owns and that must exist.
func (p *Plan) Sources() []string {
	var topics []string
	for _, s := range p.Subs {
		for _, in := range s.Inputs {
			if !in.Internal {
				topics = append(topics, in.Topic)
			}
		}
	}
	return topics
}

// Sinks returns the fixed topics of the sinks that the user owns.
func (p *Plan) Sinks() []string {
	var topics []string
	seen := map[string]bool{}
	for _, n := range p.Nodes {
		if n.Kind == KindSink && n.Topic != "" && n.Repartition == "" && !seen[n.Topic] {
			seen[n.Topic] = true
			topics = append(topics, n.Topic)
		}
	}
	return topics
}

// Stateful reports that the sub-topology keeps anything on disk.
func (s *SubTopology) Stateful() bool { return len(s.Stores) > 0 }

// Store finds a store by name, or returns nil.
func (s *SubTopology) Store(name string) *Store {
	for _, st := range s.Stores {
		if st.Name == name {
			return st
		}
	}
	return nil
}

// ByKind returns the store of an internal kind, or nil. source is the node of a marker store, or -1.
func (s *SubTopology) ByKind(kind statestore.Kind, source int) *Store {
	for _, st := range s.Stores {
		if st.Kind == kind && st.Source == source {
			return st
		}
	}
	return nil
}

// Declarations returns the declarations of all stores.
func (s *SubTopology) Declarations() []*statestore.Declaration {
	out := make([]*statestore.Declaration, len(s.Stores))
	for i, st := range s.Stores {
		out[i] = st.Declaration
	}
	return out
}

// Instantiate builds the nodes of a sub-topology for one task.
func (p *Plan) Instantiate(sub *SubTopology, h host.Host, task string) (*Instance, error) {
	in := &Instance{Host: h, Task: task, Ports: map[int]any{}, Sources: map[int]host.SourcePort{}, Timers: map[TimerKey]host.TimerPort{}}
	for i := len(sub.Nodes) - 1; i >= 0; i-- {
		if err := p.Nodes[sub.Nodes[i]].Instantiate(in); err != nil {
			return nil, err
		}
	}
	return in, nil
}
