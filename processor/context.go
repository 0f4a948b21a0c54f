// Package processor is the contract that user code is written against: processors as functions and as types, the Context
// they are given, durable timers, and what happens when they fail.
package processor

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/oncemill/oncemill/internal/host"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/statestore"
)

// Func is a processor as a function. It is called once for each record that is admitted; what it reads and writes through
// ctx, and what it forwards, becomes true together or not at all. An error or a panic rolls all of it back; then the
// failure policy of the node decides.
//
// K and V are the key and value types of the input, KO and VO those of the output.
type Func[K, V, KO, VO any] func(ctx *Context[KO, VO], r record.Record[K, V]) error

// Processor is a processor as a type. One value serves one task; it is created by the function given to
// topology.ProcessWith, and used by one goroutine.
type Processor[K, V, KO, VO any] interface {
	// Init is called before the first record of a task, and once without a task while the topology is built, so that a
	// store that was not declared is an error of the build.
	Init(ctx *InitContext) error
	Process(ctx *Context[KO, VO], r record.Record[K, V]) error
	// Close is called when the task is given up.
	Close() error
}

// Middleware wraps a processor.
type Middleware[K, V, KO, VO any] func(next Func[K, V, KO, VO]) Func[K, V, KO, VO]

// Chain wraps fn in middlewares; the first is the outermost.
func Chain[K, V, KO, VO any](fn Func[K, V, KO, VO], wraps ...Middleware[K, V, KO, VO]) Func[K, V, KO, VO] {
	for i := len(wraps) - 1; i >= 0; i-- {
		fn = wraps[i](fn)
	}
	return fn
}

// InitContext is given to Processor.Init.
type InitContext struct {
	node *host.Node
	// Task is the name of the task, empty while the topology is built.
	Task string
}

// NewInitContext is called by the topology.
func NewInitContext(node *host.Node, task string) *InitContext {
	return &InitContext{node: node, Task: task}
}

// Store checks that the node declared the store. A store that is opened here cannot fail for that reason later.
func (c *InitContext) Store(s interface {
	Declaration() *statestore.Declaration
}) error {
	return checkDeclared(c.node, s.Declaration())
}

// Port receives the records that a node forwards to one child.
type Port[K, V any] func(r record.Record[K, V]) error

// Child is a named port.
type Child[K, V any] struct {
	Name string
	Port Port[K, V]
}

// Context is what a processor may do. KO and VO are the types that it forwards. It belongs to one node of one task and
// must not be kept after the call, nor used from another goroutine.
type Context[KO, VO any] struct {
	host     host.Host
	node     *host.Node
	children []Child[KO, VO]
	// of the record being processed at this node
	timestamp time.Time
	headers   []record.Header
}

// Forward sends r to all children of the node, in the order in which they were declared. A child's error is also the
// error of this record: returning nil after a failed Forward does not hide it.
func (c *Context[KO, VO]) Forward(r record.Record[KO, VO]) error {
	c.inherit(&r)
	for i := range c.children {
		if err := c.children[i].Port(r); err != nil {
			return err
		}
	}
	return nil
}

// ForwardTo sends r to the child with that name only.
func (c *Context[KO, VO]) ForwardTo(child string, r record.Record[KO, VO]) error {
	c.inherit(&r)
	for i := range c.children {
		if c.children[i].Name == child {
			return c.children[i].Port(r)
		}
	}
	return fmt.Errorf("node %q has no child %q", c.node.Name, child)
}

func (c *Context[KO, VO]) inherit(r *record.Record[KO, VO]) {
	if r.Timestamp.IsZero() {
		r.Timestamp = c.timestamp
	}
	if r.Headers == nil {
		r.Headers = c.headers
	}
	r.Position = c.host.Input().Position
}

// Node is the name of the node.
func (c *Context[KO, VO]) Node() string { return c.node.Name }

// Position is where the record being processed was read. In a timer only Partition is set.
func (c *Context[KO, VO]) Position() record.Position { return c.host.Input().Position }

// Timestamp is that of the record being processed; in a timer, the time it was set for.
func (c *Context[KO, VO]) Timestamp() time.Time { return c.timestamp }

// Headers are those of the record being processed.
func (c *Context[KO, VO]) Headers() []record.Header { return c.headers }

// StreamTime is the largest timestamp that the task has processed, this record included.
func (c *Context[KO, VO]) StreamTime() time.Time { return c.host.StreamTime() }

