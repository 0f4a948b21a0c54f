package pebble_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/statestore/pebble"
)

var words = &statestore.Declaration{Name: "words", Kind: statestore.KindKeyValue}

// openDB opens a DB whose clock moves on by a minute with each look, so that no retry waits.
func openDB(t *testing.T, cfg pebble.Config, onCheckpoint func(statestore.CheckpointInfo)) *statestore.DB {
	t.Helper()
	var minutes atomic.Int64
	passed := make(chan time.Time)
	close(passed)
	db, err := statestore.Open(statestore.Config{
		Engine: open(t, cfg), OnCheckpoint: onCheckpoint,
		Now:   func() time.Time { return time.Unix(minutes.Add(1)*60, 0) },
		After: func(time.Duration) <-chan time.Time { return passed },
	})
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func closeDB(t *testing.T, db *statestore.DB) {
	t.Helper()
	if err := db.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
}

const taskKeys = 20_000

func taskID(partition int32) statestore.TaskID {
	return statestore.TaskID{SubTopology: "people", Partition: partition}
}

func wordKey(i int) []byte { return fmt.Appendf(nil, "w%06d", i) }

// restore fills a task as from its changelog, and writes it.
func restore(t *testing.T, db *statestore.DB, partition int32, value string) {
	t.Helper()
	task, err := db.Acquire(taskID(partition), []*statestore.Declaration{words})
	if err != nil {
		t.Fatal(err)
	}
	for i := range taskKeys {
		if err := task.ApplyRestored(words, wordKey(i), []byte(value), false); err != nil {
			t.Fatal(err)
		}
	}
	task.SetPosition(statestore.Position{Checkpoint: statestore.Checkpoint{N: 7}})
	ticket := db.Checkpoint(task)
	<-ticket.Done()
	if ticket.Err() != nil {
		t.Fatal(ticket.Err())
	}
	task.Release()
}

// readAll reads a task through a new owner: the first error, if there is one.
func readAll(db *statestore.DB, partition int32, value string) error {
	task, err := db.Acquire(taskID(partition), []*statestore.Declaration{words})
	if err != nil {
		return err
	}
	defer task.Release()
	for i := range taskKeys {
		v, found, err := task.View(words).Get(wordKey(i))
		if err != nil {
			return err
		}
		if !found || string(v) != value {
			return fmt.Errorf("key %d: %q, %v", i, v, found)
		}
	}
	return nil
}

// A full disk fails checkpoints as long as it is full; nothing is lost, and nothing is there twice.
func TestAFullDiskOnlyDelaysCheckpoints(t *testing.T) {
	var refusals atomic.Int64
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if strings.Contains(op.Path, "staging") && op.Kind == errorfs.OpFileWrite && refusals.Add(-1) >= 0 {
			return syscall.ENOSPC
		}
		return nil
	}))
	var failed atomic.Int64
	db := openDB(t, pebble.Config{FS: fs}, func(i statestore.CheckpointInfo) {
		if errors.Is(i.Err, syscall.ENOSPC) {
			failed.Add(1)
		}
	})
	refusals.Store(5)
	restore(t, db, 0, "value")
	if failed.Load() == 0 {
		t.Fatal("no checkpoint failed")
	}
	if err := readAll(db, 0, "value"); err != nil {
		t.Fatal(err)
	}
	closeDB(t, db)
}

// A damaged table spans tasks: reading says so with its code, Reset removes it, and a restore makes the state whole again.
func TestADamagedStoreIsResetAndRestored(t *testing.T) {
	mem := vfs.NewMem()
	db := openDB(t, pebble.Config{FS: mem}, nil)
	for p := range int32(2) {
		restore(t, db, p, "before")
	}
	closeDB(t, db)
	damage(t, mem)
	db = openDB(t, pebble.Config{FS: mem}, nil)
	corrupt := problem.New(problem.StoreCorrupt, "", "")
	if a, b := readAll(db, 0, "before"), readAll(db, 1, "before"); !errors.Is(a, corrupt) && !errors.Is(b, corrupt) {
		t.Fatalf("reading says %v and %v", a, b)
	}
	if err := db.Reset(context.Background()); err != nil {
		t.Fatalf("reset: %v", err)
	}
	if ids, err := db.TaskIDs(); err != nil || len(ids) != 0 {
		t.Fatalf("after the reset: %v, %v", ids, err)
	}
	for p := range int32(2) {
		restore(t, db, p, "after")
		if err := readAll(db, p, "after"); err != nil {
			t.Fatal(err)
		}
	}
	closeDB(t, db)
}
