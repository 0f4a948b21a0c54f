// Package proxy stands between a Kafka client and a broker and cuts a connection at a request of the test's choice: before
// it was forwarded, or after the broker has answered it and before the client could read the answer. It speaks the framing of
// the protocol and nothing else: no TLS, no SASL.
package proxy

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

// Fate is what becomes of a request.
type Fate uint8

const (
	// Forward passes the request and its answer on.
	Forward Fate = iota
	// Cut closes the connection; the broker never sees the request.
	Cut
	// CutAnswer passes the request on and closes the connection when the broker has answered: it was executed, and nobody
	// knows.
	CutAnswer
)

// Decide is asked for each request, by the API key of the protocol. It is called by several goroutines at once.
type Decide func(apiKey int16) Fate

// Proxy makes connections whose requests meet Decide.
type Proxy struct {
	decide Decide
	wg     sync.WaitGroup
	mu     struct {
		sync.Mutex
		listeners map[string]net.Listener // by the broker's address
		open      map[net.Conn]struct{}
		closed    bool
	}
}

// New makes a Proxy. Close it.
func New(decide Decide) *Proxy {
	p := &Proxy{decide: decide}
	p.mu.listeners = map[string]net.Listener{}
	p.mu.open = map[net.Conn]struct{}{}
	return p
}

// Dial connects to the broker at addr through the proxy. It is a kgo.Dialer.
func (p *Proxy) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	listener, err := p.listen(addr)
	if err != nil {
		return nil, err
	}
	var d net.Dialer
	return d.DialContext(ctx, network, listener.Addr().String())
}

// listen returns the listener for a broker.
func (p *Proxy) listen(addr string) (net.Listener, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.closed {
		return nil, net.ErrClosed
	}
	if l := p.mu.listeners[addr]; l != nil {
		return l, nil
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	p.mu.listeners[addr] = l
	p.wg.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return // closed
			}
			p.wg.Go(func() { p.serve(client, addr) })
		}
	})
	return l, nil
}

// serve joins a client with the broker until one of them ends, or a fate does.
func (p *Proxy) serve(client net.Conn, addr string) {
	broker, err := net.Dial("tcp", addr)
	if err != nil {
		client.Close()
		return
	}
	if !p.keep(client, broker) {
		return
	}
	defer p.drop(client, broker)
	doomed := &answers{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = copyFrames(client, broker, shortest, func(f []byte) bool { return !doomed.has(correlation(f)) })
		client.Close()
		broker.Close()
	}()
	_ = copyFrames(broker, client, shortestRequest, func(f []byte) bool { // the error is the end of a connection: what the proxy is for
		switch p.decide(int16(binary.BigEndian.Uint16(f))) {
		case Cut:
			return false
		case CutAnswer:
			doomed.add(correlation(f[4:])) // behind the key and version of the API
		}
		return true
	})
	client.Close()
	broker.Close()
	<-done
}

// keep notes the connections of a pair, for Close.
func (p *Proxy) keep(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		if p.mu.closed {
			c.Close()
		}
		p.mu.open[c] = struct{}{}
	}
	return !p.mu.closed
}

func (p *Proxy) drop(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		c.Close()
		delete(p.mu.open, c)
	}
}

// Close ends all connections and waits for them.
func (p *Proxy) Close() {
	p.mu.Lock()
	p.mu.closed = true
	for _, l := range p.mu.listeners {
		l.Close()
	}
	for c := range p.mu.open {
		c.Close()
	}
	p.mu.Unlock()
	p.wg.Wait()
}

// maxFrame is far above what a test sends; a larger one is no Kafka.
const maxFrame = 64 << 20

// shortest is the length of the shortest frame: an answer's correlation id. A request has eight bytes before its id ends.
const (
	shortest        = 4
	shortestRequest = 8
)

var errFrame = errors.New("proxy: not a frame of Kafka's protocol")

// copyFrames passes frames on, size first, for as long as pass says so.
func copyFrames(to io.Writer, from io.Reader, least uint32, pass func(frame []byte) bool) error {
	for {
		var size [4]byte
		if _, err := io.ReadFull(from, size[:]); err != nil {
			return err
		}
		n := binary.BigEndian.Uint32(size[:])
		if n < least || n > maxFrame {
			return errFrame
		}
		frame := make([]byte, len(size)+int(n))
		copy(frame, size[:])
		if _, err := io.ReadFull(from, frame[len(size):]); err != nil {
			return err
		}
		if !pass(frame[len(size):]) {
			return nil
		}
		if _, err := to.Write(frame); err != nil {
			return err
		}
	}
}

// correlation is the id that ties an answer to its request: the first four bytes of an answer.
func correlation(frame []byte) uint32 { return binary.BigEndian.Uint32(frame) }

// answers are those that must not reach the client.
type answers struct {
	mu  sync.Mutex
	ids map[uint32]bool
}

func (a *answers) add(id uint32) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ids == nil {
		a.ids = map[uint32]bool{}
	}
	a.ids[id] = true
}

func (a *answers) has(id uint32) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.ids[id]
}
