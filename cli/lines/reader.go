package lines

import (
	"bufio"
	"bytes"
	"errors"
	"io"

	"github.com/oncemill/oncemill/internal/problem"
)

// Format is how the input is cut into records.
type Format uint8

const (
	// NDJSON is one record to a line. Blank lines are none.
	NDJSON Format = iota
	// CSV has a header row; a quoted field may contain line ends (RFC 4180).
	CSV
)

// Bounds of Config.MaxRecordBytes.
const (
	// DefaultMaxRecordBytes is what a topic takes by default, with room for the headers of a dead letter.
	DefaultMaxRecordBytes = 1<<20 - 16<<10
	// LongestRecordBytes is the most: what the engine takes at most, with the same room.
	LongestRecordBytes = 63 << 20
)

// refusedRecord is what next returns for a record that cannot be sent, after it was skipped.
type refusedRecord struct{ error }

// reader cuts an input into records, without their line ends; a carriage return before a line end belongs to the record.
type reader struct {
	in     *bufio.Reader
	format Format
	limit  int // of a record, in bytes
	buf    []byte
	line   int64 // of the record that next returned: the number of its first line in the input, from 1
	passed int64 // lines before what is read next
}

func newReader(in io.Reader, format Format, limit int) *reader {
	return &reader{in: bufio.NewReaderSize(in, 256<<10), format: format, limit: limit}
}

// next returns the next record, which is valid until the next call; io.EOF behind the last one. A refusedRecord is no end:
// the next call goes on behind it.
func (r *reader) next() ([]byte, error) {
	for {
		record, err := r.one()
		if err != nil {
			return nil, err
		}
		blank := " \t\r"
		if r.format == CSV {
			blank = "\r" // spaces are a field
		}
		if len(bytes.Trim(record, blank)) > 0 {
			return record, nil
		}
	}
}

func (r *reader) one() ([]byte, error) {
	r.buf = r.buf[:0]
	r.line = r.passed + 1
	var row quotes
	long := false
	for {
		piece, err := r.in.ReadSlice('\n')
		if r.format == CSV {
			row.scan(piece, r.passed+1)
		}
		r.passed += int64(bytes.Count(piece, newline))
		if long = long || len(r.buf)+len(bytes.TrimSuffix(piece, newline)) > r.limit; !long {
			r.buf = append(r.buf, piece...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull), err == nil && row.open():
			continue
		case errors.Is(err, io.EOF) && len(r.buf) == 0 && !long:
			return nil, io.EOF
		case err != nil && !errors.Is(err, io.EOF):
			return nil, err
		}
		if reason := row.refusal(r.lastLine(piece)); reason != nil {
			return nil, refusedRecord{reason}
		}
		if long {
			return nil, refusedRecord{problem.New(problem.OutputTooLarge, "record", "longer than %d bytes", r.limit).
				WithCure("raise Config.MaxRecordBytes above its length, at most %d", LongestRecordBytes)}
		}
		return bytes.TrimSuffix(r.buf, newline), nil
	}
}

// lastLine is the number of the last line read; last is the last piece of it, which has no line end at the end of the input.
func (r *reader) lastLine(last []byte) int64 {
	if len(last) == 0 || bytes.HasSuffix(last, newline) {
		return r.passed
	}
	return r.passed + 1
}

var (
	quote   = []byte{'"'}
	newline = []byte{'\n'}
)
