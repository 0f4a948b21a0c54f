package topology

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/oncemill/oncemill/internal/graph"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/statestore"
)

// legalName is what Kafka allows in a topic name, with room for the rest of an internal topic's name.
var legalName = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,200}$`)

// maxTopicBytes is Kafka's limit for the name of a topic.
const maxTopicBytes = 249

var legalTopicBytes = regexp.MustCompile(`^[a-zA-Z0-9._-]+$`)

func legalTopic(name string) bool {
	return legalTopicBytes.MatchString(name) && len(name) <= maxTopicBytes && name != "." && name != ".."
}

// Build checks the topology and returns its plan. The error is one *problem.Error that lists every mistake. Build may be
// called again; the plan is made anew.
func (t *Topology) Build() (*graph.Plan, error) {
	b := &builder{t: t, errs: slices.Clone(t.errs)}
	mark := len(t.errs)
	for _, check := range t.checks {
		check()
	}
	b.errs = append(b.errs, t.errs[mark:]...)
	t.errs = t.errs[:mark]
	b.checkNames()
	b.checkNodes()
	p := &graph.Plan{App: t.app, Nodes: t.nodes}
	b.split(p)
	b.stores(p)
	b.internalTopics(p)
	b.checkInternalTopics(p)
	b.checkCycles(p)
	if len(b.errs) > 0 {
		return nil, problem.New(problem.TopologyInvalid, fmt.Sprintf("topology %q", t.app), "%d mistakes", len(b.errs)).Because(errors.Join(b.errs...))
	}
	return p, nil
}

type builder struct {
	t    *Topology
	errs []error
}

func (b *builder) errorf(format string, args ...any) {
	b.errs = append(b.errs, fmt.Errorf(format, args...))
}

func (b *builder) checkNames() {
	if !legalName.MatchString(b.t.app) {
		b.errorf("application id %q: use 1 to 200 of a-z A-Z 0-9 . _ -", b.t.app)
	}
	if len(b.t.nodes) == 0 {
		b.errorf("no nodes: begin with topology.Source(t, ...)")
	}
	seen := map[string]bool{}
	for _, n := range b.t.nodes {
		switch {
		case n.Name == "":
		case !legalName.MatchString(n.Name):
			b.errorf("node name %q: use 1 to 200 of a-z A-Z 0-9 . _ -", n.Name)
		case seen[n.Name]:
			b.errorf("two nodes are named %q", n.Name)
		}
		seen[n.Name] = true
	}
}

func (b *builder) checkNodes() {
	readBy := map[string]string{}
	for _, n := range b.t.nodes {
		for _, topic := range n.Topics {
			if !legalTopic(topic) && n.Repartition == "" { // internal topics are checked as such
				b.errorf("source %q: topic name %q is not legal in Kafka", n.Name, topic)
			}
			if other, taken := readBy[topic]; taken {
				b.errorf("sources %q and %q read topic %q: use one source with several children", other, n.Name, topic)
			}
			readBy[topic] = n.Name
		}
		if n.Topic != "" && n.Repartition == "" && !legalTopic(n.Topic) {
			b.errorf("sink %q: topic name %q is not legal in Kafka", n.Name, n.Topic)
		}
		if n.Dedup != nil {
			if err := n.Dedup.Validate(); err != nil {
				b.errorf("source %q: %w", n.Name, err)
			}
		}
		for _, p := range []processor.Policy{n.Policies.Decode, n.Policies.Process, n.Policies.Encode, n.Policies.Produce, n.Policies.Timer} {
			if err := p.Validate(); err != nil {
				b.errorf("node %q: %w", n.Name, err)
				break
			}
		}
		if n.Policies.Timer.Parks() {
			b.errorf("node %q: a timer cannot be parked; set it again, or use RetryInPlace, Skip or DeadLetter", n.Name)
		}
	}
}

// split finds the connected parts: nodes joined by an edge or by a store share a sub-topology.
func (b *builder) split(p *graph.Plan) {
	root := make([]int, len(p.Nodes))
	for i := range root {
		root[i] = i
	}
	var find func(int) int
	find = func(i int) int {
		if root[i] != i {
			root[i] = find(root[i])
		}
		return root[i]
	}
	union := func(i, j int) { // the smaller index wins, so that the order of declaration names the parts
		i, j = find(i), find(j)
		root[max(i, j)] = min(i, j)
	}
	byStore := map[*statestore.Declaration]int{}
	for _, n := range p.Nodes {
		for _, parent := range n.Parents {
			union(parent, n.Index)
		}
		for _, d := range n.Stores {
			if first, ok := byStore[d]; ok {
				union(first, n.Index)
			} else {
				byStore[d] = n.Index
			}
		}
	}
	bySub := map[int]*graph.SubTopology{}
	for _, n := range p.Nodes {
		s := bySub[find(n.Index)]
		if s == nil {
			s = &graph.SubTopology{Index: len(p.Subs)}
			bySub[find(n.Index)] = s
			p.Subs = append(p.Subs, s)
		}
		n.Sub = s.Index
		s.Nodes = append(s.Nodes, n.Index)
		if n.Kind == graph.KindSource {
			b.addInputs(p, s, n)
		}
	}
	ids := map[uint32]string{}
	for _, s := range p.Subs {
		if other, taken := ids[statestore.NameID(s.Name)]; taken && other != s.Name { // an equal name is reported as such
			b.errorf("sub-topologies %q and %q have the same 32-bit id: rename one source", other, s.Name)
		}
		ids[statestore.NameID(s.Name)] = s.Name
	}
}

func (b *builder) addInputs(p *graph.Plan, s *graph.SubTopology, n *graph.Node) {
	if s.Name == "" {
		s.Name = n.Name
	}
	for _, topic := range n.Topics {
		s.Inputs = append(s.Inputs, graph.Input{Topic: topic, Source: n.Index, Internal: n.Repartition != ""})
	}
	if n.Dedup == nil {
		return
	}
	n.ReplayTopic = graph.ReplayTopic(b.t.app, n.Name)
	s.Inputs = append(s.Inputs, graph.Input{Topic: n.ReplayTopic, Source: n.Index, Internal: true, Replay: true})
	if h, ok := strings.CutPrefix(n.Dedup.ID.Name, "header:"); ok && !slices.Contains(p.OwnHeaders, h) {
		p.OwnHeaders = append(p.OwnHeaders, h)
	}
}

// stores collects the declared stores and adds the internal ones that the sub-topology needs.
func (b *builder) stores(p *graph.Plan) {
	names := map[string]*statestore.Declaration{}
	ids := map[uint32]string{}
	add := func(s *graph.SubTopology, d *statestore.Declaration, source int) {
		if other, taken := names[d.Name]; taken && other != d {
			b.errorf("two stores are named %q", d.Name)
			return
		} else if taken {
			return
		}
		if !legalName.MatchString(d.Name) {
			b.errorf("store name %q: use 1 to 200 of a-z A-Z 0-9 . _ -", d.Name)
		}
		if other, taken := ids[d.ID()]; taken {
			b.errorf("stores %q and %q have the same 32-bit id: rename one", other, d.Name)
		}
		names[d.Name], ids[d.ID()] = d, d.Name
		s.Stores = append(s.Stores, &graph.Store{Declaration: d, Changelog: graph.ChangelogTopic(p.App, d.Name), Source: source})
	}
	internal := func(s *graph.SubTopology, name string, kind statestore.Kind, source int) {
		add(s, &statestore.Declaration{Name: name, Kind: kind, Internal: true, KeyFormat: "bytes", ValueFormat: "bytes"}, source)
	}
	for _, s := range p.Subs {
		if len(s.Inputs) == 0 {
			b.errorf("node %q and what hangs on it have no source", p.Nodes[s.Nodes[0]].Name)
			continue
		}
		timers, parks := false, false
		for _, i := range s.Nodes {
			n := p.Nodes[i]
			for _, d := range n.Stores {
				add(s, d, -1)
			}
			if n.Dedup != nil {
				internal(s, graph.MarkerStore(n.Name), statestore.KindMarkers, n.Index)
			}
			timers = timers || len(n.TimerStores) > 0
			parks = parks || n.Policies.Process.Parks() || n.Policies.Decode.Parks() || n.Policies.Encode.Parks() || n.Policies.Produce.Parks()
		}
		if timers || parks {
			internal(s, graph.TimerStore(s.Name), statestore.KindTimers, -1)
		}
		if parks {
			internal(s, graph.ParkedStore(s.Name), statestore.KindParked, -1)
		}
		if len(s.Stores) > 0 {
			internal(s, graph.TaskStore(s.Name), statestore.KindTask, -1)
		}
	}
}

func (b *builder) internalTopics(p *graph.Plan) {
	for _, s := range p.Subs {
		for _, st := range s.Stores {
			kind := graph.TopicChangelog
			if st.Kind == statestore.KindMarkers {
				kind = graph.TopicMarkerChangelog
			}
			p.Internal = append(p.Internal, graph.InternalTopic{Name: st.Changelog, Kind: kind, Sub: s.Index})
		}
		for _, in := range s.Inputs {
			switch {
			case in.Replay:
				p.Internal = append(p.Internal, graph.InternalTopic{Name: in.Topic, Kind: graph.TopicReplay, Sub: s.Index})
			case in.Internal:
				name := p.Nodes[in.Source].Repartition
				p.Internal = append(p.Internal, graph.InternalTopic{Name: in.Topic, Kind: graph.TopicRepartition, Sub: s.Index, Partitions: b.t.parts[name]})
			}
		}
	}
	if slices.ContainsFunc(p.Subs, func(s *graph.SubTopology) bool { return !s.Stateful() }) {
		p.Fillers = graph.FillerTopic(p.App)
		p.Internal = append(p.Internal, graph.InternalTopic{Name: p.Fillers, Kind: graph.TopicFillers, Sub: -1, Partitions: 1})
	}
	for _, n := range p.Nodes {
		dead := n.Dedup != nil
		for _, policy := range []processor.Policy{n.Policies.Decode, n.Policies.Process, n.Policies.Encode, n.Policies.Produce, n.Policies.Timer} {
			dead = dead || policy.DeadLetters()
		}
		if dead && p.DeadLetters == "" {
			p.DeadLetters = graph.DeadLetterTopic(p.App)
			p.Internal = append(p.Internal, graph.InternalTopic{Name: p.DeadLetters, Kind: graph.TopicDeadLetters, Sub: -1})
		}
	}
}

// checkInternalTopics keeps the topics of the application to itself, and their names legal and distinct. What a task commits
// names its changelogs by 32-bit ids.
func (b *builder) checkInternalTopics(p *graph.Plan) {
	internal := map[string]graph.TopicKind{}
	type task struct {
		sub int
		id  uint32
	}
	changelogs := map[task]string{}
	for _, t := range p.Internal {
		internal[t.Name] = t.Kind
		if !legalTopic(t.Name) && legalName.MatchString(p.App) {
			b.errorf("internal topic %q has %d characters, Kafka allows %d: shorten the name of the application, store or node", t.Name, len(t.Name), maxTopicBytes)
		}
		if t.Kind != graph.TopicChangelog && t.Kind != graph.TopicMarkerChangelog {
			continue
		}
		id := task{t.Sub, statestore.NameID(t.Name)}
		if other, taken := changelogs[id]; taken && other != t.Name {
			b.errorf("changelogs %q and %q have the same 32-bit id: rename one store", other, t.Name)
		}
		changelogs[id] = t.Name
	}
	for _, n := range p.Nodes {
		if n.Repartition != "" {
			continue
		}
		for _, topic := range n.Topics {
			if kind, ok := internal[topic]; ok {
				b.errorf("source %q reads %q, the %s topic of this application", n.Name, topic, kind)
			}
		}
		if kind, ok := internal[n.Topic]; ok {
			b.errorf("sink %q writes %q, the %s topic of this application", n.Name, n.Topic, kind)
		}
	}
}

// checkCycles refuses a path that comes back to a sub-topology through topics: such a record would never end.
func (b *builder) checkCycles(p *graph.Plan) {
	reader := map[string]int{}
	for _, s := range p.Subs {
		for _, in := range s.Inputs {
			reader[in.Topic] = s.Index
		}
	}
	next := make([][]int, len(p.Subs))
	for _, n := range p.Nodes {
		if s, ok := reader[n.Topic]; ok && n.Kind == graph.KindSink {
			next[n.Sub] = append(next[n.Sub], s)
		}
	}
	state := make([]int, len(p.Subs)) // 0 new, 1 on the path, 2 done
	var path []string
	var visit func(i int) bool
	visit = func(i int) bool {
		path = append(path, p.Subs[i].Name)
		defer func() { path = path[:len(path)-1] }()
		if state[i] == 1 {
			b.errorf("a cycle through topics: %v; a record would go round for ever", slices.Clone(path))
			return false
		}
		if state[i] == 2 {
			return true
		}
		state[i] = 1
		for _, j := range next[i] {
			if !visit(j) {
				return false
			}
		}
		state[i] = 2
		return true
	}
	for i := range p.Subs {
		if state[i] == 0 && !visit(i) {
			return
		}
	}
}
