package statestore_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/statestore/memory"
)

// closedEngine tells when it is closed.
type closedEngine struct {
	statestore.Engine
	closed chan struct{}
}

func (e *closedEngine) Close() error {
	defer close(e.closed)
	return e.Engine.Close()
}

// A Close that gives up leaves nothing behind: when the write that took so long has ended, the engine is closed.
func TestCloseThatGivesUpClosesTheEngineLater(t *testing.T) {
	gate := make(chan struct{})
	engine := &closedEngine{memory.New(), make(chan struct{})}
	r := newRig(t, func(c *statestore.Config) {
		c.Engine = engine
		c.Hooks.BeforeIngest = func() { <-gate }
	})
	task := r.acquire(0)
	r.commit(task, 1, "a=1")
	task.Release()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := r.db.Close(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("Close: %v", err)
	}
	if ids := r.db.Unwritten(); len(ids) != 0 {
		t.Fatalf("%v are said to be unwritten while they are written", ids)
	}
	select {
	case <-engine.closed:
		t.Fatal("the engine was closed under its writer")
	default:
	}
	close(gate)
	select {
	case <-engine.closed:
	case <-time.After(time.Minute):
		t.Fatal("the engine was never closed")
	}
}
