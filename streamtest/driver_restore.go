package streamtest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/oncemill/oncemill/internal/graph"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/internal/task"
	"github.com/oncemill/oncemill/statestore"
)

// Restart kills all processes and starts them again: the open transaction is aborted, and the state comes from the last
// checkpoint on disk and the rest of the changelogs. It must be what it was.
func (d *Driver) Restart() {
	if d.tb != nil {
		d.tb.Helper()
	}
	if d.err == nil {
		d.land(nil, false)
		d.fail(d.restart())
	}
}

// RestartWithEmptyDisk is Restart after all disks were lost and the changelogs were compacted: the state comes from them
// alone.
func (d *Driver) RestartWithEmptyDisk() {
	if d.tb != nil {
		d.tb.Helper()
	}
	if d.err == nil {
		d.land(nil, false)
		d.fail(d.restartEmpty())
	}
}

func (d *Driver) restartEmpty() error {
	d.compact(false)
	for _, s := range d.slots {
		s.process = 0
	}
	before, err := d.committedState()
	if err != nil {
		return err
	}
	if err := d.shutdown(); err != nil {
		return err
	}
	for _, p := range d.processes {
		p.disk = d.opts.Disk()
	}
	return d.reopen(before)
}

func (d *Driver) restart() error {
	before, err := d.committedState()
	if err != nil {
		return err
	}
	if err := d.shutdown(); err != nil {
		return err
	}
	return d.reopen(before)
}

func (d *Driver) reopen(before []Cell) error {
	if err := d.openAll(); err != nil {
		return err
	}
	return d.checkSame(before)
}

// Move moves the tasks of a partition to the other of two processes, each with a disk of its own. What the new owner still
// has of them from before is brought up to date from the changelogs.
func (d *Driver) Move(partition int32) {
	if d.tb != nil {
		d.tb.Helper()
	}
	if d.err == nil {
		d.abort()
		d.fail(d.move(partition))
	}
}

func (d *Driver) move(partition int32) error {
	before, err := d.committedState()
	if err != nil {
		return err
	}
	for _, s := range d.slots {
		if s.partition != partition {
			continue
		}
		if err := s.stop(); err != nil {
			return err
		}
		s.process = 1 - s.process
		if err := d.start(s); err != nil {
			return err
		}
	}
	return d.checkSame(before)
}

// Compact compacts the changelogs, and cuts those of markers to the buckets that live, as the application does in Kafka.
func (d *Driver) Compact() {
	if d.err == nil {
		d.compact(true)
	}
}

func (d *Driver) compact(tombstones bool) {
	for _, s := range d.slots {
		for _, st := range s.sub.Stores {
			log := d.changelog(s, st)
			if st.Kind != statestore.KindMarkers {
				log.compact(tombstones)
				continue
			}
			cut := int64(-1)
			for _, b := range s.task.Buckets() {
				if b.Store == st.ID() && (cut < 0 || b.Offset < cut) {
					cut = b.Offset
				}
			}
			log.cut(cut)
		}
	}
}

// Recreate deletes a topic that nobody else writes to and creates it again, empty and with another topic id, and starts the
// processes again. It is an operator's deed that the application accepted.
func (d *Driver) Recreate(topic string) {
	if d.tb != nil {
		d.tb.Helper()
	}
	if d.err != nil {
		return
	}
	t := d.topics.byName[topic]
	if t == nil {
		d.failf("topic %q: the topology does not have it", topic)
		return
	}
	d.land(nil, false)
	t.recreate()
	d.fail(d.restart())
}

func (d *Driver) changelog(s *slot, st *graph.Store) *partition {
	return d.topics.byName[st.Changelog].partitions[s.partition]
}

// start makes the task of a slot, with its state brought up to what was committed.
func (d *Driver) start(s *slot) error {
	at := statestore.Position{Checkpoint: s.group}
	if s.sub.Stateful() {
		var err error
		if s.state, err = d.processes[s.process].db.Acquire(s.id, s.sub.Declarations()); err != nil {
			return fmt.Errorf("task %s: %w", s.id, err)
		}
		if at, err = d.restore(s); err != nil {
			return fmt.Errorf("task %s: restore: %w", s.id, err)
		}
	}
	cfg := task.Config{
		Plan: d.plan, Sub: s.sub, Partition: s.partition, State: s.state, Topics: &d.topics,
		Wait: d.wait, Now: d.Now, MaxTimers: d.opts.MaxTimers,
		Skew: task.Skew{Future: d.opts.FutureSkew, Refuse: d.opts.RefuseSkew},
	}
	for _, in := range s.sub.Inputs {
		cfg.TopicIDs = append(cfg.TopicIDs, d.topics.byName[in.Topic].id)
	}
	var err error
	s.task, err = task.New(cfg, at)
	return err
}

