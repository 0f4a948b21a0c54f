package pebble

import (
	"bytes"
	"context"
	"fmt"

	"github.com/cockroachdb/pebble/v2/objstorage/objstorageprovider"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/oncemill/oncemill/internal/invariants"
	"github.com/oncemill/oncemill/statestore"
)

const (
	// ownTableBytes is the size from which a task gets tables of its own: then an idle or dropped task touches nobody
	// else's. Smaller ones share, which saves an fsync each.
	ownTableBytes = 1 << 20
	// sizeCheckBytes is how much is written between two looks at a table's size.
	sizeCheckBytes = 32 << 10
)

// Ingest implements statestore.Engine. The tables are written and synced one after the other, then linked into Pebble by one
// MANIFEST edit. After an error the staged files are removed and Pebble is as it was.
func (e *Engine) Ingest(ctx context.Context, runs []statestore.Run) error {
	s := stager{engine: e, ctx: ctx}
	for i := range runs {
		if err := s.run(&runs[i]); err != nil {
			s.abandon()
			return e.wrap(err)
		}
	}
	if err := s.finishTable(); err != nil {
		s.abandon()
		return e.wrap(err)
	}
	if len(s.paths) == 0 {
		return ctx.Err()
	}
	stats, err := e.db.IngestWithStats(ctx, s.paths)
	if err != nil {
		s.abandon()
		return e.wrap(err)
	}
	invariants.Must(stats.MemtableOverlappingFiles == 0, "I1", "%d tables of an ingest overlap the memtable", stats.MemtableOverlappingFiles)
	e.checkMemTable()
	e.epoch.Add(1)
	return nil
}

// stager cuts runs into tables. Cells come in ascending order over all runs, so the tables cannot overlap.
//
// Range deletes are put into the table that is open where they begin, and cut where a table ends: a delete [a,c) may touch a
// table that begins at c, but not reach into it.
type stager struct {
	engine  *Engine
	ctx     context.Context
	writer  *sstable.Writer
	path    string
	paths   []string
	written int // bytes since the last look at the size
	pending []statestore.Span
	lower   []byte // of the pending deletes: what lies below is in earlier tables
}

func (s *stager) run(run *statestore.Run) error {
	s.pending = append(s.pending[:0], run.Deletes...)
	s.lower = append(s.lower[:0], run.Span.Lower...)
	for cell := range run.Cells {
		if err := s.cell(cell); err != nil {
			return err
		}
	}
	if err := s.flushDeletes(nil); err != nil {
		return err
	}
	if s.writer != nil && s.writer.Raw().EstimatedSize() >= ownTableBytes {
		return s.finishTable()
	}
	return nil
}

func (s *stager) cell(c statestore.Cell) error {
	if s.written >= sizeCheckBytes {
		s.written = 0
		if s.writer.Raw().EstimatedSize() >= uint64(s.engine.cfg.TableBytes) {
			if err := s.cut(c.Key); err != nil {
				return err
			}
		}
	}
	if err := s.open(); err != nil {
		return err
	}
	s.written += len(c.Key) + len(c.Value)
	if c.Tombstone {
		return s.writer.Delete(c.Key)
	}
	return s.writer.Set(c.Key, c.Value)
}

// cut ends the table below key.
func (s *stager) cut(key []byte) error {
	if err := s.flushDeletes(key); err != nil {
		return err
	}
	s.lower = append(s.lower[:0], key...)
	return s.finishTable()
}

// flushDeletes writes the pending deletes below upper (nil: all of them).
func (s *stager) flushDeletes(upper []byte) error {
	kept := s.pending[:0]
	for _, d := range s.pending {
		lower, end := d.Lower, d.Upper
		if bytes.Compare(lower, s.lower) < 0 {
			lower = s.lower
		}
		if upper != nil && bytes.Compare(end, upper) > 0 {
			kept = append(kept, d)
			end = upper
		}
		if bytes.Compare(lower, end) >= 0 {
			continue
		}
		if err := s.open(); err != nil {
			return err
		}
		if err := s.writer.DeleteRange(bytes.Clone(lower), bytes.Clone(end)); err != nil {
			return err
		}
	}
	s.pending = kept
	return nil
}

func (s *stager) open() error {
	if s.writer != nil {
		return nil
	}
	if err := s.ctx.Err(); err != nil {
		return err
	}
	e := s.engine
	e.tables++
	s.path = e.cfg.FS.PathJoin(e.staging, fmt.Sprintf("%016d.sst", e.tables))
	f, err := e.cfg.FS.Create(s.path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	s.paths = append(s.paths, s.path)
	s.writer = sstable.NewWriter(objstorageprovider.NewFileWritable(f), e.options.MakeWriterOptions(0, e.db.TableFormat()))
	return nil
}

// finishTable closes the table; that syncs it.
func (s *stager) finishTable() error {
	if s.writer == nil {
		return nil
	}
	err := s.writer.Close()
	s.writer = nil
	s.written = 0
	return err
}

// abandon removes the staged files. What cannot be removed now is removed at the next Open.
func (s *stager) abandon() {
	if s.writer != nil {
		_ = s.writer.Close() // the error that led here is the one to report
	}
	for _, p := range s.paths {
		_ = s.engine.cfg.FS.Remove(p)
	}
}
