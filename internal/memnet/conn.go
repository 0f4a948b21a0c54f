package memnet

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"
)

// conn is one end of a connection: it reads from one buffer and writes into the other.
type conn struct {
	net           *Network
	local, remote netip.AddrPort
	in, out       *buffer
	peer          *conn
	readBy        *deadline
	writeBy       *deadline
}

func newConn(n *Network, local, remote netip.AddrPort, in, out *buffer) *conn {
	return &conn{net: n, local: local, remote: remote, in: in, out: out, readBy: newDeadline(), writeBy: newDeadline()}
}

// Read returns what is buffered, and waits if nothing is.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.in.read(p, c.readBy.expired())
	if err != nil && !errors.Is(err, io.EOF) { // io.EOF must be bare, readers compare it with ==
		err = c.opError("read", err)
	}
	return n, err
}

// Write appends to the buffer of the peer and waits only while that is full. After an error n bytes were accepted.
func (c *conn) Write(p []byte) (int, error) {
	n, err := c.out.write(p, c.writeBy.expired())
	if err != nil {
		err = c.opError("write", err)
	}
	return n, err
}

// Close lets the peer read what was written, then io.EOF. The peer's writes fail from now on, and what the peer wrote
// and this end did not read is lost.
func (c *conn) Close() error {
	if !c.in.closeReader() {
		return c.opError("close", net.ErrClosed)
	}
	c.out.closeWriter()
	c.readBy.set(time.Time{})
	c.writeBy.set(time.Time{})
	c.net.forget(c)
	return nil
}

// reset breaks the connection for both ends and reports whether it was still whole.
func (c *conn) reset() bool {
	in, out := c.in.reset(), c.out.reset()
	c.net.forget(c)
	c.net.forget(c.peer)
	return in || out
}

// LocalAddr returns a *net.TCPAddr.
func (c *conn) LocalAddr() net.Addr { return net.TCPAddrFromAddrPort(c.local) }

// RemoteAddr returns a *net.TCPAddr.
func (c *conn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.remote) }

// SetDeadline sets both deadlines. The zero time means none; a time in the past fails pending and later calls.
func (c *conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// SetReadDeadline sets the deadline of pending and later reads.
func (c *conn) SetReadDeadline(t time.Time) error { return c.setDeadline(c.readBy, t) }

// SetWriteDeadline sets the deadline of pending and later writes.
func (c *conn) SetWriteDeadline(t time.Time) error { return c.setDeadline(c.writeBy, t) }

func (c *conn) setDeadline(d *deadline, t time.Time) error {
	if c.in.readerClosed() {
		return c.opError("set", net.ErrClosed)
	}
	d.set(t)
	return nil
}

func (c *conn) opError(op string, err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		err = os.NewSyscallError(op, errno)
	}
	return &net.OpError{Op: op, Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
}
