package graph

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/processor"
)

// DescriptionVersion is the version of the JSON form of a Description. It only goes up, when a field changes its meaning.
const DescriptionVersion = 1

// Description is a topology as plain data, for people and tools. Text, JSON, Mermaid and DOT render it; each is a pure
// function of the plan and the partitions that were known.
type Description struct {
	Version int    `json:"version"`
	App     string `json:"app"`
	// Fingerprint is Fingerprint.HashText. It covers the numbers of partitions as far as they are known.
	Fingerprint    string             `json:"fingerprint"`
	SubTopologies  []SubDescription   `json:"subTopologies"`
	InternalTopics []TopicDescription `json:"internalTopics"`
	// DeadLetters is the topic of dead letters, empty when no policy can send one.
	DeadLetters string `json:"deadLetters,omitempty"`
}

// SubDescription is one sub-topology.
type SubDescription struct {
	Name string `json:"name"`
	// Partitions is the number of tasks; 0 when it is not known.
	Partitions int32              `json:"partitions,omitempty"`
	Inputs     []InputDescription `json:"inputs"`
	Nodes      []NodeDescription  `json:"nodes"`
	Stores     []StoreDescription `json:"stores,omitempty"`
}

// InputDescription is a topic that the sub-topology reads.
type InputDescription struct {
	Topic  string `json:"topic"`
	Source string `json:"source"`
	// Kind is "source" for a topic of the user, else "repartition" or "replay".
	Kind string `json:"kind"`
}

// NodeDescription is one node. Parents come before children.
type NodeDescription struct {
	Name     string   `json:"name"`
	Kind     string   `json:"kind"`
	Parents  []string `json:"parents,omitempty"`
	Topics   []string `json:"topics,omitempty"`  // that a source reads
	Topic    string   `json:"topic,omitempty"`   // that a sink writes
	Dynamic  bool     `json:"dynamic,omitempty"` // the sink chooses the topic by record
	KeyFmt   string   `json:"keyFormat,omitempty"`
	ValueFmt string   `json:"valueFormat,omitempty"`
	Stores   []string `json:"stores,omitempty"`
	Timers   []string `json:"timers,omitempty"` // stores whose timers it handles
	// Dedup is set on a source that deduplicates.
	Dedup *DedupDescription `json:"dedup,omitempty"`
	// Policies are the failure policies of the phases that the node can fail in.
	Policies []PolicyDescription `json:"policies,omitempty"`
}

// DedupDescription is the deduplication of a source.
type DedupDescription struct {
	// Fingerprint is what the markers depend on.
	Fingerprint string `json:"fingerprint"`
	ID          string `json:"id"`
	Scope       string `json:"scope"`
	Window      string `json:"window"`
	OnDuplicate string `json:"onDuplicate"`
	OnMissing   string `json:"onMissing"`
}

// PolicyDescription is a failure policy in words.
type PolicyDescription struct {
	Phase  string `json:"phase"`
	Policy string `json:"policy"`
}

// StoreDescription is one store.
type StoreDescription struct {
	Name      string `json:"name"`
	Kind      string `json:"kind"`
	KeyFmt    string `json:"keyFormat"`
	ValueFmt  string `json:"valueFormat"`
	Changelog string `json:"changelog"`
	// Internal marks stores that the engine made for itself.
	Internal bool `json:"internal,omitempty"`
}

// TopicDescription is a topic that the application creates.
type TopicDescription struct {
	Name string `json:"name"`
	Kind string `json:"kind"`
	// SubTopology decides its number of partitions; empty for the dead letters.
	SubTopology string `json:"subTopology,omitempty"`
	Partitions  int32  `json:"partitions,omitempty"`
}

// Describe describes a plan. counts are the partitions of existing topics; nil when no broker was asked.
func Describe(p *Plan, counts map[string]int32) Description {
	d := Description{Version: DescriptionVersion, App: p.App, Fingerprint: FingerprintOf(p, counts).HashText(), DeadLetters: p.DeadLetters}
	partitions := p.Partitions(counts)
	for _, s := range p.Subs {
		d.SubTopologies = append(d.SubTopologies, describeSub(p, s, partitions[s.Index]))
	}
	for _, t := range p.Internal {
		topic := TopicDescription{Name: t.Name, Kind: t.Kind.String(), Partitions: t.Partitions}
		if t.Sub >= 0 {
			topic.SubTopology, topic.Partitions = p.Subs[t.Sub].Name, partitions[t.Sub]
		}
		if n := counts[t.Name]; n > 0 {
			topic.Partitions = n
		}
		d.InternalTopics = append(d.InternalTopics, topic)
	}
	return d
}

