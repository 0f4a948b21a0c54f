package streamtest

import (
	"path/filepath"
	"strconv"

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
