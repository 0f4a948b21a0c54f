package graph

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/statestore"
)

// FingerprintVersion is the version of the durable form of a Fingerprint. It only goes up.
const FingerprintVersion = 1

// Fingerprint is what a start compares with the start before (rule R9): the graph, and what durable bytes depend on. It is
// stored with the state, in the form of Encode. Lists whose order means nothing are sorted, so that equal topologies have
// equal bytes.
type Fingerprint struct {
	Version int    `json:"version"`
	App     string `json:"app"`
	// Subs are in the order of their names: their order in the topology decides nothing durable.
	Subs []SubFingerprint `json:"subTopologies"`
}

// SubFingerprint is the part of one sub-topology.
type SubFingerprint struct {
	// Name is the prefix of everything that its tasks keep.
	Name string `json:"name"`
	// Partitions is the number of its tasks; 0 when no broker was asked.
	Partitions int32               `json:"partitions,omitempty"`
	Sources    []SourceFingerprint `json:"sources"`
	Stores     []StoreFingerprint  `json:"stores,omitempty"`
	// Timers are the timer handlers, "node/store": pending timers name both.
	Timers []string          `json:"timers,omitempty"`
	Nodes  []NodeFingerprint `json:"nodes"`
}

// SourceFingerprint is a source with its topics. Positions are kept by topic, parked records by the name of the source.
type SourceFingerprint struct {
	Name   string   `json:"name"`
	Topics []string `json:"topics"`
	// Dedup is dedup.Config.Fingerprint, empty without deduplication.
	Dedup string `json:"dedup,omitempty"`
	// Repartition is set on the source of an internal topic. Only then do its formats count: what lies in the topic was
	// written by this application.
	Repartition string `json:"repartition,omitempty"`
	KeyFormat   string `json:"key,omitempty"`
	ValueFormat string `json:"value,omitempty"`
}

// StoreFingerprint is a store, internal ones included.
type StoreFingerprint struct {
	Name        string `json:"name"`
	Kind        string `json:"kind"`
	KeyFormat   string `json:"key"`
	ValueFormat string `json:"value"`
	Internal    bool   `json:"internal,omitempty"`
}

// NodeFingerprint is a node of the graph. Nothing durable depends on it alone.
type NodeFingerprint struct {
	Name    string   `json:"name"`
	Kind    string   `json:"kind"`
	Parents []string `json:"parents,omitempty"`
	Stores  []string `json:"stores,omitempty"`
	// Output describes where a sink writes, with its formats.
	Output string `json:"output,omitempty"`
}

// FingerprintOf makes the fingerprint of a plan. counts are the partitions of the topics, as far as they are known.
func FingerprintOf(p *Plan, counts map[string]int32) *Fingerprint {
	f := &Fingerprint{Version: FingerprintVersion, App: p.App}
	partitions := p.Partitions(counts)
	for _, s := range p.Subs {
		sub := SubFingerprint{Name: s.Name, Partitions: partitions[s.Index]}
		for _, i := range s.Nodes {
			sub.addNode(p, p.Nodes[i])
		}
		for _, st := range s.Stores {
			sub.Stores = append(sub.Stores, StoreFingerprint{Name: st.Name, Kind: KindName(st.Kind),
				KeyFormat: st.KeyFormat, ValueFormat: st.ValueFormat, Internal: st.Internal})
		}
		sub.sort()
		f.Subs = append(f.Subs, sub)
	}
	slices.SortFunc(f.Subs, func(a, b SubFingerprint) int { return strings.Compare(a.Name, b.Name) })
	return f
}

func (s *SubFingerprint) addNode(p *Plan, n *Node) {
	node := NodeFingerprint{Name: n.Name, Kind: n.Kind.String()}
	for _, parent := range n.Parents {
		node.Parents = append(node.Parents, p.Nodes[parent].Name)
	}
	for _, d := range n.Stores {
		node.Stores = append(node.Stores, d.Name)
	}
	slices.Sort(node.Stores)
	for _, d := range n.TimerStores {
		s.Timers = append(s.Timers, n.Name+"/"+d.Name)
	}
	switch n.Kind {
	case KindSource:
		source := SourceFingerprint{Name: n.Name, Topics: slices.Sorted(slices.Values(n.Topics)), Repartition: n.Repartition}
		if n.Dedup != nil {
			source.Dedup = n.Dedup.Fingerprint(n.Name)
		}
		if n.Repartition != "" {
			source.KeyFormat, source.ValueFormat = n.KeyFormat, n.ValueFormat
		}
		s.Sources = append(s.Sources, source)
	case KindSink:
		topic := n.Topic
		if topic == "" {
			topic = "(dynamic)"
		}
		node.Output = topic + " " + n.KeyFormat + "/" + n.ValueFormat
	}
	s.Nodes = append(s.Nodes, node)
}

