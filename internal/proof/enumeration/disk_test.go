package enumeration_test

import (
	"context"
	"time"

	"github.com/oncemill/oncemill"
	"github.com/oncemill/oncemill/statestore"
)

// quiet is a disk that is written while everything else waits, and comes to rest before its writer goes on. The engine compacts on
// goroutines of its own, and who has a checkpoint written goes on beside it: what is unsynced when would be up to the scheduler.
type quiet struct{ statestore.Engine }

// Ingest implements statestore.Engine.
func (q quiet) Ingest(ctx context.Context, runs []statestore.Run) error {
	atRest()
	defer atRest()
	return q.Engine.Ingest(ctx, runs)
}

// Excise implements statestore.Engine.
func (q quiet) Excise(ctx context.Context, lower, upper []byte) error {
	atRest()
	defer atRest()
	return q.Engine.Excise(ctx, lower, upper)
}

// atRest waits until everything else in the bubble waits for time to pass.
func atRest() { <-time.After(time.Nanosecond) }

// quietly makes the disk of a process quiet.
func quietly(cfg *oncemill.Config) {
	open := cfg.OpenEngine
	cfg.OpenEngine = func(cacheBytes int64) (statestore.Engine, error) {
		engine, err := open(cacheBytes)
		if err != nil {
			return nil, err
		}
		atRest()
		return quiet{engine}, nil
	}
}
