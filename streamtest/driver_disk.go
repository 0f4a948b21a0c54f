package streamtest

import (
	"context"
	"errors"
	"path/filepath"
	"strconv"
	"sync/atomic"

	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/statestore/memory"
	"github.com/oncemill/oncemill/statestore/pebble"
)

// Disk outlives the processes that use it: Open gives an engine over what is on it.
type Disk interface {
	Open() (statestore.Engine, error)
}

type memoryDisk struct{ disk *memory.Disk }

// MemoryDisk is an empty disk of the memory engine: the fastest one.
func MemoryDisk() Disk { return memoryDisk{disk: memory.NewDisk()} }

func (d memoryDisk) Open() (statestore.Engine, error) { return memory.Open(d.disk), nil }

type pebbleDisk struct{ dir string }

// PebbleDisks makes disks of the production engine, each in a new directory below dir. It is a value for Options.Disk.
func PebbleDisks(dir string) func() Disk {
	made := 0
	return func() Disk {
		made++
		return pebbleDisk{dir: filepath.Join(dir, strconv.Itoa(made))}
	}
}

func (d pebbleDisk) Open() (statestore.Engine, error) {
	return pebble.Open(pebble.Config{Dir: d.dir, CacheBytes: 8 << 20})
}

// power is an engine whose process can be killed: a store that is closed writes what it still has, one that is killed does
// not.
type power struct {
	statestore.Engine
	off atomic.Bool
}

var errPowerOff = errors.New("streamtest: the process was killed")

// Ingest implements statestore.Engine.
func (p *power) Ingest(ctx context.Context, runs []statestore.Run) error {
	if p.off.Load() {
		return errPowerOff
	}
	return p.Engine.Ingest(ctx, runs)
}

// Excise implements statestore.Engine.
func (p *power) Excise(ctx context.Context, lower, upper []byte) error {
	if p.off.Load() {
		return errPowerOff
	}
	return p.Engine.Excise(ctx, lower, upper)
}
