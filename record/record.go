// Package record holds the plain values that move through a topology: a key, a value, a timestamp, headers, and the
// place that they were read from. It knows no Kafka client.
package record

import (
	"fmt"
	"time"
)

// Headers that the engine owns. They never pass from an input to an output: the engine replaces them (rule R12), because
// an output that inherited the id of its input would be swallowed by the next stage as that input's duplicate.
const (
	// HeaderID carries the output id: 32 lower-case hexadecimal digits, see internal/task.
	HeaderID = "oncemill-id"
	// HeaderCause carries "topic/partition@offset" of the input record that an output was produced from.
	HeaderCause = "oncemill-cause"
	// HeaderReplay carries the replay number of a record that was sent again on purpose, in decimal.
	HeaderReplay = "oncemill-replay"
	// HeaderPrefix is that of all of them.
	HeaderPrefix = "oncemill-"
)

// Headers that the engine adds to a dead letter beside those of KIP-1034.
const (
	// HeaderDeadLetterSource names the source node that read the record; empty for a timer.
	HeaderDeadLetterSource = "oncemill-dead-letter-source"
	// HeaderDeadLetterReplay is the replay number under which this dead letter may be sent again, in decimal.
	HeaderDeadLetterReplay = "oncemill-dead-letter-replay"
	// HeaderDeadLetterID is the output id of the dead letter: the record keeps the id that it came with.
	HeaderDeadLetterID = "oncemill-dead-letter-id"
	// HeaderDeadLetterTimer is "store/name" of a timer that failed.
	HeaderDeadLetterTimer = "oncemill-dead-letter-timer"
)

// Header is one header of a record. A nil Value is Kafka's null.
type Header struct {
	Key   string
	Value []byte
}

// Position is the place of a record in its topic. The zero Position belongs to a record that was not read from a topic.
type Position struct {
	Topic     string
	Partition int32
	Offset    int64
}

// String renders topic/partition@offset, the form that errors and headers use.
func (p Position) String() string { return fmt.Sprintf("%s/%d@%d", p.Topic, p.Partition, p.Offset) }

// Record is a typed record. Keys and values are decoded by the serdes of the source.
type Record[K, V any] struct {
	Key   K
	Value V
	// Timestamp has a resolution of one millisecond. Zero, on a record that is forwarded, means: that of the input.
	Timestamp time.Time
	// Headers nil, on a record that is forwarded, means: those of the input pass through. An empty, non-nil slice
	// means none.
	Headers []Header
	// Position is where the input was read. It is ignored on a record that is forwarded.
	Position Position
}

// New makes a record to forward: the timestamp and the headers of the input pass through.
func New[K, V any](key K, value V) Record[K, V] { return Record[K, V]{Key: key, Value: value} }

// With returns r with another key and value and everything else unchanged.
func With[K, V, K2, V2 any](r Record[K, V], key K2, value V2) Record[K2, V2] {
	return Record[K2, V2]{Key: key, Value: value, Timestamp: r.Timestamp, Headers: r.Headers, Position: r.Position}
}

// Raw is a record as bytes. A nil Key or Value is Kafka's null; an empty one is not.
type Raw struct {
	Key, Value []byte
	Timestamp  time.Time
	Headers    []Header
	Position
	// TopicID tells a topic from another one of the same name that was deleted and created again (KIP-516).
	TopicID [16]byte
	// LeaderEpoch is the epoch of the leader that wrote the record, or -1.
	LeaderEpoch int32
}

// Header returns the value of the last header with that key: Kafka's own lastHeader rule.
func (r *Raw) Header(key string) (value []byte, found bool) { return Lookup(r.Headers, key) }

// Lookup returns the value of the last header with that key.
func Lookup(headers []Header, key string) (value []byte, found bool) {
	for i := len(headers) - 1; i >= 0; i-- {
		if headers[i].Key == key {
			return headers[i].Value, true
		}
	}
	return nil, false
}
