package memnet

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
)

// bufferBytes bounds what lies between a writer and its reader in one direction. It is far above what a Kafka client
// keeps in flight, so that a writer waits only for a reader that stopped reading.
const bufferBytes = 16 << 20

// buffer is one direction of a connection.
//
//	open -> writer closed: reads drain, then io.EOF
//	open -> reader closed: reads net.ErrClosed, writes EPIPE
//	open -> reset:         what is buffered is lost, reads and writes ECONNRESET
//
// Invariant: len(data) <= bufferBytes.
type buffer struct {
	mu struct {
		sync.Mutex
		data                           []byte
		writerClosed, readerClosed, rs bool // rs: reset
		// changed is closed and replaced whenever any field above changes.
		changed chan struct{}
	}
}

func newBuffer() *buffer {
	b := &buffer{}
	b.mu.changed = make(chan struct{})
	return b
}

// read waits for data, an end of the connection, or the deadline.
func (b *buffer) read(p []byte, expired <-chan struct{}) (int, error) {
	for {
		b.mu.Lock()
		n, done, err := b.tryReadLocked(p, expired)
		changed := b.mu.changed
		b.mu.Unlock()
		if done {
			return n, err
		}
		select {
		case <-changed:
		case <-expired:
		}
	}
}

func (b *buffer) tryReadLocked(p []byte, expired <-chan struct{}) (n int, done bool, err error) {
	switch {
	case b.mu.readerClosed:
		return 0, true, net.ErrClosed
	case b.mu.rs:
		return 0, true, syscall.ECONNRESET
	case isClosed(expired):
		return 0, true, os.ErrDeadlineExceeded
	case len(p) == 0:
		return 0, true, nil
	case len(b.mu.data) > 0:
		n = copy(p, b.mu.data)
		b.mu.data = b.mu.data[n:]
		if len(b.mu.data) == 0 {
			b.mu.data = nil // let the memory go: an idle connection keeps none
		}
		b.changeLocked()
		return n, true, nil
	case b.mu.writerClosed:
		return 0, true, io.EOF
	}
	return 0, false, nil
}

// write appends p piece by piece as there is room.
func (b *buffer) write(p []byte, expired <-chan struct{}) (written int, err error) {
	for {
		b.mu.Lock()
		n, err := b.tryWriteLocked(p, expired)
		changed := b.mu.changed
		b.mu.Unlock()
		written += n
		p = p[n:]
		if err != nil || len(p) == 0 {
			return written, err
		}
		select {
		case <-changed:
		case <-expired:
		}
	}
}

func (b *buffer) tryWriteLocked(p []byte, expired <-chan struct{}) (int, error) {
	switch {
	case b.mu.writerClosed:
		return 0, net.ErrClosed
	case b.mu.rs:
		return 0, syscall.ECONNRESET
	case b.mu.readerClosed:
		return 0, syscall.EPIPE
	case isClosed(expired):
		return 0, os.ErrDeadlineExceeded
	}
	n := min(len(p), bufferBytes-len(b.mu.data))
	if n > 0 {
		b.mu.data = append(b.mu.data, p[:n]...)
		b.changeLocked()
	}
	return n, nil
}

// closeReader reports false if the reader was closed before.
func (b *buffer) closeReader() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mu.readerClosed {
		return false
	}
	b.mu.readerClosed, b.mu.data = true, nil
	b.changeLocked()
	return true
}

func (b *buffer) closeWriter() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.writerClosed = true
	b.changeLocked()
}

// reset reports whether the buffer was usable at either end.
func (b *buffer) reset() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mu.rs || b.mu.readerClosed && b.mu.writerClosed {
		return false
	}
	b.mu.rs, b.mu.data = true, nil
	b.changeLocked()
	return true
}

func (b *buffer) readerClosed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mu.readerClosed
}

func (b *buffer) changeLocked() {
	close(b.mu.changed)
	b.mu.changed = make(chan struct{})
}
