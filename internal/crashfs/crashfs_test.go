package crashfs_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/oncemill/oncemill/internal/crashfs"
)

// TestClonesWhileLinking: with MemFS alone this never ends.
func TestClonesWhileLinking(t *testing.T) {
	fs := crashfs.New()
	f, err := fs.Create("a", vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	const links = 20_000
	var wg sync.WaitGroup
	wg.Go(func() {
		for range links / 10 {
			fs.CrashClone(vfs.CrashCloneCfg{})
		}
	})
	wg.Go(func() {
		for i := range links {
			if err := fs.Link("a", fmt.Sprint("b", i%10)); err != nil {
				t.Error(err)
				return
			}
			if err := fs.Remove(fmt.Sprint("b", i%10)); err != nil {
				t.Error(err)
				return
			}
		}
	})
	wg.Wait()
	if _, err := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 2))}).Stat("a"); err != nil {
		t.Fatalf("a clone with everything lacks the file: %v", err)
	}
	if _, err := fs.CrashClone(vfs.CrashCloneCfg{}).Stat("a"); err == nil {
		t.Fatal("a clone without what was not synced has the file")
	}
}
