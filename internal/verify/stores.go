package verify

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/oncemill/oncemill/internal/graph"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/statestore"
)

// compareStore holds a store against its changelog. The store may be at an earlier transaction: it is compared with the
// changelog up to the store's own position.
func (r *run) compareStore(t *taskCut, st *graph.Store, log *sorter) error {
	at := int64(0)
	for _, l := range t.position.Logs {
		if l.Topic == st.Changelog {
			at = l.Next
		}
	}
	j := &storeJoin{run: r, check: CheckState, task: t, store: st, other: "the store",
		horizon: max(horizonIn(t.position.Horizons, st.ID()), horizonIn(t.latest.Horizons, st.ID()))}
	return j.join(log, at, t.state)
}

// storeJoin compares the keys of a changelog with those of a state, key by key.
type storeJoin struct {
	*run
	check   string
	task    *taskCut
	store   *graph.Store
	horizon uint64
	other   string // what the state is called in findings
	doubt   string // why a difference is none; empty where it is a finding
}

// join compares the changelog below an offset. Of a key that was written again after it, compaction may have removed the record
// that the state has: such a key proves nothing.
func (j *storeJoin) join(log *sorter, below int64, state *statestore.Task) error {
	c, err := cellsOf(log, below)
	if err != nil {
		return err
	}
	it := state.View(j.store.Declaration).Iterate(nil, nil, false)
	defer it.Close()
	next := func() bool {
		for it.Next() {
			if j.Sample.hasKey(j.store.Kind, it.Key()) {
				return true
			}
		}
		return false
	}
	logged, stored := c.next(), next()
	for logged || stored {
		order := -1
		switch {
		case !logged:
			order = 1
		case stored:
			order = bytes.Compare(c.key, it.Key())
		}
		switch {
		case order < 0 && !c.present: // deleted, and not there
		case order <= 0 && c.later:
			j.skip(j.check, "written again after the store's checkpoint")
		case order < 0:
			j.key(c.key, c.value, nil, false, c.offset)
		case order == 0 && c.present:
			j.key(c.key, c.value, it.Value(), true, c.offset)
		case order >= 0:
			j.key(it.Key(), nil, it.Value(), true, -1)
		}
		if order <= 0 {
			logged = c.next()
		}
		if order >= 0 {
			stored = next()
		}
	}
	return errors.Join(c.err, it.Err())
}

// key compares one key; offset -1 says that the changelog has nothing, or a tombstone.
func (j *storeJoin) key(key, logged, stored []byte, has bool, offset int64) {
	if j.store.Kind == statestore.KindMarkers && len(key) >= 8 && binary.BigEndian.Uint64(key) < j.horizon || !j.Sample.hasKey(j.store.Kind, key) {
		return // expired, or not in the sample
	}
	equal := has && offset >= 0 && bytes.Equal(logged, stored)
	if !equal && j.doubt != "" {
		j.skip(j.check, j.doubt)
		return
	}
	if j.run.check(j.check).Checked++; equal {
		return
	}
	e := evidence{place: fmt.Sprintf("task %s, store %s, key %s", j.task.id, j.store.Name, excerpt(key)), task: j.task.id.String(), store: j.store.Name,
		key: excerpt(key), records: []Spot{{j.store.Changelog, j.task.id.Partition, offset}}}
	e.has, e.wants = excerpts(stored, logged)
	at := ""
	if offset >= 0 {
		at = fmt.Sprintf(" at offset %d", offset)
	} else {
		e.wants = nothing
	}
	if !has {
		e.has = nothing
	}
	j.found(j.check, problem.FindingState, e, "the changelog has %s%s, %s %s", e.wants, at, j.other, e.has)
}

// nothing stands for a value where there is no key.
const nothing = "nothing"

func horizonIn(list []statestore.Horizon, store uint32) uint64 {
	for _, h := range list {
		if h.Store == store {
			return h.Bucket
		}
	}
	return 0
}

// stateWithoutPosition looks at a store of a task whose state directory has no position of it. The task may have run elsewhere,
// or its disk may have been lost, and nothing can be compared. But keys without a position are wrong: a checkpoint writes both.
func (r *run) stateWithoutPosition(t *taskCut, st *graph.Store) error {
	if t.ours {
		r.skip(CheckState, noState)
	}
	it := t.state.View(st.Declaration).Iterate(nil, nil, false)
	defer it.Close()
	if it.Next() {
		r.check(CheckState).Checked++
		e := evidence{place: fmt.Sprintf("task %s, store %s", t.id, st.Name), task: t.id.String(), store: st.Name,
			records: []Spot{{st.Changelog, t.id.Partition, -1}}, key: excerpt(it.Key()), has: excerpt(it.Value())}
		r.found(CheckState, problem.FindingState, e, "it has keys, such as %s, and the task no position: a checkpoint writes both at once", e.key)
	}
	return it.Err()
}

// noState is why a store is not compared.
const noState = "stores of tasks of which the state directory has nothing: they ran elsewhere, or the state was lost"
