package lines

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/oncemill/oncemill/internal/problem"
)

// Sizes of one write; only a longer record makes a longer one. What is written to a pipe stays in doubt after a kill, and a
// write that blocks is likely to be the one that is hit: so it is one that POSIX does not cut (PIPE_BUF). What is written
// to a file is found there.
const (
	writeBytes     = 64 << 10
	pipeWriteBytes = 4 << 10
)

// printer writes the committed records of the output topic. The order is: write, then save the position.
type printer struct {
	dir string
	out io.Writer
	pos position

	same    bool   // the output is the regular file that the run before wrote to
	header  bool   // the header row is still to be written, before the first record
	tail    []byte // what the killed run before wrote behind its position, and was not met yet
	torn    bool   // its last record was cut, in another file than ours
	limit   int    // of one write
	buf     []byte
	next    int64 // offset behind buf
	count   int64 // records in buf
	printed int64
}

func newPrinter(dir string, out io.Writer, pos position, tail []byte) *printer {
	p := &printer{dir: dir, out: out, pos: pos, next: pos.Next, tail: tail}
	file, size := regular(out)
	if p.limit = pipeWriteBytes; file != "" {
		p.limit = writeBytes
	}
	p.same = file != "" && file == pos.File
	p.header = pos.Header != "" && size == 0 // a file that goes on has its row
	if row := []byte(pos.Header + "\n"); pos.Header != "" && pos.Size == 0 && len(tail) > 0 {
		if rest := p.resume(row); p.same && len(rest) < len(row) {
			p.buf = append(p.buf, rest...)
		}
	}
	p.pos.Clean, p.pos.File, p.pos.Size = false, file, size
	return p
}

// resume returns what is left to print of a piece of output, given what the killed run before has printed already.
func (p *printer) resume(piece []byte) []byte {
	switch {
	case len(p.tail) == 0:
		return piece
	case bytes.HasPrefix(p.tail, piece):
		p.tail = p.tail[len(piece):]
		return nil
	case bytes.HasPrefix(piece, p.tail):
		cut := len(p.tail)
		p.tail = nil
		if p.same {
			return piece[cut:]
		}
		p.torn = true
	}
	p.tail = nil // somebody else wrote behind us
	return piece
}

// run prints until it has met the target, which may come late: the offset behind the last record to print.
func (p *printer) run(ctx context.Context, client *kgo.Client, target <-chan int64) error {
	end := int64(-1)
	for end < 0 || p.next < end {
		polled, stop := context.WithCancel(ctx)
		known := make(chan struct{})
		go func() { // a target that is met already ends the poll
			defer close(known)
			select {
			case end = <-target:
				stop()
			case <-polled.Done():
			}
		}()
		fetches := client.PollFetches(polled)
		stop()
		<-known
		if ctx.Err() != nil {
			return errors.Join(context.Cause(ctx), p.clean())
		}
		if err := p.take(fetches); err != nil {
			return err
		}
	}
	return p.clean()
}

// clean notes that nothing was written behind the position.
func (p *printer) clean() error {
	p.pos.Clean = true
	return p.pos.save(p.dir)
}

func (p *printer) take(fetches kgo.Fetches) error {
	for _, e := range fetches.Errors() {
		if !errors.Is(e.Err, context.Canceled) {
			return fmt.Errorf("read the output topic: %w", e.Err)
		}
	}
	for it := fetches.RecordIter(); !it.Done(); {
		r := it.Next()
		if !r.Attrs.IsControl() {
			if err := p.add(append(r.Value, '\n')); err != nil {
				return err
			}
		}
		p.next = r.Offset + 1
	}
	return p.flush()
}

// add buffers what is left to print of a record, and writes what was buffered before if both are too much for one write.
func (p *printer) add(record []byte) error {
	rest := p.resume(record)
	if len(rest) == 0 {
		return nil
	}
	if p.header {
		p.header = false
		p.buf = append(append(p.buf, p.pos.Header...), '\n')
	}
	if len(p.buf)+len(rest) > p.limit {
		if err := p.flush(); err != nil {
			return err
		}
	}
	p.buf = append(p.buf, rest...)
	p.count++
	return nil
}

// flush writes what is buffered, and then saves the position.
func (p *printer) flush() error {
	if p.next == p.pos.Next && len(p.buf) == 0 {
		return nil
	}
	if len(p.buf) > 0 {
		if _, err := p.out.Write(p.buf); err != nil {
			return problem.Wrap(problem.StoreIO, "standard output", err)
		}
	}
	p.pos.Next = p.next
	p.pos.Size += int64(len(p.buf))
	p.printed += p.count
	p.buf, p.count = p.buf[:0], 0
	return p.pos.save(p.dir)
}
