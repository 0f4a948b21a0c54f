package streamtest

import (
	"encoding/binary"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/statestore"
)

// TrimCheckpoints deletes from the changelogs what only a stale store could miss: of each task's checkpoint records, all below the last.
// A process that has not followed a task for a while has to drop what it holds of it then. It tells of each trim before it is made.
func (c *Cluster) TrimCheckpoints(tell func(Trimmed)) {
	c.t.Helper()
	c.trace.fault("superseded checkpoint records are deleted")
	for _, s := range c.plan.Subs {
		st := s.ByKind(statestore.KindTask, -1)
		if st == nil || c.broker.TopicInfo(st.Changelog) == nil {
			continue
		}
		last := map[int32]int64{}
		for _, r := range c.Committed(st.Changelog) {
			last[r.Partition] = r.Offset
		}
		for partition, offset := range last {
			from := c.broker.PartitionInfo(st.Changelog, partition).LogStartOffset
			if from < offset {
				tell(Trimmed{SubTopology: s.Name, Topic: st.Changelog, Partition: partition, From: from, To: offset})
			}
			if err := c.broker.DeleteRecords(st.Changelog, partition, offset); err != nil {
				c.t.Errorf("streamtest: delete the records of %s/%d below %d: %v", st.Changelog, partition, offset, err)
			}
		}
	}
}

// Trimmed are the offsets that a changelog has lost: those of From, and below To.
type Trimmed struct {
	SubTopology, Topic string
	Partition          int32
	From, To           int64
}

// CheckpointLog is the end of the changelog of a task's checkpoint records, to which each transaction of the task writes. The
// partition has no such log if the sub-topology keeps no state.
func (c *Cluster) CheckpointLog(subTopology string, partition int32) (topic string, end int64) {
	for _, s := range c.plan.Subs {
		if st := s.ByKind(statestore.KindTask, -1); s.Name == subTopology && st != nil {
			if at := c.broker.PartitionInfo(st.Changelog, partition); at != nil {
				return st.Changelog, at.HighWatermark
			}
		}
	}
	return "", 0
}

// EndsAborted reports that the last decided transaction of a partition below an offset was aborted.
func (c *Cluster) EndsAborted(topic string, partition int32, end int64) (aborted bool) {
	c.t.Helper()
	const marks = 30 // offsets to look back: a transaction of a small test is shorter
	from := max(c.broker.PartitionInfo(topic, partition).LogStartOffset, end-marks)
	if from >= end {
		return false
	}
	_, err := c.readSpansWith(topic, map[int32]*span{partition: {from, end}}, kgo.ReadUncommitted(), silence, func(r *kgo.Record) {
		if r.Attrs.IsControl() && r.Offset < end && len(r.Key) == 4 {
			const abort = 0 // the type of a control record is in its key: version 2, type 2
			aborted = binary.BigEndian.Uint16(r.Key[2:]) == abort
		}
	})
	if err != nil {
		c.t.Errorf("streamtest: %v", err)
	}
	return aborted
}
