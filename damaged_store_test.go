package oncemill

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/oncemill/oncemill/internal/leaktest"
)

// A store whose MANIFEST is torn cannot even be opened. The state is in the changelogs: the application begins with an empty store.
func TestAStoreThatCannotBeOpenedIsBegunAnew(t *testing.T) {
	a := &App{cfg: &Config{Logger: slog.New(slog.DiscardHandler), MemoryBudget: 64 << 20}}
	dir := &directory{path: t.TempDir()}
	for range 2 { // it is not there; it is damaged
		// An opening that fails leaves two goroutines of Pebble's cache of files behind.
		leaktest.Abandon(func() {
			engine, err := a.openEngine(dir)
			if err != nil {
				t.Error(err)
				return
			}
			if err := engine.Close(); err != nil {
				t.Error(err)
			}
		})
		manifests, err := filepath.Glob(filepath.Join(dir.enginePath(), "tables", "MANIFEST-*"))
		if err != nil || len(manifests) == 0 {
			t.Fatalf("%v, %v", manifests, err)
		}
		for _, m := range manifests {
			if err := os.Truncate(m, 3); err != nil {
				t.Fatal(err)
			}
		}
	}
}
