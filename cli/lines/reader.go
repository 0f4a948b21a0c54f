package lines

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// Format is how the input is cut into records.
type Format uint8

const (
	// NDJSON is one record to a line. Blank lines are none.
	NDJSON Format = iota
	// CSV has a header row; a quoted field may contain line ends (RFC 4180).
	CSV
)

// MaxRecordBytes is the longest record: what a topic takes by default, with room for the headers of a dead letter.
const MaxRecordBytes = 1<<20 - 16<<10

// errTooLong is what next returns for a record longer than MaxRecordBytes, after it was skipped.
var errTooLong = fmt.Errorf("longer than %d bytes", MaxRecordBytes)

// reader cuts an input into records, without their line ends; a carriage return before a line end belongs to the record.
type reader struct {
	in     *bufio.Reader
	format Format
	buf    []byte
	line   int64 // of the record that next returned: the number of its first line in the input, from 1
	passed int64 // lines before what is read next
}

func newReader(in io.Reader, format Format) *reader {
	return &reader{in: bufio.NewReaderSize(in, 256<<10), format: format}
}

// next returns the next record, which is valid until the next call; io.EOF behind the last one.
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
	quoted, long := false, false
	for {
		piece, err := r.in.ReadSlice('\n')
		if r.format == CSV && bytes.Count(piece, quote)%2 == 1 {
			quoted = !quoted
		}
		r.passed += int64(bytes.Count(piece, newline))
		if long = long || len(r.buf)+len(piece) > MaxRecordBytes; !long {
			r.buf = append(r.buf, piece...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull), err == nil && quoted:
			continue
		case errors.Is(err, io.EOF) && len(r.buf) == 0 && !long:
			return nil, io.EOF
		case err != nil && !errors.Is(err, io.EOF):
			return nil, err
		case long:
			return nil, errTooLong
		}
		return bytes.TrimSuffix(r.buf, newline), nil
	}
}

var (
	quote   = []byte{'"'}
	newline = []byte{'\n'}
)
