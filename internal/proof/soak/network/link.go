package network

import (
	"bufio"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"
)

// State is what a Link does with the bytes of a connection.
type State uint8

const (
	// Open passes bytes on.
	Open State = iota
	// Cut closes connections at once, and refuses new ones.
	Cut
	// Slow passes bytes on with Latency for each piece, in either direction.
	Slow
	// HalfOpen swallows bytes in both directions while the connection stays up: the other side is gone and nobody says so.
	// What was swallowed is gone for good, so such a connection is closed when the state ends.
	HalfOpen
	// Late holds bytes back and delivers them when the state ends, also if their sender has given up since: a request that is
	// executed long after its answer was missed.
	Late
)

// Latency is what Slow adds to each piece: a commit has about ten of them one after the other, and still ends in time.
const Latency = 150 * time.Millisecond

// dialTimeout bounds the connection to a broker that does not answer. It is shorter than a client's patience.
const dialTimeout = 5 * time.Second

// Link is the network of one worker process.
type Link struct {
	listener net.Listener
	token    string
	wg       sync.WaitGroup

	mu struct {
		sync.Mutex
		every   State            // of the brokers that are not in one
		one     map[string]State // by the address of the broker
		changed chan struct{}    // closed and replaced with every change
		open    map[*joint]struct{}
		hits    map[string]int // by the address of the broker
		closed  bool
	}
}

// Listen makes a Link that passes everything on. Close it.
func Listen() (*Link, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("network: %w", err)
	}
	l := &Link{listener: listener, token: rand.Text()}
	l.mu.one, l.mu.open, l.mu.hits, l.mu.changed = map[string]State{}, map[*joint]struct{}{}, map[string]int{}, make(chan struct{})
	l.wg.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return // closed
			}
			l.wg.Go(func() { l.serve(client) })
		}
	})
	return l, nil
}

// Door is what a Dialer needs to know of a Link.
type Door struct {
	Addr  string `json:"addr"`
	Token string `json:"token"` // so that the Link is no open door for other programs of this machine
}

// Door returns the address of the Link.
func (l *Link) Door() Door { return Door{l.listener.Addr().String(), l.token} }

// Set changes what becomes of the connections to one broker, or with an empty address to every broker that was not named
// since. Connections that cannot go on are closed.
func (l *Link) Set(broker string, s State) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case broker == "":
		l.mu.every = s
	case s == Open:
		delete(l.mu.one, broker)
	default:
		l.mu.one[broker] = s
	}
	close(l.mu.changed)
	l.mu.changed = make(chan struct{})
	for j := range l.mu.open {
		s := l.stateLocked(j.broker)
		if s == Cut && j.server != nil {
			l.mu.hits[j.broker]++
		}
		if s == Cut || j.lossy && s != HalfOpen {
			j.close()
		}
	}
}

// Hits is how often a state other than Open has done something to a connection with a broker, or with an empty address with any: closed or
// refused it, let it wait, or delayed, held back or swallowed a piece of what was sent. To set a state does nothing to who does not talk.
func (l *Link) Hits(broker string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if broker != "" {
		return l.mu.hits[broker]
	}
	for _, hits := range l.mu.hits {
		n += hits
	}
	return n
}

func (l *Link) hit(broker string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.hits[broker]++
}

func (l *Link) stateLocked(broker string) State {
	if s, ok := l.mu.one[broker]; ok {
		return s
	}
	return l.mu.every
}

// state returns what holds for a broker now, and a channel that is closed when it may have changed.
func (l *Link) state(broker string) (State, <-chan struct{}, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.closed {
		return Cut, nil, net.ErrClosed
	}
	return l.stateLocked(broker), l.mu.changed, nil
}

// Close ends all connections and waits for them.
func (l *Link) Close() {
	l.mu.Lock()
	l.mu.closed = true
	l.listener.Close()
	close(l.mu.changed)
	l.mu.changed = make(chan struct{})
	for j := range l.mu.open {
		j.close()
	}
	l.mu.Unlock()
	l.wg.Wait()
}

