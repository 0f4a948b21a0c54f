package memnet

import (
	"net"
	"net/netip"
	"sync"
)

// listener hands out the server ends of dialed connections. Closing it resets those that were not accepted, leaves the
// accepted ones alone, and frees the address.
type listener struct {
	net    *Network
	addr   netip.AddrPort
	queue  chan *conn
	closed chan struct{}
	once   sync.Once
}

// Accept waits for the next connection. A connection that was cut while it waited is handed out all the same, as a real
// listener does: its first read fails.
func (l *listener) Accept() (net.Conn, error) {
	if !l.isClosed() { // a closed listener accepts nothing, even if the queue is not drained yet
		select {
		case c := <-l.queue:
			return c, nil
		case <-l.closed:
		}
	}
	return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: l.Addr(), Err: net.ErrClosed}
}

// Close ends Accept and refuses further dials. A second Close returns net.ErrClosed.
func (l *listener) Close() error {
	err := error(&net.OpError{Op: "close", Net: "tcp", Addr: l.Addr(), Err: net.ErrClosed})
	l.once.Do(func() {
		err = nil
		l.net.mu.Lock()
		delete(l.net.mu.listeners, l.addr)
		close(l.closed)
		l.net.mu.Unlock()
		for {
			select {
			case c := <-l.queue:
				c.reset()
			default:
				return
			}
		}
	})
	return err
}

// Addr returns the address, with the port that was picked.
func (l *listener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.addr) }

func (l *listener) isClosed() bool {
	select {
	case <-l.closed:
		return true
	default:
		return false
	}
}
