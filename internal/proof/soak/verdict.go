package soak

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/internal/guest"
	"github.com/oncemill/oncemill/internal/proof/judge"
	"github.com/oncemill/oncemill/internal/verify/kafkalog"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/statestore"
)

// judge shows everything to the judge: the logs, the state as the changelogs have it, the positions. Then it compares the stores on
// disk with the changelogs.
func (s *soak) judge(ctx context.Context) (*judge.Verdict, error) {
	s.Watch.Stage(StageJudge)
	details, err := s.kafka.Admin.ListTopics(ctx, s.kafka.names.Commands)
	if err = errors.Join(err, details.Error()); err != nil {
		return nil, guest.Failed("Metadata", err)
	}
	j := judge.New(s.kafka.names, window, details[s.kafka.names.Commands].ID)
	ends, err := s.showLogs(ctx, j)
	if err != nil {
		return nil, err
	}
	logs, err := s.changelogs(ctx)
	if err != nil {
		return nil, err
	}
	logs.show(j)
	if err := s.showPositions(ctx, j, ends); err != nil {
		return nil, err
	}
	verdict := j.Verdict()
	return verdict, s.compareDisks(logs, verdict)
}

// showLogs shows the topics. It returns the offsets behind the last record of each partition.
func (s *soak) showLogs(ctx context.Context, j *judge.Judge) (map[topicPartition]int64, error) {
	ends := map[topicPartition]int64{}
	for _, part := range []struct {
		topic string
		show  func(*record.Raw)
	}{
		{s.kafka.names.Commands, j.Command}, {s.kafka.names.Replays, j.Replay}, {s.kafka.names.Letters, j.Letter},
		{s.kafka.names.Events, j.Event}, {s.kafka.names.ByProduct, j.Moved}, {s.kafka.names.Totals, j.Total},
	} {
		err := s.Reader.Read(ctx, []string{part.topic}, func(r *record.Raw) error {
			at := topicPartition{r.Topic, r.Partition}
			if r.Offset < ends[at] {
				return fmt.Errorf("%s was read after offset %d: the reader of the judge does not keep the order", r.Position, ends[at]-1)
			}
			ends[at] = r.Offset + 1
			part.show(r)
			s.Watch.Read(1)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return ends, nil
}

type topicPartition struct {
	topic     string
	partition int32
}

// changelogs are the last values of all keys, by store and partition.
type changelogs map[cell]map[string][]byte

type cell struct {
	store     string
	partition int32
}

// changelogs reads the state as the changelogs have it.
func (s *soak) changelogs(ctx context.Context) (changelogs, error) {
	stores := map[string]string{} // by topic
	var topics []string
	for _, sub := range s.kafka.plan.Subs {
		for _, st := range sub.Stores {
			stores[st.Changelog] = st.Name
			topics = append(topics, st.Changelog)
		}
	}
	logs := changelogs{}
	return logs, s.Reader.Read(ctx, topics, func(r *record.Raw) error {
		s.Watch.Read(1)
		at := cell{stores[r.Topic], r.Partition}
		if logs[at] == nil {
			logs[at] = map[string][]byte{}
		}
		if r.Value == nil {
			delete(logs[at], string(r.Key))
		} else {
			logs[at][string(r.Key)] = bytes.Clone(r.Value)
		}
		return nil
	})
}

// show shows the cells to the judge.
func (l changelogs) show(j *judge.Judge) {
	for at, entries := range l {
		for key, value := range entries {
			j.Cell(at.store, at.partition, []byte(key), value)
		}
	}
}

// showPositions shows the committed positions. A topic that is written in transactions ends in their markers, which need not be
// committed: its end is behind its last record.
func (s *soak) showPositions(ctx context.Context, j *judge.Judge, ends map[topicPartition]int64) error {
	log, err := kafkalog.Open(s.Seeds, s.Contact, s.clientOptions()...)
	if err != nil {
		return err
	}
	defer log.Close()
	inputs := map[string]int32{}
	for _, topic := range s.kafka.inputs() {
		inputs[topic] = s.Partitions
	}
	if _, err := log.Topics(ctx, s.kafka.inputs()); err != nil {
		return err
	}
	committed, err := log.Committed(ctx, s.App, inputs)
	if err != nil {
		return err
	}
	for topic, positions := range committed {
		for p, at := range positions {
			end, offset := ends[topicPartition{topic, int32(p)}], at.Offset
			if topic == s.kafka.names.ByProduct {
				offset = min(offset, end)
			}
			j.Position(topic, int32(p), offset, end)
		}
	}
	return nil
}

// compareDisks compares the stores on disk with the changelogs: of each task the directory that is furthest must hold what the
// changelogs hold, byte by byte.
func (s *soak) compareDisks(logs changelogs, v *judge.Verdict) error {
	furthest := map[statestore.TaskID]disk{}
	for _, dir := range s.fleet.dirs() {
		if err := s.openDisk(dir, furthest, nil); err != nil {
			return err
		}
	}
	found := func(format string, args ...any) {
		v.Counts[judge.State]++
		if v.Counts[judge.State] <= mostShown {
			v.Violations = append(v.Violations, judge.Violation{Kind: judge.State, Text: fmt.Sprintf(format, args...)})
		}
	}
	for _, sub := range s.kafka.plan.Subs {
		for p := range s.Partitions {
			id := statestore.TaskID{SubTopology: sub.Name, Partition: p}
			at, there := furthest[id]
			if !there {
				found("task %s is in none of the directories", id)
				continue
			}
			err := s.openDisk(at.dir, map[statestore.TaskID]disk{id: at}, func(store string, entries map[string][]byte) {
				logs.compare(cell{store, p}, entries, at.dir, found)
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// mostShown bounds the examples.
const mostShown = 10

// compare demands that a store on disk is equal to its changelog.
func (l changelogs) compare(at cell, entries map[string][]byte, dir string, found func(format string, args ...any)) {
	log := l[at]
	if strings.HasSuffix(at.store, markersSuffix) {
		log = withoutExpired(log, entries)
	}
	for _, key := range sortedKeys(log) {
		value, there := entries[key]
		if !there {
			found("%s/%d: key %q of the changelog is not in %s", at.store, at.partition, key, dir)
		} else if !bytes.Equal(value, log[key]) {
			found("%s/%d: key %q is %q in the changelog, %q in %s", at.store, at.partition, key, log[key], value, dir)
		}
	}
	for _, key := range sortedKeys(entries) {
		if _, there := log[key]; !there {
			found("%s/%d: key %q in %s is not in the changelog", at.store, at.partition, key, dir)
		}
	}
}

// markersSuffix is that of the names of stores of markers.
const markersSuffix = "-markers"

// withoutExpired leaves out of a changelog of markers what has expired: it stays in the log until it is cut. A marker lives while its
// bucket is that of marker time or one of the two before it; marker time may be in the bucket behind the last one that was
// written, so one bucket may be there or not, but only as a whole.
func withoutExpired(log, entries map[string][]byte) map[string][]byte {
	bucket := func(key string) uint64 { return binary.BigEndian.Uint64([]byte(key)[:8]) }
	newest, onDisk := uint64(0), map[uint64]bool{}
	for key := range log {
		newest = max(newest, bucket(key))
	}
	for key := range entries {
		onDisk[bucket(key)] = true
	}
	live := map[string][]byte{}
	for key, value := range log {
		if b := bucket(key); b+1 >= newest || b+2 == newest && onDisk[b] {
			live[key] = value
		}
	}
	return live
}

func sortedKeys(m map[string][]byte) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// disk is where a task is furthest.
type disk struct {
	dir string
	n   uint64
}

// openDisk opens a state directory. Without show it notes which tasks are furthest there; with it, it shows the stores of the
// tasks that it is given.
func (s *soak) openDisk(dir string, tasks map[statestore.TaskID]disk, show func(store string, entries map[string][]byte)) (err error) {
	state, err := oncemill.OpenState(dir, s.App)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, state.Close()) }()
	ids, err := state.DB.TaskIDs()
	if err != nil {
		return err
	}
	for _, sub := range s.kafka.plan.Subs {
		for _, id := range ids {
			if _, wanted := tasks[id]; id.SubTopology != sub.Name || show != nil && !wanted {
				continue
			}
			task, err := state.DB.Acquire(id, sub.Declarations())
			if err != nil {
				return err
			}
			if at, has := task.Position(); show == nil && has && at.N >= tasks[id].n {
				tasks[id] = disk{dir, at.N}
			}
			for _, st := range sub.Stores {
				if show == nil || st.Kind == statestore.KindTask {
					continue
				}
				entries, err := read(task.View(st.Declaration))
				if err != nil {
					task.Release()
					return err
				}
				show(st.Name, entries)
			}
			task.Release()
		}
	}
	return nil
}

// read reads a store.
func read(v *statestore.View) (map[string][]byte, error) {
	entries := map[string][]byte{}
	it := v.Iterate(nil, nil, false)
	defer it.Close()
	for it.Next() {
		entries[string(it.Key())] = bytes.Clone(it.Value())
	}
	return entries, it.Err()
}
