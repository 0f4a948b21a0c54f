//go:build kafka

package kafkatest

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/oncemill/oncemill/examples/retail"
	"github.com/oncemill/oncemill/internal/graph"
	"github.com/oncemill/oncemill/kafkatest/kafkaproc"
	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/statestore/pebble"
)

// sameAsChangelogs compares the stores in the directories of stopped workers with their changelogs as Java reads them: for
// each task the directory that is furthest must hold what the changelogs hold, marker stores included. The engine is
// opened directly, so that nothing is restored on the way.
func sameAsChangelogs(r *retailRun, dirs ...string) {
	r.t.Helper()
	plan, err := retail.Job(retail.JobOptions{App: r.app}).Build()
	if err != nil {
		r.t.Fatal(err)
	}
	logs := readChangelogs(r, plan)
	furthest := map[statestore.TaskID]diskTask{}
	for _, dir := range dirs {
		for id, found := range readDisk(r.t, plan, dir) {
			if found.n >= furthest[id].n {
				furthest[id] = found
			}
		}
	}
	for _, sub := range plan.Subs {
		for partition := range int32(retailPartitions) {
			id := statestore.TaskID{SubTopology: sub.Name, Partition: partition}
			got, ok := furthest[id]
			if !ok {
				r.t.Errorf("task %s is in none of the directories", id)
				continue
			}
			for _, st := range sub.Stores {
				place := fmt.Sprintf("%s/%d", st.Changelog, partition)
				if st.Kind != statestore.KindTask {
					sameEntries(r.t, place, got.stores[st.Name], logs[place])
				}
			}
		}
	}
}

// readChangelogs returns the last value of each key, by "changelog/partition".
func readChangelogs(r *retailRun, plan *graph.Plan) map[string]map[string][]byte {
	r.t.Helper()
	var topics []string
	for _, sub := range plan.Subs {
		for _, st := range sub.Stores {
			topics = append(topics, st.Changelog)
		}
	}
	logs := map[string]map[string][]byte{}
	err := r.cluster.ConsumeTopics(r.ctx, topics, kafkaproc.ReadCommitted, func(record rawRecord) error {
		place := fmt.Sprintf("%s/%d", record.Topic, record.Partition)
		if logs[place] == nil {
			logs[place] = map[string][]byte{}
		}
		if record.Value == nil {
			delete(logs[place], string(record.Key))
		} else {
			logs[place][string(record.Key)] = record.Value
		}
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return logs
}

// diskTask is what a directory holds of a task.
type diskTask struct {
	n      uint64
	stores map[string]map[string][]byte
}

func readDisk(t *testing.T, plan *graph.Plan, dir string) map[statestore.TaskID]diskTask {
	t.Helper()
	engine, err := pebble.Open(pebble.Config{Dir: dir + "/pebble"})
	if err != nil {
		t.Fatal(err)
	}
	db, err := statestore.Open(statestore.Config{Engine: engine})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	ids, err := db.TaskIDs()
	if err != nil {
		t.Fatal(err)
	}
	found := map[statestore.TaskID]diskTask{}
	for _, sub := range plan.Subs {
		for _, id := range ids {
			if id.SubTopology == sub.Name {
				found[id] = readTask(t, db, id, sub)
			}
		}
	}
	return found
}

func readTask(t *testing.T, db *statestore.DB, id statestore.TaskID, sub *graph.SubTopology) diskTask {
	t.Helper()
	task, err := db.Acquire(id, sub.Declarations())
	if err != nil {
		t.Fatal(err)
	}
	defer task.Release()
	at, _ := task.Position()
	out := diskTask{n: at.N, stores: map[string]map[string][]byte{}}
	for _, st := range sub.Stores {
		entries := map[string][]byte{}
		it := task.View(st.Declaration).Iterate(nil, nil, false)
		for it.Next() {
			entries[string(it.Key())] = bytes.Clone(it.Value())
		}
		if err := it.Err(); err != nil {
			t.Fatal(err)
		}
		it.Close()
		out.stores[st.Name] = entries
	}
	return out
}

func sameEntries(t *testing.T, place string, disk, changelog map[string][]byte) {
	t.Helper()
	different := 0
	for key, want := range changelog {
		if got, ok := disk[key]; !ok || !bytes.Equal(got, want) {
			if different++; different == 1 {
				t.Errorf("%s: key %q is %q on disk, %q in the changelog", place, key, got, want)
			}
		}
	}
	if different > 0 || len(disk) != len(changelog) {
		t.Errorf("%s: %d of %d keys differ; the disk has %d", place, different, len(changelog), len(disk))
	}
}
