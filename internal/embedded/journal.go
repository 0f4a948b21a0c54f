package embedded

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// journalName is our file in the data directory; all others but the lock are kfake's.
const journalName = "oncemill.journal"

// entry is one line of the journal. By Kind:
//
//	begin   the producer staged offsets or named partitions in a transaction of this epoch
//	end     the outcome of the transaction is decided; Offsets are what it commits for groups
//	done    the last end is carried out (written only for producers whose epoch does not rise with each transaction)
//	delete  DeleteRecords moved the start of a partition to Offset
//
// The repair needs begin for a transaction without records, which leaves nothing else on disk.
type entry struct {
	Kind      string         `json:"kind"`
	PID       int64          `json:"pid,omitempty"`
	Epoch     int16          `json:"epoch,omitempty"`
	Commit    bool           `json:"commit,omitempty"`
	KeepEpoch bool           `json:"keepEpoch,omitempty"` // EndTxn before version 5: the epoch stays
	Offsets   []stagedOffset `json:"offsets,omitempty"`
	Topic     string         `json:"topic,omitempty"`
	Partition int32          `json:"partition,omitempty"`
	Offset    int64          `json:"offset,omitempty"`
}

type stagedOffset struct {
	Group     string  `json:"group"`
	Topic     string  `json:"topic"`
	Partition int32   `json:"partition"`
	Offset    int64   `json:"offset"`
	Epoch     int32   `json:"epoch"`
	Metadata  *string `json:"metadata,omitempty"`
}

// compactBytes is when the journal is rewritten: a few thousand transactions, a millisecond of work.
const compactBytes = 1 << 20

// journal observes the requests that matter for transactions, before kfake handles them. kfake runs observers and
// requests one after the other, so an entry is on disk before its request has any effect, and whatever request follows
// an EndTxn proves that the EndTxn was carried out. No lock is needed for the same reason.
type journal struct {
	path    string
	sync    bool
	file    *os.File
	size    int64
	open    map[int64]*transaction // by producer id; at most one per transactional id
	deleted map[partition]int64
	pending bool // the last end keeps its epoch and is not marked done
}

// transaction is the newest one of a producer.
type transaction struct {
	epoch  int16
	ended  bool
	staged map[groupPartition]stagedOffset
}

type partition struct {
	topic string
	index int32
}

type groupPartition struct {
	group string
	partition
}

// openJournal begins a new journal; the repair has dealt with the old one.
func openJournal(path string, sync bool) (*journal, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	return &journal{path: path, sync: sync, file: f, open: map[int64]*transaction{}, deleted: map[partition]int64{}}, nil
}

func (j *journal) close() error {
	if j.file == nil {
		return nil
	}
	return j.file.Close()
}

// watch installs the observers. A journal that cannot be written closes the client's connection: the request is not
// carried out, and the client tries again.
func (j *journal) watch(c *kfake.Cluster, brokers int) {
	observe := func(key kmsg.Key, fn func(kmsg.Request) error) {
		c.ControlKey(key.Int16(), func(req kmsg.Request) (kmsg.Response, error, bool) {
			c.KeepControl()
			if err := fn(req); err != nil {
				return nil, fmt.Errorf("journal: %w", err), true
			}
			return nil, nil, false
		})
	}
	for _, key := range []kmsg.Key{
		kmsg.Produce, kmsg.OffsetCommit, kmsg.OffsetDelete, kmsg.DeleteGroups, kmsg.InitProducerID,
		kmsg.AddPartitionsToTxn, kmsg.AddOffsetsToTxn, kmsg.TxnOffsetCommit, kmsg.EndTxn,
	} {
		observe(key, func(kmsg.Request) error { return j.settle() })
	}
	observe(kmsg.AddOffsetsToTxn, func(r kmsg.Request) error {
		req := r.(*kmsg.AddOffsetsToTxnRequest)
		_, err := j.begin(req.ProducerID, req.ProducerEpoch)
		return err
	})
	observe(kmsg.AddPartitionsToTxn, func(r kmsg.Request) error { return j.addPartitions(r.(*kmsg.AddPartitionsToTxnRequest)) })
	observe(kmsg.TxnOffsetCommit, func(r kmsg.Request) error { return j.stage(c, r.(*kmsg.TxnOffsetCommitRequest)) })
	observe(kmsg.EndTxn, func(r kmsg.Request) error {
		req := r.(*kmsg.EndTxnRequest)
		if brokers > 1 && c.CoordinatorFor(req.TransactionalID) != c.CurrentNode() {
			return nil // kfake refuses it with NOT_COORDINATOR
		}
		return j.end(req)
	})
	observe(kmsg.DeleteRecords, func(r kmsg.Request) error { return j.deleteRecords(c, r.(*kmsg.DeleteRecordsRequest)) })
}

// settle notes that the last end was carried out.
func (j *journal) settle() error {
	if !j.pending {
		return nil
	}
	if err := j.append(entry{Kind: "done"}); err != nil {
		return err
	}
	j.pending = false
	return nil
}

// begin returns the open transaction of a producer, noting its begin; nil if the request comes from an older epoch and
// will be refused.
func (j *journal) begin(pid int64, epoch int16) (*transaction, error) {
	t := j.open[pid]
	if t != nil && epoch < t.epoch {
		return nil, nil
	}
	if t != nil && epoch == t.epoch && !t.ended {
		return t, nil
	}
	if err := j.append(entry{Kind: "begin", PID: pid, Epoch: epoch}); err != nil {
		return nil, err
	}
	t = &transaction{epoch: epoch, staged: map[groupPartition]stagedOffset{}}
	j.open[pid] = t
	return t, nil
}

