// Package topology builds the graph of a stream application: sources, processors, sinks, repartition topics. Types are
// checked by the compiler from source to sink; names, stores and topics by Build, which reports every mistake at once.
package topology

import (
	"fmt"
	"runtime"
	"slices"

	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/internal/graph"
	"github.com/oncemill/oncemill/internal/host"
	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/serde"
	"github.com/oncemill/oncemill/statestore"
)

// Topology is a graph under construction. It is not safe for use by several goroutines.
type Topology struct {
	app      string
	nodes    []*graph.Node
	defaults processor.Policies
	errs     []error
	checks   []func() // dry runs, executed by Build
	parts    map[string]int32
}

// New starts a topology. The name is the application id: the consumer group, and the prefix of internal topics.
func New(app string) *Topology { return &Topology{app: app, parts: map[string]int32{}} }

// Name is the application id.
func (t *Topology) Name() string { return t.app }

// Defaults sets the failure policies of nodes that do not set their own. Without it, every failure stops the application:
// nothing is lost, and nothing is skipped silently.
func (t *Topology) Defaults(p processor.Policies) { t.defaults = p }

// Stream is what a node forwards: records with keys of type K and values of type V. It is a handle; it holds no data.
type Stream[K, V any] struct {
	t    *Topology
	node int
}

// Name is the name of the node that forwards the stream.
func (s Stream[K, V]) Name() string { return s.t.nodes[s.node].Name }

func (t *Topology) errorf(format string, args ...any) {
	t.errs = append(t.errs, fmt.Errorf(format, args...))
}

// caller is the place in user code of the mistake, "file:line".
func caller() string {
	for skip := 2; ; skip++ {
		pc, file, line, ok := runtime.Caller(skip)
		if !ok {
			return "unknown place"
		}
		if fn := runtime.FuncForPC(pc); fn == nil || !inPackage(fn.Name()) {
			return fmt.Sprintf("%s:%d", file[lastSlash(file)+1:], line)
		}
	}
}

func inPackage(fn string) bool {
	const self = "github.com/oncemill/oncemill/topology."
	return len(fn) > len(self) && fn[:len(self)] == self
}

func lastSlash(s string) int {
	for i := len(s) - 1; i >= 0; i-- {
		if s[i] == '/' {
			return i
		}
	}
	return -1
}

// add appends a node and connects it to its parents.
func (t *Topology) add(kind graph.Kind, what, name string, parents ...int) *graph.Node {
	if name == "" {
		t.errorf("%s: a %s has no name; names are part of what is stored: write topology.%s(t, \"some-name\", ...)", caller(), kind, what)
	}
	n := &graph.Node{Node: host.Node{Index: len(t.nodes), Name: name}, Kind: kind, Parents: parents}
	for _, p := range parents {
		t.nodes[p].Children = append(t.nodes[p].Children, n.Index)
	}
	t.nodes = append(t.nodes, n)
	return n
}

// parent returns the node of a stream as a list of parents. A stream of another topology is a mistake, and no parent.
func parent[K, V any](t *Topology, child string, in Stream[K, V]) []int {
	if in.t != t {
		t.errorf("%s: the input of node %q is not a stream of this topology", caller(), child)
		return nil
	}
	return []int{in.node}
}

// SourceOption is an option of Source.
type SourceOption func(*graph.Node)

// Deduplicate admits each message once: by position, and by the identity that the configuration names, within its window.
// The scope defaults to the name of the source.
func Deduplicate(cfg dedup.Config) SourceOption {
	return func(n *graph.Node) { n.Dedup = &cfg }
}

// AlsoTopics lets a source read more topics, with the same number of partitions.
func AlsoTopics(topics ...string) SourceOption {
	return func(n *graph.Node) { n.Topics = append(n.Topics, topics...) }
}

// OnDecodeFailure sets the policy for records that the source cannot decode or may not admit.
func OnDecodeFailure(p processor.Policy) SourceOption {
	return func(n *graph.Node) { n.Policies.Decode = p }
}

