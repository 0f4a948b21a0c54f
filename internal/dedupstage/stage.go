// Package dedupstage is the ready-made topology of "oncemill dedup": what comes from one topic goes to another, each message
// once. Keys, values, timestamps and headers pass through unchanged, but for the headers that the engine owns.
//
//	partition scope (the default)   from -> [deduplicate] -> to
//	topic scope                     from -> rekey by id -> repartition topic -> [deduplicate] -> restore the key -> to
//
// In partition scope a copy has to lie in the partition of its original, which the key takes care of; a record without a key
// is refused with NullKeyRefused and goes to the dead letters, because its copy may lie anywhere. In topic scope the copies
// of an id meet in the partition of the id. The order of records with equal keys is then not kept: they travel by different
// partitions.
package dedupstage

import (
	"bytes"
	"fmt"
	"time"

	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/processor"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/topology"
)

// Scope is what an id is unique in.
type Scope uint8

const (
	// Partition compares the records of one partition.
	Partition Scope = iota
	// Topic compares all records of the topic.
	Topic
)

// Config describes a stage.
type Config struct {
	// App is the application id.
	App string
	// From and To are the topics.
	From, To string
	// ID says how a message is recognised.
	ID ID
	// Window is how long a message is remembered, in stream time.
	Window time.Duration
	// DeadLetterDuplicates sends duplicates to the dead letters; else they are dropped.
	DeadLetterDuplicates bool
	// IgnoreConflicts takes an id that comes again with another body for a duplicate; else that record goes to the dead
	// letters.
	IgnoreConflicts bool
	Scope           Scope
	// AllowNullKeys lets records without a key pass in partition scope: for a topic with a single partition.
	AllowNullKeys bool
}

// The nodes of the stage; their names are part of what is stored.
const (
	nodeIn      = "in"
	nodeKeys    = "need-key"
	nodeRekey   = "rekey"
	nodeByID    = "by-id"
	nodeRestore = "restore-key"
	nodeOut     = "out"
)

// headerKey carries the key of a record through the repartition topic. The value is the key behind one byte, because the
// key may be null: 0 for null, 1 for a key.
const headerKey = "dedup-key"

type stream = topology.Stream[[]byte, []byte]

// New makes the topology of a stage.
func New(c Config) *topology.Topology {
	t := topology.New(c.App)
	t.Defaults(processor.Policies{Decode: processor.DeadLetter(), Process: processor.DeadLetter(), Encode: processor.DeadLetter(), Produce: processor.DeadLetter()})
	raw := passThrough{}
	var out stream
	if c.Scope == Topic {
		in := topology.Source(t, nodeIn, c.From, raw, raw)
		rekeyed := topology.Process(t, nodeRekey, in, c.rekey)
		after := c.dedup(dedup.Key())
		after.BodyHeader = headerKey // the id stands in the place of the key: equal ids with other keys are a conflict all the same
		byID := topology.Repartition(t, nodeByID, rekeyed, raw, raw, topology.DeduplicateAfter(after))
		out = topology.Process(t, nodeRestore, byID, restoreKey)
	} else {
		out = topology.Source(t, nodeIn, c.From, raw, raw, topology.Deduplicate(c.dedup(c.ID.identity)))
		if !c.AllowNullKeys {
			out = topology.Process(t, nodeKeys, out, needKey)
		}
	}
	topology.Sink(t, nodeOut, out, c.To, raw, raw)
	return t
}

func (c Config) dedup(id dedup.Identity) dedup.Config {
	d := dedup.Config{ID: id, Window: c.Window, IgnoreConflicts: c.IgnoreConflicts}
	if c.DeadLetterDuplicates {
		d.OnDuplicate = dedup.DeadLetterDuplicate
	}
	return d
}

// needKey refuses records without a key. It comes after the deduplication, so that each message refused is a dead letter of
// its own, under its id.
func needKey(ctx *processor.Context[[]byte, []byte], r record.Record[[]byte, []byte]) error {
	if r.Key == nil {
		return problem.New(problem.NullKeyRefused, r.Position.String(), "its copy may lie in another partition")
	}
	return ctx.Forward(r)
}

// rekey makes the id the key. A record without an id goes to the dead letters from here.
func (c Config) rekey(ctx *processor.Context[[]byte, []byte], r record.Record[[]byte, []byte]) error {
	id, err := c.ID.identity.Of(&record.Raw{Key: r.Key, Value: r.Value, Timestamp: r.Timestamp, Headers: r.Headers, Position: r.Position})
	switch {
	case err != nil:
		return problem.Wrap(problem.IDInvalid, r.Position.String(), err)
	case id == nil:
		return problem.New(problem.IDMissing, r.Position.String(), "no id (%s)", c.ID.Name)
	case len(id) == 0:
		return problem.New(problem.IDInvalid, r.Position.String(), "the id (%s) is empty", c.ID.Name)
	case len(id) > dedup.DefaultMaxIDBytes:
		return problem.New(problem.IDInvalid, r.Position.String(), "the id (%s) has %d bytes, allowed are %d", c.ID.Name, len(id), dedup.DefaultMaxIDBytes)
	}
	key := make([]byte, 1, 1+len(r.Key))
	if r.Key != nil {
		key[0] = 1
	}
	headers := append(make([]record.Header, 0, len(r.Headers)+1), r.Headers...)
	headers = append(headers, record.Header{Key: headerKey, Value: append(key, r.Key...)})
	out := record.With(r, bytes.Clone(id), r.Value)
	out.Headers = headers
	return ctx.Forward(out)
}

// restoreKey undoes rekey. Its header is the last of that name: one that the record came with stays.
func restoreKey(ctx *processor.Context[[]byte, []byte], r record.Record[[]byte, []byte]) error {
	at := len(r.Headers) - 1
	for at >= 0 && r.Headers[at].Key != headerKey {
		at--
	}
	if at < 0 || len(r.Headers[at].Value) == 0 {
		return fmt.Errorf("%s: no header %s: somebody else wrote to the repartition topic", r.Position, headerKey)
	}
	saved := r.Headers[at].Value
	out := record.With(r, saved[1:], r.Value)
	if saved[0] == 0 {
		out.Key = nil
	}
	out.Headers = append(append(make([]record.Header, 0, len(r.Headers)), r.Headers[:at]...), r.Headers[at+1:]...)
	return ctx.Forward(out)
}

// passThrough is bytes as they are. Unlike serde.Bytes it knows null and copies nothing: a record's bytes stay unchanged until
// its transaction has ended.
type passThrough struct{}

func (passThrough) Name() string                                { return "bytes" }
func (passThrough) Decode(b []byte) ([]byte, error)             { return b, nil }
func (passThrough) Encode(dst []byte, v []byte) ([]byte, error) { return append(dst, v...), nil }
func (passThrough) IsNull(v []byte) bool                        { return v == nil }