// joint is one connection of a worker, with the one to its broker.
type joint struct {
	link           *Link
	broker         string // address
	client, server net.Conn
	lossy          bool // bytes were swallowed; guarded by Link.mu
}

// close ends both connections at once. The bytes that are on the way are lost, as in a cut.
func (j *joint) close() {
	for _, c := range []net.Conn{j.client, j.server} {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // it is about to be closed, and may be already
		}
		if c != nil {
			c.Close()
		}
	}
}

// serve answers the first line of a connection and joins it with the broker.
func (l *Link) serve(client net.Conn) {
	j := &joint{link: l, client: client}
	if !l.keep(j) {
		client.Close()
		return
	}
	defer l.drop(j)
	in := bufio.NewReader(client)
	line, err := in.ReadString('\n')
	token, broker, found := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
	if err != nil || !found || token != l.token {
		return
	}
	server, err := l.dial(broker)
	if err != nil {
		_, _ = io.WriteString(client, refusedWord) // a client that is gone does not need it
		return
	}
	if !l.joined(j, broker, server) {
		return
	}
	if _, err := io.WriteString(client, reachedWord); err != nil {
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		j.pump(client, server)
	}()
	j.pump(server, in)
	<-done
}

// The answers to the first line.
const (
	reachedWord = "+"
	refusedWord = "-"
)

var errRefused = errors.New("network: the link is cut")

// dial connects to a broker as the state allows: behind a half-open or late line nobody answers until it ends.
func (l *Link) dial(broker string) (net.Conn, error) {
	for {
		state, changed, err := l.state(broker)
		switch {
		case err != nil:
			return nil, err
		case state == Cut:
			l.hit(broker)
			return nil, errRefused
		case state == Open, state == Slow:
			return net.DialTimeout("tcp", broker, dialTimeout)
		}
		l.hit(broker)
		<-changed
	}
}

func (l *Link) keep(j *joint) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.closed {
		return false
	}
	l.mu.open[j] = struct{}{}
	return true
}

// joined notes the connection to the broker. False: the state has changed meanwhile.
func (l *Link) joined(j *joint, broker string, server net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	j.broker, j.server = broker, server
	return !l.mu.closed && l.stateLocked(broker) != Cut
}

func (l *Link) drop(j *joint) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.mu.open, j)
	j.client.Close()
	if j.server != nil {
		j.server.Close()
	}
}

// piece is how much is passed on at once.
const piece = 32 << 10

// pump passes bytes in one direction until its source ends. Only the writing half of the destination is closed then: the broker
// still gets what a worker sent before it gave up.
func (j *joint) pump(to net.Conn, from io.Reader) {
	buf := make([]byte, piece)
	for {
		n, err := from.Read(buf)
		if n > 0 && !j.pass(to, buf[:n]) {
			_, _ = io.Copy(io.Discard, from) // nobody wants it; its sender must not be kept waiting
			break
		}
		if err != nil {
			break
		}
	}
	if tcp, ok := to.(*net.TCPConn); ok {
		_ = tcp.CloseWrite() // it may be closed
	}
}

// pass does with a piece what the state says. False: the destination does not take it any more.
func (j *joint) pass(to net.Conn, b []byte) bool {
	for {
		state, changed, err := j.link.state(j.broker)
		if err != nil || state == Cut {
			return false
		}
		if state != Open {
			j.link.hit(j.broker)
		}
		switch state {
		case HalfOpen:
			return j.swallow()
		case Late:
			<-changed
			continue
		case Slow:
			select {
			case <-time.After(Latency):
			case <-changed:
			}
		}
		_, err = to.Write(b)
		return err == nil
	}
}

// swallow notes that bytes are missing from now on. False: the state has just ended.
func (j *joint) swallow() bool {
	j.link.mu.Lock()
	defer j.link.mu.Unlock()
	j.lossy = true
	if j.link.stateLocked(j.broker) != HalfOpen {
		j.close()
		return false
	}
	return true
}
