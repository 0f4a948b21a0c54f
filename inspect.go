package oncemill

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/statestore/pebble"
)

// inspectCacheBytes is enough to walk over stores in order.
const inspectCacheBytes = 16 << 20

// StoredState is the state directory of an application that does not run.
type StoredState struct {
	// DB holds the stores as of their last checkpoint. Nothing is written to it.
	DB  *statestore.DB
	dir *directory
}

// OpenState opens a state directory for reading, and keeps its lock until Close. A directory that is in use, that belongs to
// another application, or that is of no application is refused: OM301, OM303, OM302; one
// that does not exist is OM305.
func OpenState(path, app string) (*StoredState, error) {
	d := &directory{path: path}
	const cure = "name the state directory of an application that has run"
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, problem.New(problem.DirectoryUnusable, path, "there is no such directory").WithCure(cure)
	}
	found, err := d.readIdentity()
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, problem.New(problem.DirectoryForeign, path, "it holds no %s", identityFile).
			WithCure(cure)
	}
	if d.id.App != app {
		return nil, problem.New(problem.DirectoryOtherApp, path, "it belongs to %q, this is %q", d.id.App, app)
	}
	if err := d.acquire(); err != nil {
		return nil, err
	}
	engine, err := pebble.Open(pebble.Config{Dir: d.enginePath(), CacheBytes: inspectCacheBytes})
	if err != nil {
		d.close()
		return nil, err
	}
	db, err := statestore.Open(statestore.Config{Engine: engine})
	if err != nil {
		d.close()
		return nil, errors.Join(err, engine.Close())
	}
	return &StoredState{DB: db, dir: d}, nil
}

// Close closes the store and lets the directory go. The tasks must be released.
func (s *StoredState) Close() error {
	err := s.DB.Close(context.Background())
	s.dir.close()
	return err
}
