package streamtest

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/oncemill/oncemill/internal/crashfs"
	"github.com/oncemill/oncemill/statestore"
	"github.com/oncemill/oncemill/statestore/pebble"
)

// crashDisk is the disk of one process: the production engine on a file system in memory that knows what was synced.
type crashDisk struct {
	mem *crashfs.FS
	// writes, when set, is the error of every operation that writes.
	writes atomic.Pointer[error]
	// sync, when set, is called before a file or directory is synced.
	sync atomic.Pointer[func()]
	// write, when set, is called before operations that write, and may wait.
	write atomic.Pointer[func()]
	// opened says that the engine is open. While it opens it holds locks, on which nobody may wait in a bubble for another one who
	// waits for time to pass.
	opened atomic.Bool
	// told, when set, is called then, too, but for compactions.
	told       atomic.Pointer[func()]
	compacting atomic.Int32 // how many syncs of a compaction are still to come
	// fatal ends the process for the engine.
	fatal func(string)
	// left says that the process has ended, and the next one has a copy of this disk: what is written to this one is read by nobody.
	left atomic.Bool
}

// engineDir is where the engine lies on a crashDisk.
const engineDir = "/state"

func newCrashDisk() *crashDisk { return &crashDisk{mem: crashfs.New()} }

// MaybeError implements errorfs.Injector.
func (d *crashDisk) MaybeError(op errorfs.Op) error {
	if write := d.write.Load(); write != nil && d.opened.Load() && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
		(*write)()
	}
	if err := d.writes.Load(); err != nil && op.Kind.ReadOrWrite() == errorfs.OpIsWrite && !d.left.Load() {
		if d.opened.Load() && strings.Contains(d.mem.PathBase(op.Path), "MANIFEST") {
			d.endProcess(fmt.Sprintf("%s cannot be written: %v", op.Path, *err))
			return nil
		}
		return *err
	}
	if op.Kind != errorfs.OpFileSync && op.Kind != errorfs.OpFileSyncData {
		return nil
	}
	if sync := d.sync.Load(); sync != nil {
		(*sync)()
	}
	if told := d.told.Load(); told != nil && !d.compacts(op) {
		(*told)()
	}
	return nil
}

// compacts reports a sync of a compaction: of the table that it has written, of the directory, of the MANIFEST. When the engine compacts,
// and how often, is up to the scheduler, so these are not told. Tables that are ingested are written elsewhere.
func (d *crashDisk) compacts(op errorfs.Op) bool {
	if op.Kind == errorfs.OpFileSyncData && strings.HasSuffix(op.Path, ".sst") {
		d.compacting.Store(2)
		return true
	}
	return d.compacting.Load() > 0 && d.compacting.Add(-1) >= 0
}

// endProcess ends the process when the engine would: it does so when it cannot write a MANIFEST. Goroutines of a process that is dead by
// name only live on, and what the engine is in the middle of, on whatever goroutine, has to come to an end, or its Close waits for it
// for ever. So it is not told; it goes on on a disk that nobody will read. That the engine ends the process is tested with the engine.
func (d *crashDisk) endProcess(why string) {
	d.fatal(why)
	d.left.Store(true)
}

// String implements errorfs.Injector.
func (d *crashDisk) String() string { return "crash disk" }

// open opens the engine. fatal is called when the engine wants the process to end.
func (d *crashDisk) open(cacheBytes int64, fatal func(string)) (statestore.Engine, error) {
	d.opened.Store(false)
	d.fatal = fatal
	engine, err := pebble.OpenOrWipe(pebble.Config{Dir: engineDir, FS: errorfs.Wrap(d.mem, d), CacheBytes: cacheBytes, Fatal: func(message string) {
		fatal(message)
		runtime.Goexit() // as the end of the process would
	}})
	d.opened.Store(err == nil)
	return engine, err
}

// crashed is the disk after a crash that lost the given percentage of what was not synced.
func (d *crashDisk) crashed(lost int, rng *rand.Rand) *crashDisk {
	return &crashDisk{mem: d.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100 - lost, RNG: rng})}
}

// lostIn counts the bytes of d that a disk after its crash has no more, or has otherwise.
func (d *crashDisk) lostIn(after *crashDisk, dir string) (lost int) {
	names, err := d.mem.List(dir)
	if err != nil {
		return 0 // there is no such directory: nothing was ever written
	}
	for _, name := range names {
		path := d.mem.PathJoin(dir, name)
		if info, err := d.mem.Stat(path); err == nil && info.IsDir() {
			lost += d.lostIn(after, path)
			continue
		}
		before, now := d.content(path), after.content(path)
		for i := range before {
			if i >= len(now) || now[i] != before[i] {
				lost++
			}
		}
	}
	return lost
}

// content is that of a file, empty for one that does not exist.
func (d *crashDisk) content(path string) []byte {
	f, err := d.mem.Open(path)
	if err != nil {
		return nil
	}
	b, _ := io.ReadAll(f)
	_ = f.Close()
	return b
}

// damage flips a byte in the middle of every table, and returns the number of tables.
func (d *crashDisk) damage() (int, error) {
	dir := d.mem.PathJoin(engineDir, "tables")
	names, err := d.mem.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil // the engine was never opened
	}
	if err != nil {
		return 0, err
	}
	tables := 0
	for _, name := range names {
		if !strings.HasSuffix(name, ".sst") {
			continue
		}
		flipped, err := d.flip(d.mem.PathJoin(dir, name))
		if err != nil {
			return tables, err
		}
		if flipped {
			tables++
		}
	}
	return tables, nil
}

// cutManifests leaves three bytes of every MANIFEST, which names the tables, and returns their number.
func (d *crashDisk) cutManifests() (int, error) {
	dir := d.mem.PathJoin(engineDir, "tables")
	names, err := d.mem.List(dir)
	if err != nil {
		return 0, err
	}
	cut := 0
	for _, name := range names {
		if !strings.HasPrefix(name, "MANIFEST-") {
			continue
		}
		f, err := d.mem.Create(d.mem.PathJoin(dir, name), vfs.WriteCategoryUnspecified)
		if err != nil {
			return cut, err
		}
		if _, err := f.Write([]byte{1, 2, 3}); err != nil {
			return cut, err
		}
		if err := errors.Join(f.Sync(), f.Close()); err != nil {
			return cut, err
		}
		cut++
	}
	return cut, nil
}

// flip inverts the bits of a byte in the first data block of a table, if that is written: a crash can come before.
func (d *crashDisk) flip(path string) (flipped bool, err error) {
	f, err := d.mem.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	var b [1]byte
	const at = 20 // within the first block of any table that has a record
	if _, err := f.ReadAt(b[:], at); err != nil {
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		return false, err
	}
	b[0] ^= 0xff
	_, err = f.WriteAt(b[:], at)
	return err == nil, err
}
