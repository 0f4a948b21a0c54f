package task

import (
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/internal/host"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/statestore"
)

// Task implements host.Host: what user code and the typed nodes may ask while a record runs.
var _ host.Host = (*Task)(nil)

// Enter implements host.Host.
func (t *Task) Enter(n *host.Node) *host.Node {
	previous := t.node
	if t.probe.on {
		t.probe.charge(previous, t.cfg.Now())
	}
	t.node = n
	return previous
}

// Leave implements host.Host. After a failure the node stays, so that a panic further up names the deepest one.
func (t *Task) Leave(previous *host.Node) {
	if t.probe.on {
		t.probe.charge(t.node, t.cfg.Now())
	}
	t.node = previous
}

// Fail implements host.Host: the first failure of a record is the one that counts.
func (t *Task) Fail(f *host.Failure) error {
	if t.failed == nil {
		t.failed = f
	}
	return t.failed
}

// Failed implements host.Host.
func (t *Task) Failed() *host.Failure { return t.failed }

// OpenStore implements host.Host; the caller has checked that the node declared the store.
func (t *Task) OpenStore(n *host.Node, d *statestore.Declaration) (*statestore.View, error) {
	return t.state.View(d), nil
}

// ScheduleTimer implements host.Host.
func (t *Task) ScheduleTimer(n *host.Node, d *statestore.Declaration, key []byte, timer statestore.Timer) error {
	if t.timers == nil {
		return problem.New(problem.TopologyInvalid, fmt.Sprintf("node %q", n.Name), "it sets a timer on store %q but handles none", d.Name).
			WithCure("add topology.OnTimer(%s, ...) to node %q", d.Name, n.Name)
	}
	if _, found, err := t.state.View(d).Get(key); err != nil {
		return err
	} else if !found {
		return problem.New(problem.TimerWithoutState, fmt.Sprintf("node %q", n.Name), "store %q has no key %q", d.Name, key)
	}
	return t.timers.schedule(n, d, key, timer)
}

// CancelTimer implements host.Host.
func (t *Task) CancelTimer(n *host.Node, d *statestore.Declaration, key []byte, name string) (bool, error) {
	if t.timers == nil {
		return false, nil
	}
	return t.timers.cancel(d.ID(), key, name)
}

// Input implements host.Host.
func (t *Task) Input() *record.Raw { return t.current.raw }

// StreamTime implements host.Host: the record being processed is included. A timer is no record.
func (t *Task) StreamTime() time.Time {
	if t.current.timer != nil {
		return time.UnixMilli(t.now.streamTime)
	}
	return time.UnixMilli(max(t.now.streamTime, t.current.timestamp))
}

// Now implements host.Host.
func (t *Task) Now() time.Time { return t.clock }

// NewID implements host.Host.
func (t *Task) NewID(n *host.Node) [16]byte {
	id := t.cause().NewID(n.Name, t.current.ids)
	t.current.ids++
	return id
}

// Random implements host.Host.
func (t *Task) Random(n *host.Node) *rand.Rand {
	return rand.New(rand.NewChaCha8(t.cause().Seed(n.Name)))
}

// destination is what is known of an output topic. Most records go where the one before them went, and the shell's answer
// costs a lock.
type destination struct {
	topic      string
	partitions int32
	maxBytes   int
}

// Partitions implements host.Host.
func (t *Task) Partitions(topic string) (int32, error) {
	if topic == t.to.topic && topic != "" {
		return t.to.partitions, nil
	}
	n, err := t.cfg.Topics.Partitions(topic)
	if err == nil {
		t.to = destination{topic, n, t.cfg.Topics.MaxBytes(topic)}
	}
	return n, err
}

func (t *Task) maxBytes(topic string) int {
	if topic == t.to.topic && topic != "" {
		return t.to.maxBytes
	}
	return t.cfg.Topics.MaxBytes(topic)
}

// Buffer implements host.Host.
func (t *Task) Buffer() []byte { return t.memory.buffer(0) }

// Keep implements host.Host.
func (t *Task) Keep(b []byte) { t.memory.keep(b) }

// recordOverhead is more than the framing of one record in a batch.
const recordOverhead = 128

// sizeOf is about the size of an output in a batch, rather more than less.
func sizeOf(o *host.Output) int {
	size := len(o.Key) + len(o.Value) + recordOverhead
	for i := range o.Headers {
		size += len(o.Headers[i].Key) + len(o.Headers[i].Value) + 8
	}
	return size
}