// Now is the wall-clock time at which this record's processing began. It differs between two runs of one record; what is
// committed comes from one run.
func (c *Context[KO, VO]) Now() time.Time { return c.host.Now() }

// NewID returns an id that depends only on the message, the node, and how often NewID was called for it: a re-run of the
// same message gives the same ids.
func (c *Context[KO, VO]) NewID() [16]byte { return c.host.NewID(c.node) }

// Random returns a source of random numbers seeded by the message and the node: a re-run gives the same numbers.
func (c *Context[KO, VO]) Random() *rand.Rand { return c.host.Random(c.node) }

// OpenStore implements statestore.Scope; typed stores call it.
func (c *Context[KO, VO]) OpenStore(d *statestore.Declaration) (*statestore.View, error) {
	for _, s := range c.node.Stores {
		if s == d {
			return c.host.OpenStore(c.node, d)
		}
	}
	return nil, checkDeclared(c.node, d)
}

// ScheduleTimer implements statestore.Scope; typed stores call it.
func (c *Context[KO, VO]) ScheduleTimer(d *statestore.Declaration, key []byte, t statestore.Timer) error {
	if err := checkDeclared(c.node, d); err != nil {
		return err
	}
	return c.host.ScheduleTimer(c.node, d, key, t)
}

// CancelTimer implements statestore.Scope; typed stores call it.
func (c *Context[KO, VO]) CancelTimer(d *statestore.Declaration, key []byte, name string) (bool, error) {
	if err := checkDeclared(c.node, d); err != nil {
		return false, err
	}
	return c.host.CancelTimer(c.node, d, key, name)
}

func checkDeclared(n *host.Node, d *statestore.Declaration) error {
	for _, s := range n.Stores {
		if s == d {
			return nil
		}
	}
	return problem.New(problem.UndeclaredStore, fmt.Sprintf("node %q", n.Name), "it uses store %q without declaring it", d.Name).
		WithCure("add topology.Uses(%s) to node %q", d.Name, n.Name)
}

// Runner runs one node in one task. The topology makes it; user code does not.
type Runner[K, V, KO, VO any] struct {
	ctx Context[KO, VO]
	fn  Func[K, V, KO, VO]
}

// NewRunner binds a function to a node of a task. Its parameter types are internal: only the topology can call it.
func NewRunner[K, V, KO, VO any](h host.Host, n *host.Node, fn Func[K, V, KO, VO], children []Child[KO, VO]) *Runner[K, V, KO, VO] {
	return &Runner[K, V, KO, VO]{ctx: Context[KO, VO]{host: h, node: n, children: children}, fn: fn}
}

// Receive is the node's input port.
func (r *Runner[K, V, KO, VO]) Receive(in record.Record[K, V]) error {
	c := &r.ctx
	previous := c.host.Enter(c.node)
	c.timestamp, c.headers = in.Timestamp, in.Headers
	err := r.fn(c, in)
	return c.done(host.PhaseProcess, previous, err)
}

// done settles a call of user code: the first failure wins, wherever it arose, and cannot be swallowed.
func (c *Context[KO, VO]) done(phase host.Phase, previous *host.Node, err error) error {
	if failed := c.host.Failed(); failed != nil {
		c.host.Leave(previous)
		return failed
	}
	if err != nil {
		var f *host.Failure
		if !errors.As(err, &f) {
			if problem.CodeOf(err) == "" {
				err = problem.Wrap(problem.HandlerFailed, fmt.Sprintf("node %q", c.node.Name), err)
			}
			f = &host.Failure{Phase: phase, Node: c.node.Name, Err: err}
		}
		err = c.host.Fail(f)
	}
	c.host.Leave(previous)
	return err
}

// TimerFunc is called when a timer that the node set on a key of a store is due. The timer has already been removed. An
// error rolls back what the call did and meets the timer failure policy; no record is harmed.
type TimerFunc[K, KO, VO any] func(ctx *Context[KO, VO], key K, t statestore.Timer) error

// Fire calls user code for a timer with the node's context. It is a method, so that the topology can find it without
// knowing the types of the node's input.
func (r *Runner[K, V, KO, VO]) Fire(t statestore.Timer, call func(ctx *Context[KO, VO]) error) error {
	c := &r.ctx
	previous := c.host.Enter(c.node)
	c.timestamp, c.headers = t.At, nil
	return c.done(host.PhaseTimer, previous, call(c))
}
