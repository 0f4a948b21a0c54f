// Package pebble is the engine on disk. Everything enters Pebble by ingest and leaves it by range deletes, excise and
// compaction: the memtable stays empty (I1), because with the write-ahead log off an ingest that overlaps a memtable is
// acknowledged before it is durable. Measurements behind each option: docs/DESIGN.md, "The engine on disk".
package pebble

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"sync/atomic"

	pdb "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/atomicfs"

	"github.com/oncemill/oncemill/internal/invariants"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/statestore"
)

// Defaults of Config.
const (
	DefaultCacheBytes  = 64 << 20
	DefaultTableBytes  = 8 << 20
	DefaultL0Threshold = 16
)

const (
	// bloomBits makes 1 % false positives and costs 1.3 bytes per key, which the block cache should have room for.
	bloomBits = 10
	// memTableBytes is the least that is sensible: the memtable stays empty.
	memTableBytes = 1 << 20
)

// Config configures an Engine. The zero value of a field is the default given.
type Config struct {
	// Dir is the directory of the engine; required. It is made if it does not exist.
	Dir string
	// FS is the file system. Default vfs.Default.
	FS vfs.FS
	// CacheBytes is the size of the block cache, default 64 MiB. It holds the filters too: 1.3 bytes per live key.
	CacheBytes int64
	// TableBytes is where tables are cut, default 8 MiB. A filter is one block: that of a large table does not stay in the
	// cache, and each lookup reads it anew.
	TableBytes int64
	// L0Threshold is the read amplification in level 0 at which compaction begins, default 16: 18 us of compaction per
	// entry at Pebble's own default of small checkpoints, 7 at 16, for 2 us more per lookup of an absent key.
	L0Threshold int
	// Fatal must end the process. It is called when a MANIFEST, or which one is current, cannot be written: what the disk then holds is unknown, and
	// only a new start finds out. Default: os.Exit(1).
	Fatal func(message string)
	// Logger is told of corruption and background errors. Default: none.
	Logger *slog.Logger
	// OnCorruption, if set, is told the path of a damaged file.
	OnCorruption func(path string, err error)
}

