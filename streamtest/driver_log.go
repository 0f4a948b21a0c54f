package streamtest

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"
	"sort"
	"time"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/record"
)

// kind tells what a reader with read_committed makes of an entry of a log.
type kind uint8

const (
	committed kind = iota
	aborted
	control // the marker that ends a transaction; it takes an offset, as in Kafka
)

// entry is one record of a log.
type entry struct {
	raw  record.Raw
	kind kind
	// order is the moment of the append over all logs: tasks take their records in this order, so that a run of the
	// driver depends on nothing else.
	order uint64
}

// partition is the log of one partition. Entries ascend by offset; compaction leaves gaps.
type partition struct {
	entries []entry
	end     int64
}

// from returns the committed entries at or after an offset.
func (p *partition) from(offset int64) *entry {
	i := sort.Search(len(p.entries), func(i int) bool { return p.entries[i].raw.Offset >= offset })
	for ; i < len(p.entries); i++ {
		if p.entries[i].kind == committed {
			return &p.entries[i]
		}
	}
	return nil
}

// topic is a topic of the driver's own log.
type topic struct {
	name       string
	id         [16]byte
	generation int
	partitions []*partition
}

func newTopic(name string, partitions int32) *topic {
	t := &topic{name: name}
	for range partitions {
		t.partitions = append(t.partitions, &partition{})
	}
	t.setID()
	return t
}

// setID derives the topic id from name and generation, so that two runs have equal ids.
func (t *topic) setID() {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s/%d", t.name, t.generation))
	t.id = [16]byte(sum[:16])
}

// recreate empties the topic and gives it another id, as deleting and creating it does.
func (t *topic) recreate() {
	t.generation++
	t.setID()
	for i := range t.partitions {
		t.partitions[i] = &partition{}
	}
}

func (t *topic) append(order uint64, k kind, raw record.Raw) int64 {
	p := t.partitions[raw.Partition]
	raw.Topic, raw.TopicID, raw.Offset, raw.LeaderEpoch = t.name, t.id, p.end, 0
	raw.Timestamp = time.UnixMilli(raw.Timestamp.UnixMilli()).UTC() // what Kafka keeps of it
	p.entries = append(p.entries, entry{raw: raw, kind: k, order: order})
	p.end++
	return raw.Offset
}

// compact keeps the last record of each key, and drops tombstones if asked to. Offsets stay.
func (p *partition) compact(tombstones bool) {
	last := map[string]int64{}
	for i := range p.entries {
		if e := &p.entries[i]; e.kind == committed {
			last[string(e.raw.Key)] = e.raw.Offset
		}
	}
	p.entries = slices.DeleteFunc(p.entries, func(e entry) bool {
		return e.kind != committed || last[string(e.raw.Key)] != e.raw.Offset || e.raw.Value == nil && !tombstones
	})
}

// cut drops everything before an offset, as DeleteRecords does.
func (p *partition) cut(offset int64) {
	p.entries = slices.DeleteFunc(p.entries, func(e entry) bool { return e.raw.Offset < offset })
}

// topics answers the core's questions about output topics.
type topics struct {
	byName   map[string]*topic
	maxBytes int
}

// Partitions implements task.Topics.
func (t *topics) Partitions(name string) (int32, error) {
	if found := t.byName[name]; found != nil {
		return int32(len(found.partitions)), nil
	}
	return 0, problem.New(problem.UnknownTopic, fmt.Sprintf("topic %q", name), "it does not exist").
		WithCure("name it in streamtest.Options.Topics, as it would have to be created in Kafka")
}

// MaxBytes implements task.Topics.
func (t *topics) MaxBytes(string) int { return t.maxBytes }

func cloneRaw(r *record.Raw) record.Raw {
	c := *r
	c.Key, c.Value = bytes.Clone(r.Key), bytes.Clone(r.Value)
	c.Headers = slices.Clone(r.Headers)
	for i := range c.Headers {
		c.Headers[i].Value = bytes.Clone(c.Headers[i].Value)
	}
	return c
}