func (j *journal) addPartitions(req *kmsg.AddPartitionsToTxnRequest) error {
	if req.Version < 4 {
		_, err := j.begin(req.ProducerID, req.ProducerEpoch)
		return err
	}
	for _, t := range req.Transactions {
		if t.VerifyOnly {
			continue
		}
		if _, err := j.begin(t.ProducerID, t.ProducerEpoch); err != nil {
			return err
		}
	}
	return nil
}

func (j *journal) stage(c *kfake.Cluster, req *kmsg.TxnOffsetCommitRequest) error {
	t, err := j.begin(req.ProducerID, req.ProducerEpoch)
	if err != nil || t == nil {
		return err
	}
	for _, rt := range req.Topics {
		topic := rt.Topic
		if req.Version >= 6 { // ids in place of names, KIP-1319
			info := c.TopicIDInfo(rt.TopicID)
			if info == nil {
				continue // kfake refuses it
			}
			topic = info.Topic
		}
		for _, rp := range rt.Partitions {
			t.staged[groupPartition{req.Group, partition{topic, rp.Partition}}] = stagedOffset{
				Group: req.Group, Topic: topic, Partition: rp.Partition,
				Offset: rp.Offset, Epoch: rp.LeaderEpoch, Metadata: rp.Metadata,
			}
		}
	}
	return nil
}

// end decides a transaction. The same EndTxn sent again decides nothing: its offsets may have been overtaken since.
func (j *journal) end(req *kmsg.EndTxnRequest) error {
	keepEpoch := req.Version < 5
	t := j.open[req.ProducerID]
	switch {
	case t == nil || t.epoch < req.ProducerEpoch:
		t = &transaction{epoch: req.ProducerEpoch}
	case t.epoch > req.ProducerEpoch:
		return nil // a zombie, refused
	case t.ended && !keepEpoch:
		return nil
	}
	e := entry{Kind: "end", PID: req.ProducerID, Epoch: req.ProducerEpoch, Commit: req.Commit, KeepEpoch: keepEpoch}
	if req.Commit {
		for _, o := range t.staged {
			e.Offsets = append(e.Offsets, o)
		}
	}
	if err := j.append(e); err != nil {
		return err
	}
	t.ended, t.staged = true, nil
	j.open[req.ProducerID] = t
	j.pending = keepEpoch
	return nil
}

// deleteRecords remembers where a partition ends when all of it is deleted: kfake derives the end from the last batch, and
// without one would begin again at offset 0.
func (j *journal) deleteRecords(c *kfake.Cluster, req *kmsg.DeleteRecordsRequest) error {
	for _, rt := range req.Topics {
		for _, rp := range rt.Partitions {
			info := c.PartitionInfo(rt.Topic, rp.Partition)
			if info == nil || rp.Offset > info.HighWatermark {
				continue
			}
			offset := rp.Offset
			if offset < 0 {
				offset = info.HighWatermark
			}
			p := partition{rt.Topic, rp.Partition}
			if err := j.append(entry{Kind: "delete", Topic: p.topic, Partition: p.index, Offset: offset}); err != nil {
				return err
			}
			j.deleted[p] = max(j.deleted[p], offset)
		}
	}
	return nil
}

func (j *journal) append(e entry) error {
	if j.size > compactBytes {
		if err := j.compact(); err != nil {
			return err
		}
	}
	frame, err := appendFrame(nil, e)
	if err != nil {
		return err
	}
	n, err := j.file.Write(frame)
	if err != nil {
		// What follows a torn frame would not be found again.
		return errors.Join(err, j.file.Truncate(j.size))
	}
	j.size += int64(n)
	if j.sync {
		return j.file.Sync()
	}
	return nil
}

// compact rewrites the journal with what is open. It runs before an entry is written, when the last end was carried out.
func (j *journal) compact() error {
	var buf []byte
	var err error
	keep := func(e entry) {
		if err == nil {
			buf, err = appendFrame(buf, e)
		}
	}
	for pid, t := range j.open {
		if !t.ended {
			keep(entry{Kind: "begin", PID: pid, Epoch: t.epoch})
		}
	}
	for p, offset := range j.deleted {
		keep(entry{Kind: "delete", Topic: p.topic, Partition: p.index, Offset: offset})
	}
	if err != nil {
		return err
	}
	next := j.path + ".next"
	if err := writeFileSync(next, buf); err != nil {
		return err
	}
	f, err := os.OpenFile(next, os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	if err := os.Rename(next, j.path); err != nil {
		return errors.Join(err, f.Close())
	}
	old := j.file
	j.file, j.size = f, int64(len(buf))
	return old.Close()
}

// history is what a journal says about the run that wrote it.
type history struct {
	last    map[int64]entry // the newest begin or end of each producer
	pending *entry          // the last end, unless something proves that it was carried out
	deleted map[partition]int64
}

func readHistory(path string) (history, int, error) {
	h := history{last: map[int64]entry{}, deleted: map[partition]int64{}}
	torn, err := readLog(path, func(data []byte) error {
		var e entry
		if err := json.Unmarshal(data, &e); err != nil {
			return fmt.Errorf("%s: %w", journalName, err)
		}
		h.pending = nil
		switch e.Kind {
		case "begin":
			h.last[e.PID] = e
		case "end":
			h.last[e.PID] = e
			h.pending = &e
		case "delete":
			p := partition{e.Topic, e.Partition}
			h.deleted[p] = max(h.deleted[p], e.Offset)
		}
		return nil
	})
	return h, torn, err
}