func (c *Config) setDefaults() {
	if c.FS == nil {
		c.FS = vfs.Default
	}
	if c.CacheBytes == 0 {
		c.CacheBytes = DefaultCacheBytes
	}
	if c.TableBytes == 0 {
		c.TableBytes = DefaultTableBytes
	}
	if c.L0Threshold == 0 {
		c.L0Threshold = DefaultL0Threshold
	}
	if c.Fatal == nil {
		c.Fatal = func(string) { os.Exit(1) }
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
}

// Engine implements statestore.Engine.
type Engine struct {
	cfg     Config
	db      *pdb.DB
	options *pdb.Options // ours, with defaults; Open works on a copy
	staging string
	pace    *pace
	tables  uint64 // names of staged tables; of the one writer
	epoch   atomic.Uint64
	// memTableBytes is the size of the memtable when nothing was ever written to it (I1).
	memTableBytes uint64
}

// Open opens or creates the engine in a directory that nobody else uses.
func Open(cfg Config) (*Engine, error) {
	cfg.setDefaults()
	if cfg.Dir == "" {
		return nil, problem.New(problem.ConfigInvalid, "pebble.Config.Dir", "is required")
	}
	e := &Engine{cfg: cfg, staging: cfg.FS.PathJoin(cfg.Dir, "staging"), pace: newPace()}
	e.options = e.makeOptions()
	// Pebble comes first: it makes the directory and syncs the parents of what it made. A directory that was made without,
	// and everything in it, is gone after a crash of the machine.
	if err := refuseNewer(cfg.FS, cfg.Dir); err != nil {
		return nil, err
	}
	e.options.FS = &markerFS{FS: cfg.FS, fatal: logger{e}.Fatalf, pace: e.pace}
	db, err := pdb.Open(cfg.FS.PathJoin(cfg.Dir, "tables"), e.options)
	if errors.Is(err, os.ErrNotExist) { // a table that the MANIFEST names, as where the MANIFEST lost its end
		return nil, problem.Wrap(problem.StoreCorrupt, cfg.Dir, err)
	}
	if err != nil {
		return nil, e.wrap(err)
	}
	e.db = db
	if err := syncAbove(cfg.FS, cfg.FS.PathJoin(cfg.Dir, "tables")); err != nil {
		return nil, errors.Join(e.wrap(err), e.Close())
	}
	if err := e.clearStaging(); err != nil {
		return nil, errors.Join(e.wrap(err), e.Close())
	}
	e.options.EnsureDefaults()
	e.memTableBytes = db.Metrics().MemTable.Size
	return e, nil
}

// refuseNewer looks for tables in a format that only a newer Pebble knows. Pebble refuses them too, but as it would refuse a broken disk.
func refuseNewer(fs vfs.FS, dir string) error {
	found, err := atomicfs.ReadMarker(fs, fs.PathJoin(dir, "tables"), "format-version")
	if err != nil {
		return nil // there is no store, or Pebble meets the error too
	}
	if version, err := strconv.ParseUint(found, 10, 64); err == nil && version > uint64(pdb.FormatNewest) {
		return problem.New(problem.DirectoryNewer, dir, "its tables have format %d of Pebble; this program knows up to %d", version, uint64(pdb.FormatNewest))
	}
	return nil
}

// OpenOrWipe is Open for those who can restore what was in the engine: one that is so damaged that it cannot be opened is wiped, which
// is logged, and begun anew.
func OpenOrWipe(cfg Config) (*Engine, error) {
	e, err := Open(cfg)
	if problem.CodeOf(err) != problem.StoreCorrupt {
		return e, err
	}
	cfg.setDefaults()
	cfg.Logger.Error("the local store is so damaged that it cannot be opened; it is dropped, and all tasks are restored from their changelogs", "err", err)
	if wipeErr := Wipe(cfg.FS, cfg.Dir); wipeErr != nil {
		return nil, errors.Join(err, wipeErr)
	}
	return Open(cfg)
}

// Wipe removes an engine that is not open: the way out of one that cannot be opened.
func Wipe(fs vfs.FS, dir string) error {
	if fs == nil {
		fs = vfs.Default
	}
	for _, sub := range []string{"staging", "tables"} {
		if err := fs.RemoveAll(fs.PathJoin(dir, sub)); err != nil {
			return problem.Wrap(problem.StoreIO, dir, err)
		}
	}
	return nil
}

// clearStaging removes what a crash left (I7). It lies beside the tables, on the same file system: ingest links.
func (e *Engine) clearStaging() error {
	if err := e.cfg.FS.RemoveAll(e.staging); err != nil {
		return err
	}
	return e.cfg.FS.MkdirAll(e.staging, 0o755)
}

func (e *Engine) makeOptions() *pdb.Options {
	o := &pdb.Options{
		// The default is the oldest: row blocks, whose writers pool channels, which kills virtual-time tests.
		FormatMajorVersion:    pdb.FormatNewest,
		DisableWAL:            true,
		MemTableSize:          memTableBytes,
		CacheSize:             e.cfg.CacheBytes,
		L0CompactionThreshold: e.cfg.L0Threshold,
		L0StopWritesThreshold: 2 * e.cfg.L0Threshold, // must not be below the other; ingests never stop
		Logger:                logger{e},
		EventListener: &pdb.EventListener{
			// The default ends the process.
			DataCorruption:  func(info pdb.DataCorruptionInfo) { e.reportCorruption(info.Path, info.Details) },
			BackgroundError: func(err error) { e.cfg.Logger.Error("pebble background error", "error", err) },
			CompactionEnd:   e.pace.ended,
		},
	}
	// Without it level 0, and every level that inherits from it, has no filter.
	o.Levels[0].FilterPolicy = bloom.FilterPolicy(bloomBits)
	for i := range o.TargetFileSizes {
		o.TargetFileSizes[i] = e.cfg.TableBytes
	}
	// The second line behind I1: an ingest that overlaps a memtable waits for the flush.
	o.Experimental.DisableIngestAsFlushable = func() bool { return true }
	// Sampling reads draws from a global random source and schedules compactions that no test could repeat.
	o.Experimental.ReadSamplingMultiplier = -1
	return o
}

func (e *Engine) reportCorruption(path string, err error) {
	e.cfg.Logger.Error("a file of the store is damaged", "path", path, "error", err)
	if e.cfg.OnCorruption != nil {
		e.cfg.OnCorruption(path, err)
	}
}

// wrap gives an error of Pebble or of the file system its code.
func (e *Engine) wrap(err error) error {
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case pdb.IsCorruptionError(err):
		return problem.Wrap(problem.StoreCorrupt, e.cfg.Dir, err)
	default:
		return problem.Wrap(problem.StoreIO, e.cfg.Dir, err)
	}
}

