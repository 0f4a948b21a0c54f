// Package host is the seam between user code and the task that runs it: what a processor's Context, a typed store and a
// sink may ask of the task. It holds no logic. User packages cannot import it, so the seam is not part of the public API.
package host

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/statestore"
)

// Phase is where a record failed; each phase has its own failure policy.
type Phase uint8

const (
	// PhaseDecode is the decoding of a key or a value by a source.
	PhaseDecode Phase = iota + 1
	// PhaseProcess is user code.
	PhaseProcess
	// PhaseEncode is the encoding of an output, or its size, topic or partition.
	PhaseEncode
	// PhaseProduce is the refusal of an output by the broker.
	PhaseProduce
	// PhaseTimer is user code called by a timer.
	PhaseTimer
	// PhaseDedup is the admission of a record: no id, conflict, too old.
	PhaseDedup
)

// String returns the name used in headers, logs and metrics.
func (p Phase) String() string {
	return [...]string{"none", "decode", "process", "encode", "produce", "timer", "dedup"}[p]
}

// Node identifies a node of the topology. Nodes are compared by pointer.
type Node struct {
	Index int
	Name  string
	// Stores that the node declared with topology.Uses.
	Stores []*statestore.Declaration
}

// Failure is an error of one record or timer at one node. It never leaves the task: a failure policy decides.
type Failure struct {
	Phase Phase
	Node  string
	Err   error
	Stack []byte // of a panic
}

// Error renders "process decide: ...".
func (f *Failure) Error() string { return fmt.Sprintf("%s %s: %v", f.Phase, f.Node, f.Err) }

// Unwrap returns the error underneath.
func (f *Failure) Unwrap() error { return f.Err }

// Output is one record to produce. Its bytes stay valid and unchanged until the transaction has ended.
type Output struct {
	Topic     string
	Partition int32
	Key       []byte
	Value     []byte
	Headers   []record.Header
	Timestamp time.Time
	// ID is the output id (rule R12).
	ID [16]byte
	// Node is the index of the sink, for the produce failure policy and metrics; -1 for a dead letter.
	Node int
	// CauseTopic and CauseOffset are the position of the input record. Of a timer the topic is empty, and the offset counts the
	// firings of the transaction.
	CauseTopic  string
	CauseOffset int64
}

// Host is implemented by the task. All calls come from the goroutine that owns the task.
type Host interface {
	// Enter makes n the current node and returns the one before; Leave restores it.
	Enter(n *Node) *Node
	Leave(previous *Node)
	// Fail remembers the failure, so that user code cannot swallow the error of a child, and returns it.
	Fail(f *Failure) error
	// Failed returns the remembered failure of the current record, or nil.
	Failed() *Failure

	OpenStore(n *Node, d *statestore.Declaration) (*statestore.View, error)
	ScheduleTimer(n *Node, d *statestore.Declaration, key []byte, t statestore.Timer) error
	CancelTimer(n *Node, d *statestore.Declaration, key []byte, name string) (bool, error)

	// Input is the record being processed. In a timer it holds only timestamp and partition.
	Input() *record.Raw
	StreamTime() time.Time
	Now() time.Time
	NewID(n *Node) [16]byte
	Random(n *Node) *rand.Rand

	// Partitions returns the number of partitions of an output topic.
	Partitions(topic string) (int32, error)
	// Buffer returns an empty slice with spare capacity whose contents stay valid until the transaction ends; Keep hands
	// back what was appended.
	Buffer() []byte
	Keep(b []byte)
	// Emit takes an output after checking its size. Headers are those to pass through; the host adds its own.
	Emit(n *Node, o *Output) error
}

// SourcePort feeds a raw record into the graph.
type SourcePort func(raw *record.Raw) error

// TimerPort calls the timer handler of a node for one store.
type TimerPort func(key []byte, t statestore.Timer) error
