package embedded

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strconv"
)

// window is the sequence numbers of one producer on one partition, from which a broker knows that a batch is sent again.
type window struct {
	pid int64
	partition
}

// sequence is the part of kfake's seq_windows.json for one window: its last five batches, and the next number.
type sequence struct {
	PID       int64          `json:"pid"`
	Topic     string         `json:"topic"`
	Partition int32          `json:"partition"`
	Entries   [5]sequenceRun `json:"entries"`
	Count     uint8          `json:"count"`
	At        uint8          `json:"at"`
	Epoch     int16          `json:"epoch"`
	Seen      bool           `json:"seen"`
	NextSeq   int32          `json:"next_seq"`
}

type sequenceRun struct {
	FirstSeq int32 `json:"first_seq"`
	NextSeq  int32 `json:"next_seq"`
	Offset   int64 `json:"offset"`
}

func (s *sequence) add(b batch) {
	next := int32((int64(b.firstSequence) + int64(b.records)) % math.MaxInt32)
	if !s.Seen || s.Epoch != b.epoch {
		s.Entries, s.Count, s.At = [5]sequenceRun{}, 0, 0
	}
	s.Entries[s.At] = sequenceRun{b.firstSequence, next, b.first}
	s.At = (s.At + 1) % 5
	s.Count = min(s.Count+1, 5)
	s.Epoch, s.Seen, s.NextSeq = b.epoch, true, next
}

// tail is the end of a partition's log.
type tail struct {
	segment     int64 // first offset of the last segment
	end         int64
	leaderEpoch int32
	open        map[int64]int16 // producer id to epoch, of transactions without a marker
}

// scan reads every partition once: which transactions are open anywhere, and which sequence numbers were used.
func (r *repairer) scan() error {
	return r.eachPartition(func(p partition) error {
		t, err := r.scanPartition(p)
		if err != nil {
			return err
		}
		if t == nil {
			return r.keepEnd(p)
		}
		for pid, epoch := range t.open {
			r.open[pid] = max(r.open[pid], epoch)
		}
		return nil
	})
}

// endTransactions writes the markers that are missing: a commit for the transaction that was decided, an abort for all
// others.
func (r *repairer) endTransactions() error {
	return r.eachPartition(func(p partition) error {
		t, err := r.scanPartition(p)
		if err != nil || t == nil {
			return err
		}
		decided := r.history.pending
		for pid, epoch := range t.open {
			commit := decided != nil && decided.Commit && decided.PID == pid && decided.Epoch == epoch
			wire := marker(t.end, t.leaderEpoch, pid, epoch, commit, r.nowMillis)
			if err := appendBatch(partitionDir(r.dir, p), t.segment, wire); err != nil {
				return err
			}
			t.end++
		}
		return nil
	})
}

// scanPartition returns the end of a partition's log; nil if there is no batch.
func (r *repairer) scanPartition(p partition) (*tail, error) {
	pdir := partitionDir(r.dir, p)
	bases, err := listSegments(pdir)
	if err != nil {
		return nil, err
	}
	t := &tail{open: map[int64]int16{}, end: -1}
	for _, base := range bases {
		torn, err := scanSegment(pdir, base, func(b batch) {
			t.end, t.leaderEpoch = b.last+1, b.leaderEpoch
			r.note(p, t, b)
		})
		if err != nil {
			return nil, err
		}
		r.report.tornBytes += torn
		t.segment = base
	}
	if t.end < 0 {
		return nil, nil
	}
	return t, nil
}

// note follows transactions and sequence numbers over one batch.
func (r *repairer) note(p partition, t *tail, b batch) {
	switch {
	case b.control():
		delete(t.open, b.pid)
		return
	case b.transactional():
		t.open[b.pid] = b.epoch
	}
	if b.pid < 0 {
		return
	}
	key := window{b.pid, p}
	s := r.windows[key]
	if s == nil {
		s = &sequence{PID: b.pid, Topic: p.topic, Partition: p.index}
		r.windows[key] = s
	}
	if s.Seen && s.Epoch == b.epoch && b.first <= s.Entries[(s.At+4)%5].Offset {
		return // the second scan of the same log
	}
	s.add(b)
}

// keepEnd gives a partition whose records were all deleted a control batch just before its end, so that kfake continues there
// and not at offset 0, where consumers have long been.
func (r *repairer) keepEnd(p partition) error {
	end := r.history.deleted[p]
	pdir := partitionDir(r.dir, p)
	raw, err := os.ReadFile(filepath.Join(pdir, "snapshot.json"))
	if err == nil {
		var snapshot struct {
			HighWatermark int64 `json:"high_watermark"`
		}
		if err := json.Unmarshal(raw, &snapshot); err != nil {
			return err
		}
		end = max(end, snapshot.HighWatermark)
	} else if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if end == 0 {
		return nil
	}
	if err := os.MkdirAll(pdir, 0o755); err != nil {
		return err
	}
	bases, err := listSegments(pdir)
	if err != nil {
		return err
	}
	for _, base := range bases { // empty ones
		if err := os.Remove(filepath.Join(pdir, strconv.FormatInt(base, 10)+".dat")); err != nil {
			return err
		}
	}
	return appendBatch(pdir, end-1, marker(end-1, 0, -1, -1, true, r.nowMillis))
}

func (r *repairer) eachPartition(fn func(partition) error) error {
	raw, err := os.ReadFile(filepath.Join(r.dir, "topics.json"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var topics struct {
		Topics []struct {
			Name       string `json:"name"`
			Partitions int32  `json:"partitions"`
		} `json:"topics"`
	}
	if err := json.Unmarshal(raw, &topics); err != nil {
		return err
	}
	for _, t := range topics.Topics {
		for i := range t.Partitions {
			if err := fn(partition{t.Name, i}); err != nil {
				return err
			}
		}
	}
	return nil
}

// writeWindows replaces kfake's sequence numbers, which are those of the last clean stop: with them, a batch sent again
// would be appended again, or a producer that went on would be refused.
func (r *repairer) writeWindows() error {
	all := make([]*sequence, 0, len(r.windows))
	for _, s := range r.windows {
		all = append(all, s)
	}
	data, err := json.Marshal(map[string]any{"version": kfakeVersion, "windows": all})
	if err != nil {
		return err
	}
	return writeFileSync(filepath.Join(r.dir, "seq_windows.json"), data)
}
