// Package crashfs is a file system in memory that knows what was synced, for tests that crash.
package crashfs

import (
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// FS is Pebble's MemFS, which can be cloned while it is linked in: in Pebble 2.1.7 MemFS.Link takes the lock of CrashClone twice, so
// that a clone that asks for it in between waits for the link, and the link for the clone.
type FS struct {
	*vfs.MemFS
	links *sync.RWMutex
}

// New returns an empty one.
func New() *FS { return &FS{MemFS: vfs.NewCrashableMem(), links: new(sync.RWMutex)} }

// Link implements vfs.FS.
func (f *FS) Link(oldname, newname string) error {
	f.links.RLock()
	defer f.links.RUnlock()
	return f.MemFS.Link(oldname, newname)
}

// CrashClone returns what is on the disk after a crash that lost the given part of what was not synced.
func (f *FS) CrashClone(cfg vfs.CrashCloneCfg) *FS {
	f.links.Lock()
	defer f.links.Unlock()
	return &FS{MemFS: f.MemFS.CrashClone(cfg), links: new(sync.RWMutex)}
}