// Source reads a topic. The topic must exist when the application starts. Positions begin at the start of the topic unless
// the application's StartFrom says otherwise.
func Source[K, V any](t *Topology, name, topic string, keys serde.Serde[K], values serde.Serde[V], opts ...SourceOption) Stream[K, V] {
	n := t.add(graph.KindSource, "Source", name)
	n.Policies = t.defaults
	n.Topics = []string{topic}
	for _, o := range opts {
		o(n)
	}
	if n.Dedup != nil && n.Dedup.Scope == "" {
		n.Dedup.Scope = name
	}
	keys = bind(t, n, keys, serde.Use{Topic: topic, Key: true})
	values = bind(t, n, values, serde.Use{Topic: topic})
	n.Instantiate = instantiateSource(n, keys, values)
	return Stream[K, V]{t: t, node: n.Index}
}

func bind[T any](t *Topology, n *graph.Node, s serde.Serde[T], use serde.Use) serde.Serde[T] {
	if s == nil {
		t.errorf("%s: node %q has no serde for its %s", caller(), n.Name, keyOrValue(use.Key))
		return nil
	}
	if b, ok := s.(serde.Binder[T]); ok {
		bound, err := b.Bind(use)
		if err != nil {
			t.errorf("%s: node %q: %w", caller(), n.Name, err)
			return s
		}
		s = bound
	}
	if use.Key {
		n.KeyFormat = s.Name()
	} else {
		n.ValueFormat = s.Name()
	}
	return s
}

func keyOrValue(key bool) string {
	if key {
		return "key"
	}
	return "value"
}

// ProcessOption is an option of Process and ProcessWith.
type ProcessOption func(*processOptions)

type processOptions struct {
	node   *graph.Node
	timers []timerOption
	errs   []error
}

type timerOption struct {
	store *statestore.Declaration
	bind  func(runner any) (host.TimerPort, error)
}

// Uses declares the stores that the processor reads and writes. Nodes that use one store are in one sub-topology.
func Uses(stores ...interface {
	Declaration() *statestore.Declaration
}) ProcessOption {
	return func(o *processOptions) {
		for _, s := range stores {
			d := s.Declaration()
			if slices.Contains(o.node.Stores, d) {
				continue
			}
			o.node.Stores = append(o.node.Stores, d)
			if bound, ok := s.(interface{ Err() error }); ok && bound.Err() != nil {
				o.errs = append(o.errs, bound.Err())
			}
		}
	}
}

// OnFailure sets the policy for errors and panics of the processor.
func OnFailure(p processor.Policy) ProcessOption {
	return func(o *processOptions) { o.node.Policies.Process = p }
}

// OnTimerFailure sets the policy for errors and panics of the processor's timer handlers.
func OnTimerFailure(p processor.Policy) ProcessOption {
	return func(o *processOptions) { o.node.Policies.Timer = p }
}

// firer is the part of a Runner that does not depend on the types of its input.
type firer[KO, VO any] interface {
	Fire(t statestore.Timer, call func(ctx *processor.Context[KO, VO]) error) error
}

// OnTimer handles the timers that the node sets on keys of a store. It implies Uses(store).
func OnTimer[K, V, KO, VO any](store *statestore.KeyValueStore[K, V], fn processor.TimerFunc[K, KO, VO]) ProcessOption {
	return func(o *processOptions) {
		Uses(store)(o)
		d := store.Declaration()
		if slices.Contains(o.node.TimerStores, d) {
			o.errs = append(o.errs, fmt.Errorf("node %q has two handlers for the timers of store %q", o.node.Name, d.Name))
			return
		}
		o.node.TimerStores = append(o.node.TimerStores, d)
		name := o.node.Name
		o.timers = append(o.timers, timerOption{store: d, bind: func(runner any) (host.TimerPort, error) {
			r, ok := runner.(firer[KO, VO])
			if !ok {
				return nil, fmt.Errorf("node %q: the handler of topology.OnTimer(%s) forwards other types than the node", name, d.Name)
			}
			return func(key []byte, timer statestore.Timer) error {
				return r.Fire(timer, func(ctx *processor.Context[KO, VO]) error {
					k, err := store.DecodeKey(key)
					if err != nil {
						return err
					}
					return fn(ctx, k, timer)
				})
			}, nil
		}})
	}
}

// Process runs a function on each record of a stream.
func Process[K, V, KO, VO any](t *Topology, name string, in Stream[K, V], fn processor.Func[K, V, KO, VO], opts ...ProcessOption) Stream[KO, VO] {
	if fn == nil {
		t.errorf("%s: node %q has no function", caller(), name)
	}
	return process(t, "Process", name, in, func(*processor.InitContext) (processor.Func[K, V, KO, VO], func() error, error) {
		return fn, nil, nil
	}, opts)
}

