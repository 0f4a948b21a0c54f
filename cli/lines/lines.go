// Package lines deduplicates the records of a stream, NDJSON or CSV, through the same engine as a topic: an embedded broker,
// the stage of internal/dedupstage with one partition, so that the order is kept, and a reader of its committed output.
//
//	input -> topic lines-in -> engine -> topic lines-out -> output
//
// # What is guaranteed
//
// With a directory that is kept, an id is committed once: whenever the process is killed, and however often the same input
// is given again. What is committed is printed at least once. The position of what was printed is saved after each write; so
// a kill between the two leaves a write that the next run does not know of:
//
//   - if the output was a regular file, the next run compares its end with what it is about to print, and prints what is
//     missing: each record exactly once in the files of all runs together (on systems with /proc);
//   - if the output was a pipe, nobody can know, and the records of that one write are printed again: at most 4 KiB, or one
//     record that is longer. Result.InDoubt says so.
//
// A record that was refused stays refused: given again unchanged, within the window, it is counted as refused once more and
// not as a duplicate (Result.RefusedBefore).
//
// The records of a killed run's input that were read and not yet processed are processed by the next run, before its own
// input: nothing is lost, and the order is that of the inputs one after the other.
package lines

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/oncemill/oncemill/internal/dedupstage"
	"github.com/oncemill/oncemill/internal/embedded"
	"github.com/oncemill/oncemill/internal/problem"
)

// Config of a run.
type Config struct {
	In     io.Reader
	Out    io.Writer
	Format Format
	// ID recognises a record of NDJSON. For CSV it may be replaced by Column.
	ID dedupstage.ID
	// Column is the name of the CSV column with the id; empty: ID is used.
	Column string
	// Window is how long an id is remembered, counted from when its record was read.
	Window time.Duration
	// IgnoreConflicts takes an id that comes again with another body for a duplicate.
	IgnoreConflicts bool
	// MaxRecordBytes is the longest record; a longer one is refused. 0: DefaultMaxRecordBytes.
	MaxRecordBytes int
	// Dir keeps the broker's log, the state and the position. Empty: they are kept nowhere.
	Dir string
	// Logger gets warnings.
	Logger *slog.Logger
	// Read and Processed are told of n more records. Optional.
	Read, Processed func(n int64)
}

// Result of a run.
type Result struct {
	Read, Printed, Duplicates, Refused int64
	// RefusedBefore is how many of the refused were refused by an earlier run already: they came again unchanged.
	RefusedBefore int64
	// Refusals are the first of the refused.
	Refusals []Refusal
	// InDoubt says that a killed run before may have printed some of the first records that this one printed.
	InDoubt bool
	// Torn is the file of a killed run whose last record is cut; it was printed again, in full, elsewhere.
	Torn string
}

// Refusal is a record that was not printed because it has no id that can be used, or one that another record has, or because it
// is longer than Config.MaxRecordBytes or a quoted field of it has no end.
type Refusal struct {
	// Record is its number in the input, from 1, header and blank lines not counted; 0: it is from the input of a run before.
	Record int64
	// Line is where it begins in the input, from 1, every line counted; 0 if Record is.
	Line   int64
	Reason string
}

// maxRefusals bounds Result.Refusals.
const maxRefusals = 10

// Names inside the directory, and of application and topics.
const (
	brokerDir = "broker"
	engineDir = "state"
	app       = "lines"
	topicIn   = "lines-in"
	topicOut  = "lines-out"
	topicDead = app + "-dead-letters"
)

// Run copies the input to the output, each id once, until the input ends or ctx does.
func Run(ctx context.Context, c Config) (result Result, err error) {
	for _, fn := range []*func(int64){&c.Read, &c.Processed} {
		if *fn == nil {
			*fn = func(int64) {}
		}
	}
	if c.MaxRecordBytes == 0 {
		c.MaxRecordBytes = DefaultMaxRecordBytes
	}
	if c.Dir == "" {
		dir, err := os.MkdirTemp("", "oncemill-dedup-")
		if err != nil {
			return result, problem.Wrap(problem.DirectoryUnusable, os.TempDir(), err)
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
		c.Dir = dir
	}
	if err := checkOurs(c.Dir); err != nil {
		return result, err
	}
	broker, err := embedded.Start(embedded.Config{DataDir: filepath.Join(c.Dir, brokerDir), DefaultPartitions: 1,
		Topics: map[string]int{topicIn: 1, topicOut: 1}, Logger: c.Logger})
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, broker.Close()) }()
	r, err := newRun(c, broker.Addrs())
	if err != nil {
		return result, err
	}
	defer r.close()
	if err = r.do(ctx); err != nil {
		return r.result, err
	}
	return r.result, r.finish(ctx)
}

// checkOurs refuses a directory with files that are not ours.
func checkOurs(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return problem.Wrap(problem.DirectoryUnusable, dir, err)
	}
	for _, e := range entries {
		switch e.Name() {
		case brokerDir, engineDir, positionFile, positionFile + ".next":
		default:
			return problem.New(problem.DirectoryForeign, dir, "it holds %q", e.Name())
		}
	}
	return nil
}
