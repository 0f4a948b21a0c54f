// Package statestore keeps the state of tasks: typed stores over an overlay (the open transaction), a committed delta in
// memory, and an engine on disk that is written by checkpoints only. The changelog in Kafka is the write-ahead log.
//
// Reads look at: overlay, active delta, frozen delta, clean cache, engine; a tombstone anywhere ends the search.
package statestore

import (
	"fmt"
	"hash/fnv"
	"time"
)

// TaskID names one task: a sub-topology and a partition. The sub-topology is named by its first source, so that adding a
// node elsewhere does not rename state (rule R9).
type TaskID struct {
	SubTopology string
	Partition   int32
}

// String renders "sub_3".
func (id TaskID) String() string { return fmt.Sprintf("%s_%d", id.SubTopology, id.Partition) }

// NameID is the 32-bit id under which a name (of a sub-topology or a store) appears in keys of the engine. The topology
// refuses two names with one id.
func NameID(name string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(name))
	return h.Sum32()
}

// Kind says how a store lays out its keys and how its changelog is kept.
type Kind uint8

const (
	// KindKeyValue is a store of user keys. Its changelog is compacted.
	KindKeyValue Kind = iota + 1
	// KindMarkers holds dedup markers in buckets of stream time: a key begins with its bucket, 8 bytes big-endian.
	// Buckets below the horizon are absent by logic. Its changelog is append-only and cut by DeleteRecords (rule R8).
	KindMarkers
	// KindTimers holds timers; always ordered. Its changelog is compacted.
	KindTimers
	// KindParked holds records put aside for a delayed retry. Its changelog is compacted.
	KindParked
	// KindTask holds the checkpoint record of a task, under the one key CheckpointKey. Its changelog is compacted.
	KindTask
)

// CheckpointKey is the only key of a KindTask store.
const CheckpointKey = "checkpoint"

// Declaration describes one store of a sub-topology. Stores are compared by pointer while a topology runs and by Name in
// everything durable.
type Declaration struct {
	Name        string
	Kind        Kind
	KeyFormat   string // serde name, part of the fingerprint
	ValueFormat string // serde name, part of the fingerprint
	// Internal marks stores that the engine made for itself.
	Internal bool
	// Ordered keeps the store's memory in key order from the start; otherwise the order is built at the first ordered
	// read. Not part of the fingerprint.
	Ordered bool
}

// ID is NameID of the store's name.
func (d *Declaration) ID() uint32 { return NameID(d.Name) }

// Clock says which time a timer waits for.
type Clock uint8

const (
	// StreamTime is the largest record timestamp that the task has processed.
	StreamTime Clock = iota + 1
	// WallClock is the time of the machine, read between records.
	WallClock
)

// Timer is set on a key of a store. It is identified by (store, key, name): setting it again replaces it. It is durable in
// the same transaction as the state, and exists only while its key does: deleting the key cancels its timers.
type Timer struct {
	Name    string
	At      time.Time // resolution one millisecond
	Clock   Clock
	Payload []byte
}

// Scope is what a typed store needs of the context in which it is used. processor.Context implements it; user code passes
// its context and never calls these methods.
type Scope interface {
	// OpenStore returns the view of a declared store in the current transaction, or an error that names node and store
	// when the node did not declare it.
	OpenStore(d *Declaration) (*View, error)
	// ScheduleTimer sets a timer on a key of the store. The key must exist.
	ScheduleTimer(d *Declaration, key []byte, t Timer) error
	// CancelTimer removes a timer, and reports whether there was one.
	CancelTimer(d *Declaration, key []byte, name string) (bool, error)
}

// Input is the position of a task in one of its input topics.
type Input struct {
	Topic   string
	TopicID [16]byte
	// Next is the offset of the next record to process.
	Next int64
	// LeaderEpoch is that of the last processed record, or -1.
	LeaderEpoch int32
}

// Horizon is the first live bucket of a KindMarkers store.
type Horizon struct {
	Store  uint32 // NameID
	Bucket uint64
}

// BucketStart is where a bucket begins in the marker changelog: DeleteRecords cuts to the smallest one that lives.
type BucketStart struct {
	Store  uint32 // NameID
	Bucket uint64
	Offset int64
}

// Checkpoint is what one transaction made true for a task, apart from the writes to its stores. It travels in the
// checkpoint record of the changelog and lies in the engine under the task's prefix.
type Checkpoint struct {
	// N is the number of the task's last committed transaction. It rises by one with each. The outcome of a
	// transaction, and "behind", are decided by N, never by an offset.
	N      uint64
	Inputs []Input
	// StreamTime in milliseconds since 1970, or MinStreamTime before the first record.
	StreamTime int64
	// MarkerTime, by which ids age, is the largest timestamp of a record that left a marker, one that failed included, and at
	// least StreamTime. Durable, because a horizon tells it to half a window only, and the verdict on an id that was issued
	// long ago may depend on the rest.
	MarkerTime int64
	// Sequence counts the timers that were ever set in this task; it makes the ids of firings distinct.
	Sequence uint64
	Horizons []Horizon
}

// MinStreamTime is the stream time of a task that has not processed a record.
const MinStreamTime = int64(-1 << 62)

// LogPosition is how far a task's state includes one changelog partition.
type LogPosition struct {
	Topic   string
	TopicID [16]byte
	// Next is the offset of the next changelog record to apply.
	Next int64
	// LeaderEpoch is that of the last applied record, or -1. Compared with the broker's to find a diverged log (KIP-320).
	LeaderEpoch int32
}

// Position is a Checkpoint together with the place in the changelogs that it corresponds to.
type Position struct {
	Checkpoint
	Logs    []LogPosition
	Buckets []BucketStart
	// WrittenAt is the wall-clock time at which the position was last written, for the age test of the crash table.
	WrittenAt time.Time
}