// ProcessWith runs a processor type on each record of a stream. make is called once for each task, and once while the
// topology is built, when only Init and Close are called.
func ProcessWith[K, V, KO, VO any](t *Topology, name string, in Stream[K, V], make func() processor.Processor[K, V, KO, VO], opts ...ProcessOption) Stream[KO, VO] {
	open := func(ctx *processor.InitContext) (processor.Func[K, V, KO, VO], func() error, error) {
		p := make()
		if err := p.Init(ctx); err != nil {
			return nil, nil, err
		}
		return p.Process, p.Close, nil
	}
	s := process(t, "ProcessWith", name, in, open, opts)
	node := &t.nodes[s.node].Node
	t.checks = append(t.checks, func() {
		if err := dryRun(open, node); err != nil {
			t.errorf("node %q: Init: %w", name, err)
		}
	})
	return s
}

// dryRun calls Init and Close of a processor type. A panic is a mistake like any other.
func dryRun[K, V, KO, VO any](open opener[K, V, KO, VO], node *host.Node) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	_, closeFn, err := open(processor.NewInitContext(node, ""))
	if err != nil {
		return err
	}
	return closeFn()
}

type opener[K, V, KO, VO any] func(*processor.InitContext) (processor.Func[K, V, KO, VO], func() error, error)

func process[K, V, KO, VO any](t *Topology, what, name string, in Stream[K, V], open opener[K, V, KO, VO], opts []ProcessOption) Stream[KO, VO] {
	n := t.add(graph.KindProcessor, what, name, parent(t, name, in)...)
	n.Policies = t.defaults
	o := &processOptions{node: n}
	for _, opt := range opts {
		opt(o)
	}
	for _, err := range o.errs {
		t.errorf("%s: %w", caller(), err)
	}
	t.checks = append(t.checks, func() {
		probe := processor.NewRunner[K, V, KO, VO](nil, &n.Node, nil, nil)
		for _, timer := range o.timers {
			if _, err := timer.bind(probe); err != nil {
				t.errorf("%w", err)
			}
		}
	})
	n.Instantiate = instantiateProcessor(n, open, o.timers)
	return Stream[KO, VO]{t: t, node: n.Index}
}

// Merge joins streams of one type into one. It does not order records of different streams.
func Merge[K, V any](t *Topology, name string, streams ...Stream[K, V]) Stream[K, V] {
	var parents []int
	for _, s := range streams {
		parents = append(parents, parent(t, name, s)...)
	}
	if len(streams) < 2 {
		t.errorf("%s: Merge %q needs at least two streams", caller(), name)
	}
	n := t.add(graph.KindMerge, "Merge", name, parents...)
	n.Instantiate = instantiateBranch[K, V](n, nil)
	return Stream[K, V]{t: t, node: n.Index}
}

// Case is one arm of Branch.
type Case[K, V any] struct {
	// Name of the arm's node: "<branch>-<name>".
	Name string
	// When decides; nil takes everything that is left.
	When func(record.Record[K, V]) bool
}

// Branch sends each record to the first case that takes it, and drops it when none does. It returns one stream for each
// case, in order.
func Branch[K, V any](t *Topology, name string, in Stream[K, V], cases ...Case[K, V]) []Stream[K, V] {
	if len(cases) == 0 {
		t.errorf("%s: Branch %q has no cases", caller(), name)
	}
	n := t.add(graph.KindBranch, "Branch", name, parent(t, name, in)...)
	out := make([]Stream[K, V], len(cases))
	for i, c := range cases {
		if c.Name == "" {
			t.errorf("%s: case %d of Branch %q has no name: write topology.Case[K, V]{Name: \"some-name\", ...}", caller(), i+1, name)
		}
		if c.When == nil && i < len(cases)-1 {
			t.errorf("%s: case %q of Branch %q takes everything, so those after it take nothing: put it last", caller(), c.Name, name)
		}
		arm := t.add(graph.KindMerge, "Branch", name+"-"+c.Name, n.Index)
		arm.Instantiate = instantiateBranch[K, V](arm, nil)
		out[i] = Stream[K, V]{t: t, node: arm.Index}
	}
	n.Instantiate = instantiateBranch(n, cases)
	return out
}
