package demo

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/oncemill/oncemill/examples/retail/byhand"
	"github.com/oncemill/oncemill/internal/graph"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/statestore/pebble"
)

// engineDir is where the state directory has its store.
const engineDir = "pebble"

// showState shows the judge the state of the worker, which has stopped.
func (t *trial) showState(ctx context.Context) error {
	t.waiting = "the reading of the state"
	if t.Variant == ByHand {
		store, err := byhand.Open(t.StateDir)
		if err != nil {
			return err
		}
		store.Show(t.judge)
		return store.Close()
	}
	engine, err := pebble.Open(pebble.Config{Dir: filepath.Join(t.StateDir, engineDir)})
	if err != nil {
		return err
	}
	db, err := statestore.Open(statestore.Config{Engine: engine})
	if err != nil {
		return errors.Join(err, engine.Close())
	}
	return errors.Join(t.showTasks(db), db.Close(ctx))
}

func (t *trial) showTasks(db *statestore.DB) error {
	ids, err := db.TaskIDs()
	if err != nil {
		return err
	}
	for _, id := range ids {
		for _, sub := range t.kafka.plan.Subs {
			if sub.Name != id.SubTopology {
				continue
			}
			if err := t.showTask(db, id, sub); err != nil {
				return problem.Wrap(problem.StoreIO, "task "+id.String(), err)
			}
		}
	}
	return nil
}

func (t *trial) showTask(db *statestore.DB, id statestore.TaskID, sub *graph.SubTopology) error {
	state, err := db.Acquire(id, sub.Declarations())
	if err != nil {
		return err
	}
	defer state.Release()
	for _, store := range sub.Stores {
		if store.Internal {
			continue
		}
		it := state.View(store.Declaration).Iterate(nil, nil, false)
		for it.Next() && err == nil {
			err = t.judge.Entry(store.Name, it.Key(), it.Value())
		}
		err = errors.Join(err, it.Err())
		it.Close()
		if err != nil {
			return err
		}
	}
	return nil
}
