package oncemill

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/statestore/memory"
)

// slowToClose is an engine whose Close waits.
type slowToClose struct {
	statestore.Engine
	release chan struct{}
}

func (e slowToClose) Close() error {
	<-e.release
	return e.Engine.Close()
}

// A stop gives up after ShutdownTimeout, but the store may still be written then: nobody else gets the directory before it is closed.
func TestADirectoryStaysLockedUntilItsStoreIsClosed(t *testing.T) {
	path := t.TempDir()
	dir, err := openDirectory(path, "app", "a")
	if err != nil {
		t.Fatal(err)
	}
	engine := slowToClose{memory.New(), make(chan struct{})}
	a := &App{cfg: &Config{Logger: slog.New(slog.DiscardHandler), ShutdownTimeout: time.Millisecond}}
	if a.db, err = statestore.Open(statestore.Config{Engine: engine}); err != nil {
		t.Fatal(err)
	}
	if err := a.closeState(t.Context()); !errors.Is(err, &problem.Error{Code: problem.ShutdownTimeout}) {
		t.Fatalf("the stop ended with %v", err)
	}
	unlocked := a.letGo(dir)
	select {
	case <-unlocked:
		t.Error("the directory is unlocked")
	default:
	}
	if _, err := openDirectory(path, "app", "a"); !errors.Is(err, &problem.Error{Code: problem.DirectoryInUse}) {
		t.Fatalf("while the store is open: %v", err)
	}
	close(engine.release)
	<-unlocked
	again, err := openDirectory(path, "app", "a")
	if err != nil {
		t.Fatal(err)
	}
	again.close()
}
