package oncemill

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/google/uuid"

	"github.com/oncemill/oncemill/internal/graph"
	"github.com/oncemill/oncemill/internal/problem"
)

// The state directory belongs to one application and one process:
//
//	lock             locked by the process (flock); it holds the process id for people
//	oncemill.json    whose directory it is: format, application, instance id, fingerprint of the topology
//	pebble/          the store; staging files of checkpoints lie inside
//
// Nothing in a directory is touched before all of it was found to be ours.
const (
	lockFile     = "lock"
	identityFile = "oncemill.json"
	engineDir    = "pebble"
)

// directoryFormat only goes up; a newer one is refused.
const directoryFormat = 1

// identity is the content of oncemill.json.
type identity struct {
	Format      int                `json:"format"`
	App         string             `json:"app"`
	Instance    string             `json:"instance"`
	Fingerprint *graph.Fingerprint `json:"fingerprint,omitempty"`
}

// directory is an open state directory.
type directory struct {
	path string
	lock *os.File
	id   identity
}

// openDirectory locks the directory and checks that it is ours; an empty or absent one becomes ours.
func openDirectory(path, app, instance string) (*directory, error) {
	unusable := func(err error) error { return problem.Wrap(problem.DirectoryUnusable, path, err) }
	if err := makeDurable(path); err != nil {
		return nil, unusable(err)
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, unusable(err)
	}
	d := &directory{path: path}
	found, err := d.readIdentity()
	if err != nil {
		return nil, err
	}
	if !found {
		for _, e := range entries {
			if e.Name() != lockFile {
				return nil, problem.New(problem.DirectoryForeign, path, "it holds %q and no %s", e.Name(), identityFile)
			}
		}
	}
	if err := d.acquire(); err != nil {
		return nil, err
	}
	if err := d.claim(found, app, instance); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

func (d *directory) readIdentity() (bool, error) {
	b, err := os.ReadFile(filepath.Join(d.path, identityFile))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, problem.Wrap(problem.DirectoryUnusable, d.path, err)
	}
	if err := json.Unmarshal(b, &d.id); err != nil {
		return false, problem.Wrap(problem.DirectoryForeign, filepath.Join(d.path, identityFile), err)
	}
	if d.id.Format > directoryFormat {
		return false, problem.New(problem.DirectoryNewer, d.path, "format %d, this version reads up to %d", d.id.Format, directoryFormat)
	}
	return true, nil
}

func (d *directory) acquire() error {
	path := filepath.Join(d.path, lockFile)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return problem.Wrap(problem.DirectoryUnusable, path, err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		owner, _ := os.ReadFile(path) // for the message only
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return problem.New(problem.DirectoryInUse, d.path, "process %s holds the lock", owner)
		}
		return problem.Wrap(problem.DirectoryUnusable, path, err)
	}
	d.lock = f
	if err := f.Truncate(0); err != nil {
		return problem.Wrap(problem.DirectoryUnusable, path, err)
	}
	if _, err := fmt.Fprintf(f, "%d", os.Getpid()); err != nil {
		return problem.Wrap(problem.DirectoryUnusable, path, err)
	}
	return nil
}

// claim checks the owner, and writes the identity of a new directory.
func (d *directory) claim(found bool, app, instance string) error {
	if found && d.id.App != app {
		return problem.New(problem.DirectoryOtherApp, d.path, "it belongs to %q, this is %q", d.id.App, app)
	}
	changed := !found
	d.id.Format, d.id.App = directoryFormat, app
	switch {
	case instance != "" && d.id.Instance != instance:
		d.id.Instance, changed = instance, true
	case d.id.Instance == "":
		d.id.Instance, changed = uuid.NewString(), true
	}
	if !changed {
		return nil
	}
	return d.save()
}

// saveFingerprint stores the topology that the state now belongs to.
func (d *directory) saveFingerprint(now *graph.Fingerprint) error {
	d.id.Fingerprint = now
	return d.save()
}

// save replaces the identity atomically and durably.
func (d *directory) save() error {
	fail := func(err error) error { return problem.Wrap(problem.DirectoryUnusable, d.path, err) }
	b, err := json.MarshalIndent(d.id, "", "  ")
	if err != nil {
		return fail(err)
	}
	temporary := filepath.Join(d.path, identityFile+".new")
	f, err := os.Create(temporary)
	if err != nil {
		return fail(err)
	}
	_, err = f.Write(append(b, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fail(err)
	}
	if err := os.Rename(temporary, filepath.Join(d.path, identityFile)); err != nil {
		return fail(err)
	}
	if err := syncDirectory(d.path); err != nil {
		return fail(err)
	}
	return nil
}

// makeDurable makes a directory and its parents, so that a crash of the machine cannot take them away with what is written
// into them later.
func makeDurable(path string) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return nil
	}
	if parent := filepath.Dir(path); parent != path {
		if err := makeDurable(parent); err != nil {
			return err
		}
	}
	if err := os.Mkdir(path, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDirectory(filepath.Dir(path))
}

func syncDirectory(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func (d *directory) enginePath() string { return filepath.Join(d.path, engineDir) }

// close releases the lock.
func (d *directory) close() {
	if d.lock != nil {
		_ = d.lock.Close() // the lock goes with the descriptor
	}
}
