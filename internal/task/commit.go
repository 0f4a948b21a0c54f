package task

import (
	"github.com/oncemill/oncemill/internal/graph"
	"github.com/oncemill/oncemill/statestore"
	"math/rand/v2"
)

// ChangelogRecord is one record to produce to a changelog in the same transaction. Key and Value stay valid until Confirm or
// Abort; a nil Value is a tombstone.
type ChangelogRecord struct {
	Store     *graph.Store
	Topic     string
	Partition int32
	Key       []byte
	Value     []byte
}

// Written is where the changelog records of one transaction and one topic landed.
type Written struct {
	Topic       string
	TopicID     [16]byte
	First, Last int64 // offsets
	Records     uint64
	Bytes       uint64 // of keys and values
	LeaderEpoch int32
}

// Seal ends the steps of the transaction: it gives it the next number and yields the changelog records, the last write of
// each key only, and the checkpoint record. Nothing may be stepped until Confirm or Abort.
func (t *Task) Seal(produce func(ChangelogRecord) error) error {
	t.sealedAs = rand.Uint64()
	t.sealed = statestore.Checkpoint{N: t.committed.N + 1, StreamTime: t.now.streamTime, MarkerTime: t.now.markerTime, Sequence: t.now.sequence, Inputs: t.inputs()}
	if t.state == nil {
		return nil
	}
	t.sealed.Horizons = t.horizons()
	if err := t.taskView.Put([]byte(statestore.CheckpointKey), statestore.EncodeCheckpoint(nil, &t.sealed)); err != nil {
		return err
	}
	return t.state.Writes(func(d *statestore.Declaration, key, value []byte, tombstone bool) error {
		st := t.cfg.Sub.Store(d.Name)
		r := ChangelogRecord{Store: st, Topic: st.Changelog, Partition: t.cfg.Partition, Key: key, Value: value}
		if tombstone {
			r.Value = nil
		} else if value == nil {
			r.Value = []byte{} // empty is not null
		}
		return produce(r)
	})
}

func (t *Task) inputs() []statestore.Input {
	out := make([]statestore.Input, len(t.sources))
	for i := range t.sources {
		out[i] = statestore.Input{Topic: t.sources[i].input.Topic, TopicID: t.cfg.TopicIDs[i], Next: t.next[i], LeaderEpoch: t.epochs[i]}
	}
	return out
}

func (t *Task) horizons() []statestore.Horizon {
	var out []statestore.Horizon
	for i := range t.sources {
		if s := &t.sources[i]; s.guard != nil && !s.input.Replay && s.isFirstOf(t.sources[:i]) {
			out = append(out, statestore.Horizon{Store: s.store.ID(), Bucket: s.guard.Horizon(t.now.markerTime)})
		}
	}
	return out
}

// isFirstOf reports that no source before it has the same store: a source with several topics has several inputs.
func (s *source) isFirstOf(before []source) bool {
	for i := range before {
		if before[i].store == s.store {
			return false
		}
	}
	return true
}

// CommitPositions makes the task a part of the open transaction although nothing was processed: where it starts becomes durable.
func (t *Task) CommitPositions() { t.dirty = true }

// Sealed is the checkpoint of the transaction whose outcome is open.
func (t *Task) Sealed() *statestore.Checkpoint { return &t.sealed }

// IsSealed reports whether committed metadata is that of the sealed transaction.
func (t *Task) IsSealed(m *Metadata) bool { return m.N == t.sealed.N && m.Attempt == t.sealedAs }

// Metadata is what is committed with each offset of the sealed transaction.
func (t *Task) Metadata(written []Written) Metadata {
	m := Metadata{N: t.sealed.N, Attempt: t.sealedAs, StreamTime: t.sealed.StreamTime, StateHash: t.cfg.StateHash}
	for _, log := range t.logsAfter(written) {
		m.Logs = append(m.Logs, LogEnd{Topic: statestore.NameID(log.Topic), End: log.Next, Epoch: log.LeaderEpoch})
	}
	return m
}