// Excise implements statestore.Engine.
func (e *Engine) Excise(ctx context.Context, lower, upper []byte) error {
	if err := e.db.Excise(ctx, pdb.KeyRange{Start: lower, End: upper}); err != nil {
		return e.wrap(err)
	}
	e.checkMemTable()
	e.epoch.Add(1)
	return nil
}

// checkMemTable asserts I1: nothing lies in a memtable, nor was ever flushed from one. A restart flushes an empty one.
func (e *Engine) checkMemTable() {
	m := e.db.Metrics()
	flushed := m.Levels[0].TableBytesFlushed
	invariants.Must(m.MemTable.Count == 1 && m.MemTable.Size == e.memTableBytes && flushed == 0,
		"I1", "the memtable was used: %d tables of %d bytes (empty: %d), %d bytes flushed",
		m.MemTable.Count, m.MemTable.Size, e.memTableBytes, flushed)
}

// Epoch implements statestore.Engine.
func (e *Engine) Epoch() uint64 { return e.epoch.Load() }

// ApproximateCount implements statestore.Engine. It scales the entries of each table by the part of its bytes that lies in
// the span, and takes two off for each deletion: itself and what it deletes.
func (e *Engine) ApproximateCount(lower, upper []byte) (uint64, error) {
	levels, err := e.db.SSTables(pdb.WithKeyRangeFilter(lower, upper), pdb.WithProperties(), pdb.WithApproximateSpanBytes())
	if err != nil {
		return 0, e.wrap(err)
	}
	var n float64
	for _, level := range levels {
		for _, t := range level {
			p := t.Properties
			if p == nil || p.DataSize == 0 {
				continue
			}
			share := min(1, float64(t.ApproximateSpanBytes)/float64(p.DataSize))
			n += share * (float64(p.NumEntries) - 2*float64(p.NumDeletions-p.NumRangeDeletions))
		}
	}
	return uint64(max(0, n)), nil
}

// Metrics implements statestore.Engine.
func (e *Engine) Metrics() statestore.EngineMetrics {
	m := e.db.Metrics()
	total := m.Total()
	return statestore.EngineMetrics{
		DiskBytes:        m.DiskSpaceUsage(),
		L0Sublevels:      int(m.Levels[0].Sublevels),
		ReadAmp:          m.ReadAmp(),
		Tables:           total.TablesCount,
		Compactions:      m.Compact.Count,
		CompactionDebt:   m.Compact.EstimatedDebt,
		BlockCacheBytes:  m.BlockCache.Size,
		BlockCacheHits:   m.BlockCache.Hits,
		BlockCacheMisses: m.BlockCache.Misses,
		FilterHits:       m.Filter.Hits,
		FilterMisses:     m.Filter.Misses,
		BytesIngested:    total.TableBytesIngested,
		BytesCompacted:   total.TableBytesCompacted,
	}
}

// Close implements statestore.Engine.
func (e *Engine) Close() error {
	e.pace.close()
	return e.wrap(e.db.Close())
}

// logger is Pebble's logger. Its Infof tells of every compaction, which is in the metrics.
type logger struct{ e *Engine }

func (l logger) Infof(string, ...any) {}

func (l logger) Errorf(format string, args ...any) {
	l.e.cfg.Logger.Error("pebble: " + fmt.Sprintf(format, args...))
}

// Fatalf does not return: if it did, Ingest would delete tables that the MANIFEST may name.
func (l logger) Fatalf(format string, args ...any) {
	message := fmt.Sprintf(format, args...)
	l.e.cfg.Logger.Error("pebble: " + message)
	l.e.cfg.Fatal(message)
	panic(problem.New(problem.StoreIO, l.e.cfg.Dir, "%s", message))
}
