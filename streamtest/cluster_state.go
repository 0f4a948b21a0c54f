package streamtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/oncemill/oncemill/dedup"
	"github.com/oncemill/oncemill/internal/graph"
	"github.com/oncemill/oncemill/record"
	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/statestore/memory"
)

// changelogs are the committed records of all changelogs, by topic.
type changelogs map[string][]record.Raw

func (c *Cluster) readChangelogs() changelogs {
	c.t.Helper()
	logs := changelogs{}
	for _, s := range c.plan.Subs {
		for _, st := range s.Stores {
			logs[st.Changelog] = c.Committed(st.Changelog)
		}
	}
	return logs
}

// ofTask yields the records of one task's store.
func (l changelogs) ofTask(st *graph.Store, partition int32, fn func(r *record.Raw)) {
	for i := range l[st.Changelog] {
		if r := &l[st.Changelog][i]; r.Partition == partition {
			fn(r)
		}
	}
}

// tasks are all tasks of the application.
func (c *Cluster) tasks() (ids []statestore.TaskID) {
	counts := map[string]int32{}
	for _, name := range c.ownedTopics() {
		counts[name] = c.partitionsOf(name)
	}
	for i, n := range c.plan.Partitions(counts) {
		for p := range n {
			ids = append(ids, statestore.TaskID{SubTopology: c.plan.Subs[i].Name, Partition: p})
		}
	}
	return ids
}

func (c *Cluster) sub(id statestore.TaskID) *graph.SubTopology {
	for _, s := range c.plan.Subs {
		if s.Name == id.SubTopology {
			return s
		}
	}
	return nil
}

// State returns everything in all stores as the changelogs have it, read by a fresh reader: the last committed value of
// each key. It uses no store.
func (c *Cluster) State() []Cell {
	c.t.Helper()
	return c.stateOf(c.readChangelogs())
}

func (c *Cluster) stateOf(logs changelogs) (cells []Cell) {
	c.t.Helper()
	for _, id := range c.tasks() {
		at := c.checkpointOf(logs, id)
		for _, st := range c.sub(id).Stores {
			live := map[string][]byte{}
			logs.ofTask(st, id.Partition, func(r *record.Raw) {
				if delete(live, string(r.Key)); r.Value != nil {
					live[string(r.Key)] = r.Value
				}
			})
			for key, value := range live {
				if st.Kind != statestore.KindMarkers || isLive(&at, st, key) {
					cells = append(cells, Cell{Task: id.String(), Store: st.Name, Key: []byte(key), Value: value})
				}
			}
		}
	}
	sortCells(cells)
	return cells
}

// checkpointOf is the last checkpoint record of a task.
func (c *Cluster) checkpointOf(logs changelogs, id statestore.TaskID) (at statestore.Checkpoint) {
	c.t.Helper()
	for _, st := range c.sub(id).Stores {
		if st.Kind != statestore.KindTask {
			continue
		}
		logs.ofTask(st, id.Partition, func(r *record.Raw) {
			var err error
			if at, err = statestore.DecodeCheckpoint(r.Value); err != nil {
				c.t.Fatalf("streamtest: %s: %v", r.Position, err)
			}
		})
	}
	return at
}

// restored is the state of one engine, brought up to the ends of the changelogs by the production store.
type fresh struct {
	db     *statestore.DB
	states []*statestore.Task // by c.tasks(), nil for one without stores or of another disk
}

func (f *fresh) close() error {
	for _, s := range f.states {
		if s != nil {
			s.Release()
		}
	}
	return f.db.Close(context.Background())
}

// restoreInto applies the changelogs to an engine. With all it holds every task, else those that the engine has.
func (c *Cluster) restoreInto(engine statestore.Engine, logs changelogs, all bool) (f *fresh, err error) {
	f = &fresh{}
	if f.db, err = statestore.Open(statestore.Config{Engine: engine}); err != nil {
		return nil, errors.Join(err, engine.Close())
	}
	has, err := f.db.TaskIDs()
	for _, id := range c.tasks() {
		if err != nil {
			break
		}
		var state *statestore.Task
		if sub := c.sub(id); sub.Stateful() && (all || slices.Contains(has, id)) {
			state, err = c.restoreTask(f.db, id, logs)
		}
		f.states = append(f.states, state)
	}
	if err != nil {
		return nil, errors.Join(err, f.close())
	}
	return f, nil
}

func (c *Cluster) restoreTask(db *statestore.DB, id statestore.TaskID, logs changelogs) (*statestore.Task, error) {
	sub := c.sub(id)
	state, err := db.Acquire(id, sub.Declarations())
	if err != nil {
		return nil, err
	}
	at, _ := state.Position()
	for _, st := range sub.Stores {
		logs.ofTask(st, id.Partition, func(r *record.Raw) {
			if err == nil && r.Offset >= logPosition(&at, st.Changelog).Next {
				err = state.ApplyRestored(st.Declaration, r.Key, r.Value, r.Value == nil)
			}
		})
	}
	if newest := c.checkpointOf(logs, id); newest.N > at.N {
		at.Checkpoint = newest
	}
	if err == nil && at.N > 0 {
		state.SetPosition(at)
	}
	return state, err
}

