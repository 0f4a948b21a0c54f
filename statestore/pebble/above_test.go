package pebble_test

import (
	"errors"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/oncemill/oncemill/statestore/pebble"
)

// The directories above the store may lie on a file system whose directories cannot be synced; a disk that fails is told.
func TestDirectoriesAboveThatCannotBeSynced(t *testing.T) {
	for err, opens := range map[error]bool{syscall.EINVAL: true, syscall.ENOTSUP: true, syscall.EIO: false} {
		mem := vfs.NewMem()
		if err := mem.MkdirAll("/above/store", 0o755); err != nil {
			t.Fatal(err)
		}
		fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind == errorfs.OpFileSync && op.Path == "/" {
				return err
			}
			return nil
		}))
		e, got := pebble.Open(pebble.Config{Dir: "/above/store", FS: fs})
		if opens && got != nil || !opens && !errors.Is(got, err) {
			t.Errorf("%v above the store: Open returned %v", err, got)
		}
		if e != nil {
			closeEngine(t, e)
		}
	}
}
