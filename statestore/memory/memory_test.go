package memory_test

import (
	"testing"

	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/statestore/memory"
	"github.com/oncemill/oncemill/statestore/storetest"
)

// world's disk is as durable as the test: a crash loses nothing that was ingested.
type world struct{ disk *memory.Disk }

func (w world) Open(testing.TB) statestore.Engine { return memory.Open(w.disk) }
func (w world) Crash(testing.TB, int, uint64)     {}

func TestSuite(t *testing.T) {
	storetest.Run(t, func(testing.TB) storetest.World { return world{memory.NewDisk()} })
}
