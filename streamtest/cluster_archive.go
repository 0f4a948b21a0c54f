package streamtest

import (
	"cmp"
	"slices"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/record"
)

// archive keeps what an application deletes: it reads the topics up to their last stable offsets before any DeleteRecords of a
// process is sent. What the engine deletes lies below a committed position, and so below the last stable offset by then. So nothing can
// be deleted unread, however late the request arrives.
type archive struct {
	lock    chan struct{} // one reader at a time; no mutex, on which nobody may wait in a bubble for another one who waits
	records map[string][]record.Raw
	next    map[string]map[int32]int64 // offsets below it were read, or deleted unread, which is an error
}

// keep reads what is new in the archived topics.
func (c *Cluster) keep() {
	a := &c.archive
	for _, topic := range c.opts.Archive {
		a.lock <- struct{}{}
		c.keepLocked(topic)
		<-a.lock
	}
}

func (c *Cluster) keepLocked(topic string) {
	a := &c.archive
	if c.broker.TopicInfo(topic) == nil {
		return // the application has not made it yet
	}
	if a.next == nil {
		a.records, a.next = map[string][]record.Raw{}, map[string]map[int32]int64{}
	}
	if a.next[topic] == nil {
		a.next[topic] = map[int32]int64{}
	}
	pending := map[int32]*span{}
	for _, p := range c.broker.PartitionInfos(topic) {
		from := a.next[topic][p.Partition]
		if p.LogStartOffset > from {
			c.t.Errorf("streamtest: %s/%d begins at %d, but only what is below %d was archived", topic, p.Partition, p.LogStartOffset, from)
			from = p.LogStartOffset
		}
		if from < p.LastStableOffset {
			pending[p.Partition] = &span{from, p.LastStableOffset}
		}
		a.next[topic][p.Partition] = max(from, p.LastStableOffset)
	}
	out, err := c.readSpans(topic, pending, kgo.ReadCommitted(), patience)
	if err != nil {
		c.t.Errorf("streamtest: archiving %s: %v", topic, err)
	}
	for partition, s := range pending {
		if s.next < s.end {
			c.t.Errorf("streamtest: archiving %s/%d: nothing was heard for %v at %d", topic, partition, patience, s.next)
		}
	}
	a.records[topic] = append(a.records[topic], out...)
}

// Archived returns everything that was ever committed to a topic of ClusterOptions.Archive, by partition and offset, also what the
// application has deleted since.
func (c *Cluster) Archived(topic string) []record.Raw {
	c.t.Helper()
	if !slices.Contains(c.opts.Archive, topic) {
		c.t.Fatalf("streamtest: %s is not archived", topic)
	}
	c.keep()
	c.archive.lock <- struct{}{}
	defer func() { <-c.archive.lock }()
	out := slices.Clone(c.archive.records[topic])
	slices.SortFunc(out, byPlace)
	return out
}

func byPlace(a, b record.Raw) int {
	return cmp.Or(cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.Offset, b.Offset))
}