// logsAfter are the positions in the changelogs once the transaction is committed.
func (t *Task) logsAfter(written []Written) []statestore.LogPosition {
	logs := append([]statestore.LogPosition(nil), t.logs...)
next:
	for _, w := range written {
		for i := range logs {
			if logs[i].Topic == w.Topic {
				logs[i].Next, logs[i].LeaderEpoch, logs[i].TopicID = w.Last+1, w.LeaderEpoch, w.TopicID
				continue next
			}
		}
		logs = append(logs, statestore.LogPosition{Topic: w.Topic, TopicID: w.TopicID, Next: w.Last + 1, LeaderEpoch: w.LeaderEpoch})
	}
	return logs
}

// Reserve makes sure that Confirm has room in the memory budget, or returns statestore.ErrBudget. Call it before the
// transaction is ended.
func (t *Task) Reserve() error {
	if t.state == nil {
		return nil
	}
	return t.state.Reserve()
}

// Confirm makes the sealed transaction the task's state, once it is known to be committed. It cannot fail after Reserve.
func (t *Task) Confirm(written []Written) {
	t.logs = t.logsAfter(written)
	if t.state != nil {
		t.updateBuckets(written)
		t.state.Apply(statestore.Position{Checkpoint: t.sealed, Logs: t.logs, Buckets: t.buckets, WrittenAt: t.clock})
	}
	t.committed = t.sealed
	if t.timers != nil {
		t.timers.confirm()
	}
	if t.parked != nil {
		t.parked.count.confirm()
	}
	t.forgetRefusals()
	t.memory.reset()
	t.dirty, t.steps, t.outputs, t.outMark = false, 0, t.outputs[:0], 0
	t.forgetFirings()
}

// updateBuckets notes, for a bucket that the transaction began, that it begins no earlier than the transaction's first
// record, and forgets expired ones.
func (t *Task) updateBuckets(written []Written) {
	live := t.buckets[:0:0]
	for i := range t.sources {
		s := &t.sources[i]
		if s.guard == nil || s.input.Replay || !s.isFirstOf(t.sources[:i]) {
			continue
		}
		id, current, horizon := s.store.ID(), s.guard.Horizon(t.now.markerTime)+uint64(s.guard.LiveBuckets())-1, s.guard.Horizon(t.now.markerTime)
		seen := false
		for _, b := range t.buckets {
			if b.Store == id && b.Bucket >= horizon {
				live = append(live, b)
				seen = seen || b.Bucket == current
			}
		}
		topic := t.cfg.Sub.Store(s.store.Name).Changelog
		for _, w := range written {
			if w.Topic == topic && !seen {
				live = append(live, statestore.BucketStart{Store: id, Bucket: current, Offset: w.First})
			}
		}
	}
	t.buckets = live
}

// Buckets are the live marker buckets with their first offsets in the changelog.
func (t *Task) Buckets() []statestore.BucketStart { return t.buckets }

// Abort drops everything since the last confirmed transaction. The positions are those of that transaction.
func (t *Task) Abort() {
	t.keepRefusals()
	t.to = destination{} // the abort may be for a topic that is gone
	if t.state != nil {
		t.state.Discard()
	}
	t.memory.reset()
	t.rewind()
}

// Committed is the checkpoint of the last confirmed transaction.
func (t *Task) Committed() *statestore.Checkpoint { return &t.committed }

// Logs are the positions in the changelogs as of the last confirmed transaction.
func (t *Task) Logs() []statestore.LogPosition { return t.logs }

// DropMemory forgets the memory of outputs instead of using it again: requests of a client that was closed may still read it.
// What it remembers of topics is forgotten, too.
func (t *Task) DropMemory() { t.memory, t.to = memory{}, destination{} }

// MemoryBytes is about the memory that the open transaction's outputs take.
func (t *Task) MemoryBytes() int64 { return t.memory.size() }
