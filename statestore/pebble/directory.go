package pebble

import (
	"errors"
	"os"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Which MANIFEST is the current one is said by a marker, a file whose name says it. Pebble panics if the directory cannot be synced
// after a marker has moved: what a crash would leave is unknown then. A panic in a goroutine of Pebble cannot be caught, and tells
// a user nothing. So the process is ended before, and told as for a MANIFEST that cannot be written.

// markerFS finds out about a directory that could not be synced after a marker has moved. It lets compactions wait, too; see pace.
type markerFS struct {
	vfs.FS
	fatal  func(format string, args ...any) // ends the process
	moving atomic.Bool                      // a marker was made, and no directory was synced since
	pace   *pace
}

// Create implements vfs.FS.
func (m *markerFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if category == compactionCategory {
		m.pace.await()
	}
	f, err := m.FS.Create(name, category)
	if strings.HasPrefix(m.PathBase(name), "marker.") {
		m.moving.Store(true)
	}
	return f, err
}

// OpenDir implements vfs.FS.
func (m *markerFS) OpenDir(name string) (vfs.File, error) {
	f, err := m.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return &directory{f, m}, nil
}

type directory struct {
	vfs.File
	fs *markerFS
}

// Sync implements vfs.File.
func (d *directory) Sync() error {
	err := d.File.Sync()
	switch {
	case err == nil:
		d.fs.moving.Store(false)
	case d.fs.moving.Load():
		d.fs.fatal("the directory cannot be synced after a marker has moved: %v", err)
	}
	return err
}

// syncAbove syncs the directories above one. Pebble does that for those that it makes, but an opening that failed may have made them
// and not synced them: then the next one finds them, and a crash of the machine would take all that was acknowledged since.
func syncAbove(fs vfs.FS, dir string) error {
	for parent := fs.PathDir(dir); parent != dir; dir, parent = parent, fs.PathDir(parent) {
		f, err := fs.OpenDir(parent)
		if errors.Is(err, os.ErrPermission) {
			return nil // not ours, so not made by us
		}
		if err != nil {
			return err
		}
		err = errors.Join(f.Sync(), f.Close())
		if errors.Is(err, syscall.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
			return nil // a file system whose directories cannot be synced: what is durable there is up to it
		}
		if err != nil {
			return err
		}
	}
	return nil
}
