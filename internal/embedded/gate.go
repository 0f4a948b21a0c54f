package embedded

import (
	"net"
	"sync"
)

// gate holds back connections until the broker is complete. kfake serves from the moment it listens, but the journal can be
// attached only to a cluster that exists, and clients of the previous run come back at once.
type gate struct {
	opened chan struct{}
	once   sync.Once
}

func newGate() *gate { return &gate{opened: make(chan struct{})} }

func (g *gate) open() { g.once.Do(func() { close(g.opened) }) }

type listenFunc = func(network, address string) (net.Listener, error)

// listen wraps a listen function.
func (g *gate) listen(listen listenFunc) listenFunc {
	return func(network, address string) (net.Listener, error) {
		l, err := listen(network, address)
		if err != nil {
			return nil, err
		}
		return gatedListener{l, g}, nil
	}
}

type gatedListener struct {
	net.Listener
	gate *gate
}

// Accept implements net.Listener.
func (l gatedListener) Accept() (net.Conn, error) {
	<-l.gate.opened
	return l.Listener.Accept()
}