// Emit implements host.Host.
func (t *Task) Emit(n *host.Node, o *host.Output) error {
	if size, limit := sizeOf(o), t.maxBytes(o.Topic); size > limit {
		return problem.New(problem.OutputTooLarge, fmt.Sprintf("topic %q", o.Topic), "an output of about %d bytes, allowed are %d", size, limit)
	}
	o.ID = t.cause().OutputID(t.slot(n, t.current.outputs))
	t.current.outputs++
	o.Headers = t.outputHeaders(o.Headers, o.ID)
	t.output(*o)
	return nil
}

// slots are how many slots are kept for each node: a message has few outputs.
const slots = 8

// slot is dedup.SlotOf, remembered.
func (t *Task) slot(n *host.Node, number uint32) dedup.Slot {
	if number >= slots {
		return dedup.SlotOf(n.Name, number)
	}
	for len(t.slots) <= n.Index {
		t.slots = append(t.slots, nil)
	}
	kept := t.slots[n.Index]
	for uint32(len(kept)) <= number {
		kept = append(kept, dedup.SlotOf(n.Name, uint32(len(kept))))
		t.slots[n.Index] = kept
	}
	return kept[number]
}

// output takes an output whose headers are complete.
func (t *Task) output(o host.Output) {
	if t.current.timer == nil {
		o.CauseTopic, o.CauseOffset = t.current.raw.Topic, t.current.raw.Offset
	} else {
		o.CauseOffset = int64(len(t.firings) - 1)
	}
	t.outputs = append(t.outputs, o)
}

// outputHeaders lets the input's headers pass, without those that name the input, and adds the output's own.
func (t *Task) outputHeaders(in []record.Header, id [16]byte) []record.Header {
	out := t.memory.newHeaders(len(in) + 2)
	for i := range in {
		if !t.engineOwns(in[i].Key) {
			out = append(out, in[i])
		}
	}
	hexID := hex.AppendEncode(t.memory.buffer(2*len(id)), id[:])
	t.memory.keep(hexID)
	return append(out, record.Header{Key: record.HeaderID, Value: hexID[:len(hexID):len(hexID)]},
		record.Header{Key: record.HeaderCause, Value: t.causeHeader()})
}

func (t *Task) engineOwns(key string) bool {
	if strings.HasPrefix(key, record.HeaderPrefix) {
		return true
	}
	for _, own := range t.cfg.Plan.OwnHeaders {
		if key == own {
			return true
		}
	}
	return false
}

// causeHeader renders topic/partition@offset, or timer:store/name for a timer, once per message.
func (t *Task) causeHeader() []byte {
	m := &t.current
	if m.causeRef != nil {
		return m.causeRef
	}
	b := t.memory.buffer(0)
	if m.timer != nil {
		b = append(append(append(append(b, "timer:"...), m.timer.storeName...), '/'), m.timer.name...)
	} else {
		b = append(append(b, m.raw.Topic...), '/')
		b = append(strconv.AppendInt(b, int64(m.raw.Partition), 10), '@')
		b = strconv.AppendInt(b, m.raw.Offset, 10)
	}
	t.memory.keep(b)
	m.causeRef = b[:len(b):len(b)]
	return m.causeRef
}

// TakeOutputs returns the outputs of the completed records since the last call. They stay valid until Confirm or Abort, but
// the slice itself only until the next Step.
func (t *Task) TakeOutputs() []host.Output {
	out := t.outputs
	t.outputs, t.outMark = t.outputs[:0], 0
	t.Stats.handedOver(out)
	return out
}

// recordable turns outputs into what a marker keeps.
func recordable(outputs []host.Output) []dedup.Output {
	out := make([]dedup.Output, len(outputs))
	for i := range outputs {
		o := &outputs[i]
		out[i] = dedup.Output{Topic: o.Topic, Partition: o.Partition, TimestampMillis: o.Timestamp.UnixMilli(), ID: o.ID, Key: o.Key, Value: o.Value, Headers: o.Headers}
	}
	return out
}

// replayOutputs answers a duplicate with the bytes of the first run. The handler does not run.
func (t *Task) replayOutputs(d *dedup.Decision) error {
	outputs, err := d.Marker.Outputs()
	if err != nil {
		return err
	}
	for i := range outputs {
		o := &outputs[i]
		t.output(host.Output{Topic: o.Topic, Partition: o.Partition, Key: o.Key, Value: o.Value,
			Headers: o.Headers, Timestamp: time.UnixMilli(o.TimestampMillis), ID: o.ID, Node: t.current.source.node.Index})
		t.Stats.OutputsReplayed++
		t.Stats.Inputs[t.current.source.index].OutputsReplayed++
	}
	return nil
}
