package pebble_test

import (
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/oncemill/oncemill/internal/crashfs"
	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/statestore/pebble"
	"github.com/oncemill/oncemill/statestore/storetest"
)

// world is a machine whose disk can lose what was not synced.
type world struct {
	fs   *crashfs.FS
	open *pebble.Engine // until the next Open or Crash
}

func newWorld(t testing.TB) storetest.World { return &world{fs: crashfs.New()} }

func (w *world) Open(t testing.TB) statestore.Engine {
	e, err := pebble.Open(pebble.Config{
		Dir: "/store", FS: w.fs, CacheBytes: 1 << 20, TableBytes: 256 << 10, L0Threshold: 2,
		Fatal: func(message string) { t.Errorf("fatal: %s", message) },
	})
	if err != nil {
		t.Fatal(err)
	}
	w.open = e
	return e
}

func (w *world) Crash(t testing.TB, percent int, seed uint64) {
	after := w.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rand.New(rand.NewPCG(seed, 5))})
	if err := w.open.Close(); err != nil { // the old process goes on with a disk that nobody sees any more
		t.Fatal(err)
	}
	w.fs = after
}

func TestSuite(t *testing.T) { storetest.Run(t, newWorld) }