// restore replays the changelogs from the position of the state on disk, and holds the result against what the group
// committed.
func (d *Driver) restore(s *slot) (statestore.Position, error) {
	at, _ := s.state.Position()
	if at.N > s.group.N {
		return at, problem.New(problem.StateAhead, "task "+s.id.String(), "the disk is at transaction %d, the group at %d", at.N, s.group.N)
	}
	for _, st := range s.sub.Stores {
		if err := d.replay(s, st, &at); err != nil {
			return at, err
		}
	}
	if at.N != s.group.N {
		return at, problem.New(problem.StateBehind, "task "+s.id.String(), "it was restored to transaction %d, committed are %d", at.N, s.group.N)
	}
	at.WrittenAt = time.Time{}
	if at.N > 0 {
		s.state.SetPosition(at)
	}
	return at, nil
}

// replay applies the rest of one changelog.
func (d *Driver) replay(s *slot, st *graph.Store, at *statestore.Position) error {
	position := logPosition(at, st.Changelog)
	log := d.changelog(s, st)
	for e := log.from(position.Next); e != nil; e = log.from(position.Next) {
		if err := d.applyRestored(s, st, e); err != nil {
			return err
		}
		switch st.Kind {
		case statestore.KindTask:
			c, err := statestore.DecodeCheckpoint(e.raw.Value)
			if err != nil {
				return err
			}
			at.Checkpoint = c
		case statestore.KindMarkers:
			noteBucket(at, st, e)
		}
		position.Next, position.LeaderEpoch = e.raw.Offset+1, e.raw.LeaderEpoch
	}
	return nil
}

func logPosition(at *statestore.Position, topic string) *statestore.LogPosition {
	i := slices.IndexFunc(at.Logs, func(l statestore.LogPosition) bool { return l.Topic == topic })
	if i < 0 {
		at.Logs = append(at.Logs, statestore.LogPosition{Topic: topic})
		i = len(at.Logs) - 1
	}
	return &at.Logs[i]
}

// noteBucket remembers the first record of a bucket of markers.
func noteBucket(at *statestore.Position, st *graph.Store, e *entry) {
	bucket := binary.BigEndian.Uint64(e.raw.Key)
	for _, b := range at.Buckets {
		if b.Store == st.ID() && b.Bucket == bucket {
			return
		}
	}
	at.Buckets = append(at.Buckets, statestore.BucketStart{Store: st.ID(), Bucket: bucket, Offset: e.raw.Offset})
}

func (d *Driver) applyRestored(s *slot, st *graph.Store, e *entry) error {
	apply := func() error {
		return s.state.ApplyRestored(st.Declaration, e.raw.Key, e.raw.Value, e.raw.Value == nil)
	}
	err := apply()
	if !errors.Is(err, statestore.ErrBudget) {
		return err
	}
	ticket := d.processes[s.process].db.Checkpoint(s.state)
	<-ticket.Done()
	if err := errors.Join(ticket.Err(), s.state.Tick()); err != nil {
		return err
	}
	return apply()
}

// checkSame demands the state that was there before.
func (d *Driver) checkSame(before []Cell) error {
	after, err := d.dump()
	if err != nil {
		return err
	}
	if err := compareCells(before, after); err != nil {
		return fmt.Errorf("the restored state is not what was committed: %w", err)
	}
	return nil
}

// checkState demands that the state is what the changelogs say.
func (d *Driver) checkState() error {
	logged, err := d.committedState()
	if err != nil {
		return err
	}
	state, err := d.dump()
	if err != nil {
		return err
	}
	if err := compareCells(logged, state); err != nil {
		return fmt.Errorf("the state is not what the changelogs say: %w", err)
	}
	return nil
}

// committedState is the state as the changelogs have it: the last committed value of each key. It is computed by itself,
// apart from the stores.
func (d *Driver) committedState() ([]Cell, error) {
	var cells []Cell
	for _, s := range d.slots {
		for _, st := range s.sub.Stores {
			live := map[string][]byte{}
			log := d.changelog(s, st)
			for e := log.from(0); e != nil; e = log.from(e.raw.Offset + 1) {
				if e.raw.Value == nil {
					delete(live, string(e.raw.Key))
				} else {
					live[string(e.raw.Key)] = e.raw.Value
				}
			}
			for key, value := range live {
				if st.Kind != statestore.KindMarkers || isLive(&s.group, st, key) {
					cells = append(cells, Cell{Task: s.id.String(), Store: st.Name, Key: []byte(key), Value: value})
				}
			}
		}
	}
	sortCells(cells)
	return cells, nil
}

func isLive(c *statestore.Checkpoint, st *graph.Store, key string) bool {
	for _, h := range c.Horizons {
		if h.Store == st.ID() {
			return binary.BigEndian.Uint64([]byte(key)) >= h.Bucket
		}
	}
	return true
}

func compareCells(want, got []Cell) error {
	for i := range max(len(want), len(got)) {
		switch {
		case i >= len(got):
			return fmt.Errorf("missing: %s", &want[i])
		case i >= len(want):
			return fmt.Errorf("too much: %s", &got[i])
		case want[i].compare(&got[i]) < 0:
			return fmt.Errorf("missing: %s", &want[i])
		case want[i].compare(&got[i]) > 0:
			return fmt.Errorf("too much: %s", &got[i])
		case !bytes.Equal(want[i].Value, got[i].Value):
			return fmt.Errorf("%s, want the value %q", &got[i], want[i].Value)
		}
	}
	return nil
}
