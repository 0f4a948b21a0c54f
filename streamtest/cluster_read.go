package streamtest

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/internal/task"
	"github.com/oncemill/oncemill/record"
)

const (
	// patience is how long, in virtual time, a cluster waits for what must happen: above every timeout of the protocol.
	patience = 10 * time.Minute
	// glance is how often it looks.
	glance = 20 * time.Millisecond
	// silence is how long a reader hears nothing before it takes the rest of a log for compacted away.
	silence = 2 * time.Second
)

// Until waits until a condition holds, and fails the test if it never does or if a process ends meanwhile.
func (c *Cluster) Until(what string, holds func() bool) {
	c.t.Helper()
	c.await(what, holds)
}

func (c *Cluster) await(what string, holds func() bool) {
	c.t.Helper()
	for deadline := time.Now().Add(patience); !holds(); {
		if err := c.unexpected(); err != nil {
			c.t.Fatalf("streamtest: waiting for %s: %v", what, err)
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("streamtest: waited %v for %s", patience, what)
		}
		<-time.After(glance)
	}
}

// Pass lets virtual time pass.
func (c *Cluster) Pass(d time.Duration) { <-time.After(d) }

// Committed returns what a fresh reader with read_committed sees of a topic, by partition and offset.
func (c *Cluster) Committed(topic string) []record.Raw {
	c.t.Helper()
	return c.read(topic, kgo.ReadCommitted())
}

// Uncommitted returns what a fresh reader with read_uncommitted sees of a topic.
func (c *Cluster) Uncommitted(topic string) []record.Raw {
	c.t.Helper()
	return c.read(topic, kgo.ReadUncommitted())
}

// AwaitCommitted waits until a topic has at least n committed records, and returns them all.
func (c *Cluster) AwaitCommitted(topic string, n int) []record.Raw {
	c.t.Helper()
	var out []record.Raw
	seen := int64(-1)
	c.await(fmt.Sprintf("%d committed records in %s", n, topic), func() bool {
		stable := int64(0)
		for _, p := range c.broker.PartitionInfos(topic) {
			stable += p.LastStableOffset
		}
		if stable != seen && stable >= int64(n) {
			seen, out = stable, c.Committed(topic)
		}
		return len(out) >= n
	})
	return out
}

// span is the part of a partition that is to be read.
type span struct{ next, end int64 }

func (c *Cluster) read(topic string, isolation kgo.IsolationLevel) []record.Raw {
	c.t.Helper()
	pending := map[int32]*span{}
	for _, p := range c.broker.PartitionInfos(topic) {
		end := p.HighWatermark
		if isolation == kgo.ReadCommitted() {
			end = p.LastStableOffset
		}
		if p.LogStartOffset < end {
			pending[p.Partition] = &span{p.LogStartOffset, end}
		}
	}
	out, err := c.readSpans(topic, pending, isolation, silence)
	if err != nil {
		c.t.Fatalf("streamtest: %v", err)
		return nil
	}
	slices.SortFunc(out, byPlace)
	return out
}

// readSpans reads parts of partitions, until it has heard nothing for a while. What is left of the spans was not read.
func (c *Cluster) readSpans(topic string, pending map[int32]*span, isolation kgo.IsolationLevel, quiet time.Duration) (out []record.Raw, err error) {
	return c.readSpansWith(topic, pending, isolation, quiet, func(*kgo.Record) {})
}