func describeSub(p *Plan, s *SubTopology, partitions int32) SubDescription {
	sub := SubDescription{Name: s.Name, Partitions: partitions}
	for _, in := range s.Inputs {
		kind := "source"
		switch {
		case in.Replay:
			kind = TopicReplay.String()
		case in.Internal:
			kind = TopicRepartition.String()
		}
		sub.Inputs = append(sub.Inputs, InputDescription{Topic: in.Topic, Source: p.Nodes[in.Source].Name, Kind: kind})
	}
	for _, i := range s.Nodes {
		sub.Nodes = append(sub.Nodes, describeNode(p, p.Nodes[i]))
	}
	for _, st := range s.Stores {
		sub.Stores = append(sub.Stores, StoreDescription{Name: st.Name, Kind: KindName(st.Kind), KeyFmt: st.KeyFormat, ValueFmt: st.ValueFormat,
			Changelog: st.Changelog, Internal: st.Internal})
	}
	return sub
}

func describeNode(p *Plan, n *Node) NodeDescription {
	d := NodeDescription{Name: n.Name, Kind: n.Kind.String(), Topics: n.Topics, Topic: n.Topic, Dynamic: n.Kind == KindSink && n.Topic == "",
		KeyFmt: n.KeyFormat, ValueFmt: n.ValueFormat}
	for _, i := range n.Parents {
		d.Parents = append(d.Parents, p.Nodes[i].Name)
	}
	for _, s := range n.Stores {
		d.Stores = append(d.Stores, s.Name)
	}
	for _, s := range n.TimerStores {
		d.Timers = append(d.Timers, s.Name)
	}
	if c := n.Dedup; c != nil {
		d.Dedup = &DedupDescription{Fingerprint: c.Fingerprint(n.Name), ID: c.ID.Name, Scope: c.Scope, Window: c.Window.String(),
			OnDuplicate: c.OnDuplicate.String(), OnMissing: c.OnMissing.String()}
	}
	add := func(phase string, policy processor.Policy) {
		d.Policies = append(d.Policies, PolicyDescription{Phase: phase, Policy: PolicyText(policy)})
	}
	switch n.Kind {
	case KindSource:
		add("decode", n.Policies.Decode)
	case KindProcessor:
		add("process", n.Policies.Process)
		if len(n.TimerStores) > 0 {
			add("timer", n.Policies.Timer)
		}
	case KindSink:
		add("encode", n.Policies.Encode)
		add("produce", n.Policies.Produce)
	}
	return d
}

// PolicyText renders a failure policy: "retry in place after 0s, 100ms, then dead letter".
func PolicyText(p processor.Policy) string {
	switch p.Action {
	case processor.ActionStop:
		return "stop"
	case processor.ActionSkip:
		return "skip"
	case processor.ActionDeadLetter:
		return "dead letter"
	case processor.ActionRetry:
		return fmt.Sprintf("retry in place after %s, then %s", delays(p.Delays), PolicyText(p.Next()))
	case processor.ActionPark:
		order := ""
		if p.KeepOrder {
			order = ", its key waits"
		}
		return fmt.Sprintf("park for %s%s, then %s", delays(p.Delays), order, PolicyText(p.Next()))
	default:
		return fmt.Sprintf("unknown action %d", p.Action)
	}
}

func delays(ds []time.Duration) string {
	words := make([]string, len(ds))
	for i, d := range ds {
		words[i] = d.String()
	}
	return strings.Join(words, ", ")
}

// JSON renders the description as indented JSON. Its fields are the contract for tools.
func (d Description) JSON() []byte {
	b, err := json.MarshalIndent(d, "", "  ")
	if err != nil { // strings, numbers and lists of them always encode
		panic(problem.Wrap(problem.InvariantBroken, "description", err))
	}
	return append(b, '\n')
}

// String is Text.
func (d Description) String() string { return d.Text() }
