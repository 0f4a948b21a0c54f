package pebble_test

import (
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/oncemill/oncemill/statestore/pebble"
)

// A compaction that fails is tried again with pauses, which do not hold up who closes the engine, and soon after the disk is well again.
func TestAFullDiskOnlyDelaysCompactions(t *testing.T) {
	for _, heals := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) { failCompactions(t, heals) })
	}
}

func failCompactions(t *testing.T, heals bool) {
	var full atomic.Bool
	var refused atomic.Int64
	const endless = 1000 // tries, after which they succeed: otherwise a virtual clock would stand for ever
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if full.Load() && op.Kind == errorfs.OpCreate && strings.Contains(op.Path, "tables") && strings.HasSuffix(op.Path, ".sst") && refused.Add(1) < endless {
			return syscall.ENOSPC
		}
		return nil
	}))
	e := open(t, pebble.Config{FS: fs, L0Threshold: 2})
	full.Store(true)
	for range 4 {
		ingest(t, e, cells(100, "value"))
	}
	began := time.Now()
	<-time.After(time.Minute)
	if n := refused.Load(); n < 5 || n > 20 {
		t.Errorf("a compaction was tried %d times in a minute", n)
	}
	if heals {
		before := e.Metrics().Compactions
		full.Store(false)
		<-time.After(20 * time.Second)
		if after := e.Metrics().Compactions; after == before {
			t.Error("nothing was compacted on a disk that is well again")
		}
		began = time.Now()
	} else {
		began = began.Add(time.Minute)
	}
	if n := count(t, e, "value"); n != 100 {
		t.Errorf("%d keys", n)
	}
	closeEngine(t, e)
	if took := time.Since(began); took > 0 {
		t.Errorf("to close the engine took %v", took)
	}
}