func (s *SubFingerprint) sort() {
	slices.SortFunc(s.Nodes, func(a, b NodeFingerprint) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(s.Sources, func(a, b SourceFingerprint) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(s.Stores, func(a, b StoreFingerprint) int { return strings.Compare(a.Name, b.Name) })
	slices.Sort(s.Timers)
}

// KindName is the word for a kind of store in fingerprints and descriptions. The words are durable.
func KindName(k statestore.Kind) string {
	switch k {
	case statestore.KindKeyValue:
		return "key-value"
	case statestore.KindMarkers:
		return "markers"
	case statestore.KindTimers:
		return "timers"
	case statestore.KindParked:
		return "parked"
	case statestore.KindTask:
		return "task"
	default:
		return "unknown"
	}
}

// Encode returns the durable form: JSON, one field per line, so that a person can read it in the state directory.
func (f *Fingerprint) Encode() []byte {
	b, err := json.MarshalIndent(f, "", "  ")
	if err != nil { // strings, numbers and lists of them always encode
		panic(problem.Wrap(problem.InvariantBroken, "fingerprint", err))
	}
	return append(b, '\n')
}

// DecodeFingerprint reads the durable form. One of a newer version is refused with problem.DirectoryNewer.
func DecodeFingerprint(b []byte) (*Fingerprint, error) {
	if !json.Valid(b) {
		return nil, problem.New(problem.BadDurableBytes, "fingerprint", "it is not JSON")
	}
	f := &Fingerprint{}
	if err := f.UnmarshalJSON(b); err != nil {
		return nil, err
	}
	return f, nil
}

// UnmarshalJSON checks the version first, also where a fingerprint is a part of a larger file: a newer one is refused with
// problem.DirectoryNewer, before a field that is not known here can be overlooked.
func (f *Fingerprint) UnmarshalJSON(b []byte) error {
	type plain Fingerprint // without this method
	var version struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(b, &version); err != nil {
		return problem.Wrap(problem.BadDurableBytes, "fingerprint", err)
	}
	switch {
	case version.Version > FingerprintVersion:
		return problem.New(problem.DirectoryNewer, "fingerprint", "it has version %d, this program reads up to %d", version.Version, FingerprintVersion)
	case version.Version < 1:
		return problem.New(problem.BadDurableBytes, "fingerprint", "it has no version")
	}
	if err := json.Unmarshal(b, (*plain)(f)); err != nil {
		return problem.Wrap(problem.BadDurableBytes, "fingerprint", err)
	}
	return nil
}

// Hash is 8 bytes of SHA-256 over the whole fingerprint: two instances with one hash run the same topology over the same
// partitions. Another hash says that something differs, Diff says whether it matters.
func (f *Fingerprint) Hash() [8]byte { return hash8(f.Encode()) }

// HashText is Hash in hexadecimal, as it appears in logs, metrics and descriptions.
func (f *Fingerprint) HashText() string {
	h := f.Hash()
	return hex.EncodeToString(h[:])
}

// Sub finds a sub-topology by name, or returns nil.
func (f *Fingerprint) Sub(name string) *SubFingerprint {
	for i := range f.Subs {
		if f.Subs[i].Name == name {
			return &f.Subs[i]
		}
	}
	return nil
}

// StateHash covers what the durable bytes of the sub-topology's tasks depend on, and nothing else: a node without state may
// come and go without changing it. It is small enough for the metadata of an offset.
func (s *SubFingerprint) StateHash() [8]byte {
	durable := *s
	durable.Nodes = nil
	b, err := json.Marshal(durable)
	if err != nil {
		panic(problem.Wrap(problem.InvariantBroken, "fingerprint", err))
	}
	return hash8(b)
}

func hash8(b []byte) (h [8]byte) {
	sum := sha256.Sum256(b)
	copy(h[:], sum[:])
	return h
}

// store finds a store by name, or returns nil.
func (s *SubFingerprint) store(name string) *StoreFingerprint {
	for i := range s.Stores {
		if s.Stores[i].Name == name {
			return &s.Stores[i]
		}
	}
	return nil
}

// source finds a source by name, or returns nil.
func (s *SubFingerprint) source(name string) *SourceFingerprint {
	for i := range s.Sources {
		if s.Sources[i].Name == name {
			return &s.Sources[i]
		}
	}
	return nil
}

// reader finds the source that reads a topic, or returns nil.
func (s *SubFingerprint) reader(topic string) *SourceFingerprint {
	for i := range s.Sources {
		if slices.Contains(s.Sources[i].Topics, topic) {
			return &s.Sources[i]
		}
	}
	return nil
}

// stateful reports that the tasks keep anything.
func (s *SubFingerprint) stateful() bool { return len(s.Stores) > 0 }

// repartitions reports that the sub-topology reads an internal topic.
func (s *SubFingerprint) repartitions() bool {
	return slices.ContainsFunc(s.Sources, func(src SourceFingerprint) bool { return src.Repartition != "" })
}

// keepsParked reports that the tasks may hold parked records.
func (s *SubFingerprint) keepsParked() bool {
	return slices.ContainsFunc(s.Stores, func(st StoreFingerprint) bool { return st.Kind == KindName(statestore.KindParked) })
}