// readSpansWith is readSpans, and shows each record, control records included.
func (c *Cluster) readSpansWith(topic string, pending map[int32]*span, isolation kgo.IsolationLevel, quiet time.Duration, show func(*kgo.Record)) (out []record.Raw, err error) {
	from := map[int32]kgo.Offset{}
	for partition, s := range pending {
		from[partition] = kgo.NewOffset().At(s.next)
	}
	if len(pending) == 0 {
		return nil, nil
	}
	client, err := c.dial(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: from}), kgo.FetchIsolationLevel(isolation),
		kgo.KeepControlRecords(), kgo.FetchMaxWait(50*time.Millisecond))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	left := len(pending)
	for heard := time.Now(); left > 0 && time.Since(heard) < quiet; {
		ctx, cancel := context.WithTimeout(context.Background(), silence)
		fetches := client.PollFetches(ctx)
		cancel()
		for it := fetches.RecordIter(); !it.Done(); {
			r := it.Next()
			heard = time.Now()
			s := pending[r.Partition]
			if s == nil || s.next >= s.end {
				continue
			}
			show(r)
			if r.Offset < s.end && !r.Attrs.IsControl() {
				out = append(out, rawFrom(r))
			}
			if s.next = r.Offset + 1; s.next >= s.end {
				left--
			}
		}
	}
	return out, nil
}

func rawFrom(r *kgo.Record) record.Raw {
	raw := record.Raw{Key: r.Key, Value: r.Value, Timestamp: r.Timestamp, LeaderEpoch: r.LeaderEpoch,
		Position: record.Position{Topic: r.Topic, Partition: r.Partition, Offset: r.Offset}}
	for _, h := range r.Headers {
		raw.Headers = append(raw.Headers, record.Header{Key: h.Key, Value: h.Value})
	}
	return raw
}

// Commit is a committed offset of the application's group.
type Commit struct {
	Offset   int64
	Metadata string
	// N is the number of the task's transaction; 0 when the metadata is not the engine's.
	N uint64
}

// Commits returns the committed offsets of a topic by partition.
func (c *Cluster) Commits(topic string) map[int32]Commit {
	c.t.Helper()
	out := map[int32]Commit{}
	info := c.broker.GroupInfo(c.plan.App)
	if info == nil {
		return out
	}
	for p, at := range info.Commits[topic] {
		m, _, err := task.DecodeMetadata(at.Metadata)
		if err != nil {
			c.t.Fatalf("streamtest: %s/%d: %v", topic, p, err)
		}
		out[p] = Commit{Offset: at.Offset, Metadata: at.Metadata, N: m.N}
	}
	return out
}

// Settle waits until every record of every input is processed and committed, those of repartition topics included.
func (c *Cluster) Settle() {
	c.t.Helper()
	c.await("all inputs to be processed", func() bool { return c.Unread() == "" })
}

// Unread names an input with records above its committed offset; it is empty when everything is processed and committed.
func (c *Cluster) Unread() string {
	info := c.broker.GroupInfo(c.plan.App)
	for _, s := range c.plan.Subs {
		for _, in := range s.Inputs {
			for _, p := range c.broker.PartitionInfos(in.Topic) {
				at := int64(0)
				if info != nil {
					at = info.Commits[in.Topic][p.Partition].Offset
				}
				if at = max(at, p.LogStartOffset); at < p.HighWatermark && (!in.Internal || c.hasRecords(in.Topic, p.Partition, at)) {
					return fmt.Sprintf("%s/%d@%d", in.Topic, p.Partition, at)
				}
			}
		}
	}
	return ""
}

// hasRecords tells records, committed or not decided yet, from those of aborted transactions and from the marks of transactions, over
// which no position moves.
func (c *Cluster) hasRecords(topic string, partition int32, from int64) bool {
	at := c.broker.PartitionInfo(topic, partition)
	if at.LastStableOffset < at.HighWatermark {
		return true
	}
	records, err := c.readSpans(topic, map[int32]*span{partition: {from, at.LastStableOffset}}, kgo.ReadCommitted(), silence)
	if err != nil {
		c.t.Errorf("streamtest: %v", err)
	}
	return len(records) > 0
}

// AwaitTasks waits until the running processes have that many tasks running.
func (c *Cluster) AwaitTasks(n int) {
	c.t.Helper()
	c.await(fmt.Sprintf("%d running tasks", n), func() bool {
		running := 0
		for _, p := range c.Processes() {
			for _, t := range p.Tasks() {
				if t.State == "running" {
					running++
				}
			}
		}
		return running == n
	})
}
