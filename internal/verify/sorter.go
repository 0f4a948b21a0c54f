package verify

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"slices"

	"github.com/oncemill/oncemill/internal/problem"
)

// sorter orders more entries than memory holds: it fills a buffer, writes it sorted to a file, and merges the files. Entries
// with equal keys keep the order in which they were added. Bound: bufferBytes of entries, plus maxRuns readers of
// readerBytes while it is read.
type sorter struct {
	dir     string
	limit   int
	data    []byte
	entries []span
	runs    []*os.File // oldest first
	stopped func() error
}

// span is one entry in the buffer.
type span struct{ key, value, end int }

const (
	// bufferBytes is what one sorter holds in memory; about ten are open at a time.
	bufferBytes = 4 << 20
	// maxRuns bounds the open files of a sorter: with that many, they are merged into one.
	maxRuns     = 64
	readerBytes = 32 << 10
)

func newSorter(dir string) *sorter {
	return &sorter{dir: dir, limit: bufferBytes, stopped: func() error { return nil }}
}

// add takes a copy of an entry.
func (s *sorter) add(key, value []byte) error {
	at := len(s.data)
	s.data = append(append(s.data, key...), value...)
	s.entries = append(s.entries, span{at, at + len(key), len(s.data)})
	if len(s.data)+len(s.entries)*24 < s.limit {
		return nil
	}
	return s.spill()
}

func (s *sorter) sortBuffer() {
	slices.SortFunc(s.entries, func(a, b span) int {
		if c := bytes.Compare(s.data[a.key:a.value], s.data[b.key:b.value]); c != 0 {
			return c
		}
		return a.key - b.key // as they were added
	})
}

// temporaryCure is what helps when the temporary files cannot be written.
const temporaryCure = "name a directory with room: --temp-dir, or TMPDIR in the environment"

// spill writes the buffer as one more run.
func (s *sorter) spill() error {
	if err := s.writeBuffer(); err != nil {
		return problem.Wrap(problem.StoreIO, "temporary files in "+s.dir, err).WithCure(temporaryCure)
	}
	return nil
}

func (s *sorter) writeBuffer() error {
	if len(s.runs) == maxRuns {
		if err := s.mergeRuns(); err != nil {
			return err
		}
	}
	s.sortBuffer()
	i := 0
	err := s.writeRun(func() (key, value []byte, err error) {
		if i == len(s.entries) {
			return nil, nil, io.EOF
		}
		e := s.entries[i]
		i++
		return s.data[e.key:e.value], s.data[e.value:e.end], nil
	})
	s.data, s.entries = s.data[:0], s.entries[:0]
	return err
}

// mergeRuns replaces the runs by one.
func (s *sorter) mergeRuns() error {
	old := s.runs
	c, err := openCursor(old, nil, s.stopped)
	if err != nil {
		return err
	}
	s.runs = nil
	err = s.writeRun(func() ([]byte, []byte, error) {
		if !c.next() {
			return nil, nil, errors.Join(c.err, io.EOF)
		}
		return c.key, c.value, nil
	})
	if c.err != nil {
		err = c.err
	}
	for _, f := range old {
		err = errors.Join(err, f.Close())
	}
	return err
}

// writeRun writes entries until io.EOF to a new file, which has no name: nothing is left behind, whatever happens.
func (s *sorter) writeRun(next func() (key, value []byte, err error)) error {
	f, err := os.CreateTemp(s.dir, "run-*")
	if err != nil {
		return err
	}
	if err := os.Remove(f.Name()); err != nil {
		return errors.Join(err, f.Close())
	}
	s.runs = append(s.runs, f)
	w := bufio.NewWriterSize(f, readerBytes)
	var frame []byte
	for {
		key, value, err := next()
		if errors.Is(err, io.EOF) {
			return w.Flush()
		}
		if err != nil {
			return err
		}
		frame = binary.AppendUvarint(frame[:0], uint64(len(key)))
		frame = binary.AppendUvarint(frame, uint64(len(value)))
		for _, part := range [][]byte{frame, key, value} {
			if _, err := w.Write(part); err != nil {
				return err
			}
		}
	}
}

// sorted opens a cursor over all entries. Nothing may be added while it is in use; it may be opened again afterwards.
func (s *sorter) sorted() (*cursor, error) {
	s.sortBuffer()
	return openCursor(s.runs, s, s.stopped)
}

// close lets go of the runs.
func (s *sorter) close() error {
	var errs []error
	for _, f := range s.runs {
		errs = append(errs, f.Close())
	}
	s.runs, s.data, s.entries = nil, nil, nil
	return errors.Join(errs...)
}

// cursor merges the runs of a sorter. Key and value are valid until the next move.
type cursor struct {
	key, value []byte
	err        error

	inputs []*runReader // nil entries are at their end
	last   int          // the input of key, to be moved first; -1 before the start

	stopped func() error
	moves   uint
}

// movesBetween are the moves of a cursor between two looks at whether anybody still waits.
const movesBetween = 1 << 14

// runReader stands on an entry of one run, or of the buffer of a sorter.
type runReader struct {
	file       *bufio.Reader
	buffer     *sorter
	at         int
	key, value []byte
}

func openCursor(runs []*os.File, buffer *sorter, stopped func() error) (*cursor, error) {
	c := &cursor{last: -1, stopped: stopped}
	for _, f := range runs {
		// A section reader leaves the file's own offset alone, so that several cursors may follow one another.
		c.inputs = append(c.inputs, &runReader{file: bufio.NewReaderSize(io.NewSectionReader(f, 0, 1<<62), readerBytes)})
	}
	if buffer != nil {
		c.inputs = append(c.inputs, &runReader{buffer: buffer})
	}
	for i := range c.inputs {
		if err := c.advance(i); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *cursor) advance(i int) error {
	err := c.inputs[i].next()
	if errors.Is(err, io.EOF) {
		c.inputs[i] = nil
		return nil
	}
	return err
}

// next moves to the next entry; false at the end, or after an error, which err keeps.
func (c *cursor) next() bool {
	if c.err != nil {
		return false
	}
	if c.moves++; c.moves%movesBetween == 0 {
		if c.err = c.stopped(); c.err != nil {
			return false
		}
	}
	if c.last >= 0 {
		if c.err = c.advance(c.last); c.err != nil {
			return false
		}
	}
	c.last = -1
	for i, in := range c.inputs {
		if in != nil && (c.last < 0 || bytes.Compare(in.key, c.inputs[c.last].key) < 0) {
			c.last = i
		}
	}
	if c.last < 0 {
		return false
	}
	c.key, c.value = c.inputs[c.last].key, c.inputs[c.last].value
	return true
}

func (r *runReader) next() error {
	if r.buffer != nil {
		if r.at == len(r.buffer.entries) {
			return io.EOF
		}
		e := r.buffer.entries[r.at]
		r.at++
		r.key, r.value = r.buffer.data[e.key:e.value], r.buffer.data[e.value:e.end]
		return nil
	}
	keyLen, err := binary.ReadUvarint(r.file)
	if err != nil {
		return err
	}
	valueLen, err := binary.ReadUvarint(r.file)
	if err != nil {
		return noEOF(err)
	}
	r.key = resize(r.key, int(keyLen))
	if _, err := io.ReadFull(r.file, r.key); err != nil {
		return noEOF(err)
	}
	r.value = resize(r.value, int(valueLen))
	_, err = io.ReadFull(r.file, r.value)
	return noEOF(err)
}

// noEOF tells a run that breaks off from one that ends.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func resize(b []byte, n int) []byte {
	if cap(b) < n {
		return make([]byte, n)
	}
	return b[:n]
}