func (c *Cluster) dumpFresh(f *fresh) (cells []Cell, err error) {
	for i, id := range c.tasks() {
		if f.states[i] == nil {
			continue
		}
		for _, st := range c.sub(id).Stores {
			it := f.states[i].View(st.Declaration).Iterate(nil, nil, false)
			for it.Next() {
				cells = append(cells, Cell{Task: id.String(), Store: st.Name, Key: bytes.Clone(it.Key()), Value: bytes.Clone(it.Value())})
			}
			err = errors.Join(err, it.Err())
			it.Close()
		}
	}
	sortCells(cells)
	return cells, err
}

// CheckState demands that the state is the same in four places: as the changelogs say, restored from them into an empty
// store, and on the disk of each process, brought up to date from them. Nothing may be in flight: call Settle before. A disk
// with a task that it cannot continue, because the changelog was cut or compacted meanwhile, is none of its business.
func (c *Cluster) CheckState() {
	c.t.Helper()
	logs := c.readChangelogs()
	want := c.stateOf(logs)
	c.compareEngine("restored into an empty store", memory.New(), logs, want, true)
	for _, p := range c.Processes() {
		p.mu.Lock()
		copied := p.mu.disk.crashed(0, c.random())
		p.mu.Unlock()
		engine, err := copied.open(1<<20, func(string) {})
		if err != nil {
			c.t.Fatalf("streamtest: the disk of %s: %v", p.name, err)
		}
		c.compareEngine("of the disk of "+p.name, engine, logs, want, false)
	}
}

func (c *Cluster) compareEngine(what string, engine statestore.Engine, logs changelogs, want []Cell, all bool) {
	c.t.Helper()
	f, err := c.restoreInto(engine, logs, all)
	if err != nil {
		c.t.Fatalf("streamtest: the state %s: %v", what, err)
		return
	}
	got, err := c.dumpFresh(f)
	var part []Cell
	for i, id := range c.tasks() {
		if f.states[i] != nil {
			part = append(part, slices.DeleteFunc(slices.Clone(want), func(cell Cell) bool { return cell.Task != id.String() })...)
		}
	}
	sortCells(part)
	if err := errors.Join(err, compareCells(part, got), f.close()); err != nil {
		c.t.Fatalf("streamtest: the state %s is not what the changelogs say: %v", what, err)
	}
}

// FreshEntries returns the entries of a store, decoded, after a restore from the changelogs into an empty store; by
// partition and then in the order of the encoded keys.
func FreshEntries[K, V any](c *Cluster, store *statestore.KeyValueStore[K, V]) []statestore.Entry[K, V] {
	c.t.Helper()
	f, err := c.restoreInto(memory.New(), c.readChangelogs(), true)
	if err != nil {
		c.t.Fatalf("streamtest: %v", err)
		return nil
	}
	var out []statestore.Entry[K, V]
	for i, id := range c.tasks() {
		st := c.sub(id).Store(store.Declaration().Name)
		if st == nil || st.Declaration != store.Declaration() {
			continue
		}
		for e, entryErr := range store.All(scope{f.states[i]}) {
			if err = errors.Join(err, entryErr); entryErr != nil {
				break
			}
			out = append(out, e)
		}
	}
	if err := errors.Join(err, f.close()); err != nil {
		c.t.Fatalf("streamtest: store %s: %v", store.Declaration().Name, err)
	}
	return out
}

// Markers returns the live dedup markers as the changelogs have them.
func (c *Cluster) Markers() (out []dedup.Marker) {
	c.t.Helper()
	for _, cell := range c.cellsOf(statestore.KindMarkers) {
		m, err := dedup.DecodeMarker(cell.Value)
		if err != nil {
			c.t.Fatalf("streamtest: %s: %v", &cell, err)
		}
		out = append(out, m)
	}
	return out
}

// PendingTimers counts the timers that are set, as the changelogs have them.
func (c *Cluster) PendingTimers() (n int) {
	c.t.Helper()
	for _, cell := range c.cellsOf(statestore.KindTimers) {
		if cell.Key[0] == 'd' { // ordered by due time; the other half is the index
			n++
		}
	}
	return n
}

func (c *Cluster) cellsOf(kind statestore.Kind) []Cell {
	c.t.Helper()
	return slices.DeleteFunc(c.State(), func(cell Cell) bool {
		for _, s := range c.plan.Subs {
			if st := s.Store(cell.Store); st != nil && st.Kind == kind {
				return false
			}
		}
		return true
	})
}

// Transactions returns the number of transactions that the changelogs say a task has committed, by "<first source>_<partition>".
func (c *Cluster) Transactions(task string) uint64 {
	c.t.Helper()
	logs := c.readChangelogs()
	for _, id := range c.tasks() {
		if id.String() == task {
			return c.checkpointOf(logs, id).N
		}
	}
	c.t.Fatalf("streamtest: %s", fmt.Sprintf("there is no task %q", task))
	return 0
}
