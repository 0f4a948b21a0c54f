package simulation

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/oncemill/oncemill/statestore"
)

// watchedEngine tells a watch what a store writes.
type watchedEngine struct {
	statestore.Engine
	process string
	watch   *watch
	names   map[uint32]string // of the sub-topologies, by their ids
}

// Ingest implements statestore.Engine.
func (e *watchedEngine) Ingest(ctx context.Context, runs []statestore.Run) error {
	tasks := make([]string, len(runs))
	for i := range runs {
		tasks[i] = e.task(runs[i].Span.Lower)
	}
	e.watch.ingesting(e.process, tasks)
	defer e.watch.ingested(e.process, tasks)
	return e.Engine.Ingest(ctx, runs)
}

// Excise implements statestore.Engine.
func (e *watchedEngine) Excise(ctx context.Context, lower, upper []byte) error {
	err := e.Engine.Excise(ctx, lower, upper)
	if err == nil {
		e.watch.excised(e.process, e.task(lower))
	}
	return err
}

// task is the name of the task that a key of the engine belongs to: it begins with the id of the sub-topology and the partition.
func (e *watchedEngine) task(key []byte) string {
	if len(key) < 8 {
		return ""
	}
	return fmt.Sprintf("%s_%d", e.names[binary.BigEndian.Uint32(key)], binary.BigEndian.Uint32(key[4:]))
}
