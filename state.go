package oncemill

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"github.com/google/uuid"

	"github.com/oncemill/oncemill/internal/graph"
	"github.com/oncemill/oncemill/internal/problem"
)

// The state directory belongs to one application and one process:
//
//	lock             locked by the process; while it runs it holds the process id, for people
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
	path  string
	lock  *os.File
	id    identity
	stale bool // oncemill.json does not hold id yet
}

// openDirectory locks the directory and checks that it is ours; an empty or absent one becomes ours with keep. A directory that
// is refused keeps every byte.
func openDirectory(path, app, instance string) (*directory, error) {
	if err := makeDurable(path); err != nil {
		return nil, problem.Wrap(problem.DirectoryUnusable, path, err)
	}
	d := &directory{path: path}
	if _, err := d.inspect(app); err != nil { // before the lock is touched
		return nil, err
	}
	if err := d.acquire(); err != nil {
		return nil, err
	}
	found, err := d.inspect(app) // another process may have begun it and be gone again
	if err != nil {
		d.close()
		return nil, err
	}
	d.claim(found, app, instance)
	return d, nil
}

// inspect reads whose directory it is, and refuses one that is not this application's. It reports whether it was begun.
func (d *directory) inspect(app string) (found bool, err error) {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return false, problem.Wrap(problem.DirectoryUnusable, d.path, err)
	}
	if found, err = d.readIdentity(); err != nil {
		return false, err
	}
	if found && d.id.App != app {
		return false, problem.New(problem.DirectoryOtherApp, d.path, "it belongs to %q, this is %q", d.id.App, app)
	}
	for _, e := range entries {
		if !found && !beginning[e.Name()] {
			return false, problem.New(problem.DirectoryForeign, d.path, "it holds %q and no %s", e.Name(), identityFile)
		}
	}
	return found, nil
}

// beginning is what a directory may hold before it has an identity: what a crash of the first start leaves, and what a file
// system puts into its root, which is often mounted as the state directory.
var beginning = map[string]bool{lockFile: true, identityFile + ".new": true, "lost+found": true}

func (d *directory) readIdentity() (bool, error) {
	path := filepath.Join(d.path, identityFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, problem.Wrap(problem.DirectoryUnusable, d.path, err)
	}
	damaged := func(err error) error {
		return problem.Wrap(problem.BadDurableBytes, path, err).
			WithCure("move the directory away and start with an empty one: the state is restored from the changelogs")
	}
	var version struct { // first and alone: a newer format may hold anything else
		Format int `json:"format"`
	}
	if err := json.Unmarshal(b, &version); err != nil {
		return false, damaged(err)
	}
	if version.Format > directoryFormat {
		return false, problem.New(problem.DirectoryNewer, d.path, "format %d, this version reads up to %d", version.Format, directoryFormat)
	}
	d.id = identity{}
	switch err := json.Unmarshal(b, &d.id); {
	case errors.Is(err, &problem.Error{Code: problem.DirectoryNewer}):
		return false, problem.Wrap(problem.DirectoryNewer, d.path, err)
	case err != nil:
		return false, damaged(err)
	case d.id.Format < 1 || d.id.App == "":
		return false, problem.New(problem.DirectoryForeign, d.path, "its %s names no format and application", identityFile)
	}
	return true, nil
}

// errLocked says that another process has the lock.
var errLocked = errors.New("locked by another process")

func (d *directory) acquire() error {
	path := filepath.Join(d.path, lockFile)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return problem.Wrap(problem.DirectoryUnusable, d.path, err)
	}
	if err := lockExclusively(f); err != nil {
		owner, _ := os.ReadFile(path) // for the message only
		_ = f.Close()
		if errors.Is(err, errLocked) {
			p := problem.New(problem.DirectoryInUse, d.path, "%s holds its lock", ownerText(string(owner)))
			if string(owner) == strconv.Itoa(os.Getpid()) {
				p = p.WithCure("use another directory, or wait: an App of this process runs in it, or its Run has returned after ShutdownTimeout and its store still writes")
			}
			return p
		}
		return problem.Wrap(problem.DirectoryUnusable, path, err)
	}
	d.lock = f
	err = f.Truncate(0)
	if err == nil {
		_, err = fmt.Fprintf(f, "%d", os.Getpid())
	}
	if err != nil {
		d.close()
		return problem.Wrap(problem.DirectoryUnusable, path, err)
	}
	return nil
}

func ownerText(pid string) string {
	switch pid {
	case "":
		return "another process"
	case strconv.Itoa(os.Getpid()):
		return "this process (" + pid + ") itself"
	}
	return "process " + pid
}

// claim decides the identity; keep writes it.
func (d *directory) claim(found bool, app, instance string) {
	d.stale = !found
	d.id.Format, d.id.App = directoryFormat, app
	switch {
	case instance != "" && d.id.Instance != instance:
		d.id.Instance, d.stale = instance, true
	case d.id.Instance == "":
		d.id.Instance, d.stale = uuid.NewString(), true
	}
}

// keep makes the directory ours: nothing may be put into it before.
func (d *directory) keep() error {
	if !d.stale {
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
	d.stale = false
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

func (d *directory) enginePath() string { return filepath.Join(d.path, engineDir) }

// close releases the lock, and takes the process id out of it.
func (d *directory) close() {
	if d.lock != nil {
		_ = d.lock.Truncate(0)
		_ = d.lock.Close() // the lock goes with the descriptor
	}
}
