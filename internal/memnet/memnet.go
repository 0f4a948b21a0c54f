// Package memnet is a network in memory for tests: listeners, dialers and buffered connections that work inside a
// testing/synctest bubble, and faults that can be switched on by address.
//
// It behaves like TCP where a Kafka client can tell the difference. A write goes into a buffer and returns without
// waiting for a reader (net.Pipe makes writer and reader meet, which hides races and invents deadlocks); data written
// before a Close is still read, then io.EOF; a cut connection loses what is buffered and fails on both sides with
// ECONNRESET; errors are *net.OpError around *os.SyscallError, which is what clients inspect to decide on a retry.
//
// Every wait is a channel receive, so that a bubble counts it as durably blocked; deadlines run on the bubble's clock.
//
//	n := memnet.New()
//	cluster, err := kfake.NewCluster(kfake.ListenFn(n.Listen))
//	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.Dialer(n.Dialer("10.0.0.7")))
//	n.Cut("10.0.0.7")     // the connections of this client break once
//	n.Isolate("10.0.0.7") // and no new ones can be made, until
//	n.Heal("10.0.0.7")
package memnet

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
)

// backlog bounds the connections that were dialed and not yet accepted. A dialer that finds the backlog full waits, as
// it does with a real listener.
const backlog = 128

// firstPort is the first port that is handed out for port 0.
const firstPort = 20000

// loopback is the host of a listener or dialer that names none.
var loopback = netip.AddrFrom4([4]byte{127, 0, 0, 1})

// Network is one isolated network. Its methods are safe for use by several goroutines. A connection that stays open
// costs memory only: no goroutine belongs to the network.
type Network struct {
	mu struct {
		sync.Mutex
		nextPort  uint16
		listeners map[netip.AddrPort]*listener
		// conns holds both ends of each open connection; an end leaves when it is closed or cut.
		conns    map[*conn]struct{}
		isolated map[string]struct{}
	}
}

// New returns an empty network.
func New() *Network {
	n := &Network{}
	n.mu.nextPort = firstPort
	n.mu.listeners = make(map[netip.AddrPort]*listener)
	n.mu.conns = make(map[*conn]struct{})
	n.mu.isolated = make(map[string]struct{})
	return n
}

// Listen has the form of net.Listen. The host is an IP address, "localhost" or empty (both mean 127.0.0.1); port 0
// picks a free one. Only the networks "tcp", "tcp4" and "tcp6" are known.
func (n *Network) Listen(network, address string) (net.Listener, error) {
	addr, err := parse(network, address)
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: network, Err: err}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if addr.Port() == 0 {
		addr = n.ephemeralLocked(addr.Addr())
	}
	if _, taken := n.mu.listeners[addr]; taken {
		return nil, &net.OpError{Op: "listen", Net: network, Addr: net.TCPAddrFromAddrPort(addr),
			Err: os.NewSyscallError("bind", syscall.EADDRINUSE)}
	}
	l := &listener{net: n, addr: addr, queue: make(chan *conn, backlog), closed: make(chan struct{})}
	n.mu.listeners[addr] = l
	return l, nil
}

// DialContext has the form of net.Dialer.DialContext and dials from 127.0.0.1.
func (n *Network) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return n.dial(ctx, loopback, network, address)
}

// Dialer returns a dial function whose connections come from the given IP address, so that faults can single out one
// client. It panics if host is not an IP address, which is a mistake in the test.
func (n *Network) Dialer(host string) func(ctx context.Context, network, address string) (net.Conn, error) {
	from := netip.MustParseAddr(host)
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		return n.dial(ctx, from, network, address)
	}
}

func (n *Network) dial(ctx context.Context, from netip.Addr, network, address string) (net.Conn, error) {
	fail := func(to net.Addr, err error) error { return &net.OpError{Op: "dial", Net: network, Addr: to, Err: err} }
	to, err := parse(network, address)
	if err != nil {
		return nil, fail(nil, err)
	}
	toAddr := net.TCPAddrFromAddrPort(to)
	if err := ctx.Err(); err != nil {
		return nil, fail(toAddr, err)
	}
	n.mu.Lock()
	l := n.mu.listeners[to]
	if l == nil || n.isolatedLocked(to) || n.isolatedHostLocked(from) {
		n.mu.Unlock()
		return nil, fail(toAddr, os.NewSyscallError("connect", syscall.ECONNREFUSED))
	}
	client, server := n.pairLocked(n.ephemeralLocked(from), to)
	n.mu.Unlock()

	// The pair is registered before it is queued, so that a Cut that runs meanwhile reaches it.
	select {
	case <-l.closed:
		err = os.NewSyscallError("connect", syscall.ECONNREFUSED)
	case <-ctx.Done():
		err = ctx.Err()
	case l.queue <- server:
		// A close that ran at the same time may have drained the queue before this one was in it.
		if !l.isClosed() {
			return client, nil
		}
		err = os.NewSyscallError("connect", syscall.ECONNREFUSED)
	}
	server.reset()
	return nil, fail(toAddr, err)
}

// Cut breaks every open connection that has the address at either end, and returns their number. The address is a host
// ("10.0.0.7") or a host and port ("127.0.0.1:20000", a broker). Both ends see ECONNRESET and what was buffered is
// lost. New connections can be made at once.
func (n *Network) Cut(address string) int {
	n.mu.Lock()
	var hit []*conn
	for c := range n.mu.conns {
		if matches(address, c.local) {
			hit = append(hit, c)
		}
	}
	n.mu.Unlock()
	cut := 0
	for _, c := range hit { // the order does not matter: nothing is observed between two resets
		if c.reset() {
			cut++
		}
	}
	return cut
}

// Isolate cuts the address and refuses its new connections, in both directions, until Heal. It returns the number of
// connections that were cut.
func (n *Network) Isolate(address string) int {
	n.mu.Lock()
	n.mu.isolated[address] = struct{}{}
	n.mu.Unlock()
	return n.Cut(address)
}

// Heal ends Isolate of the same address.
func (n *Network) Heal(address string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.mu.isolated, address)
}

// Open returns the number of ends of connections that are open: two for each connection that nobody has closed.
func (n *Network) Open() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.mu.conns)
}

func (n *Network) isolatedLocked(a netip.AddrPort) bool {
	_, port := n.mu.isolated[a.String()]
	return port || n.isolatedHostLocked(a.Addr())
}

func (n *Network) isolatedHostLocked(host netip.Addr) bool {
	_, found := n.mu.isolated[host.String()]
	return found
}

// ephemeralLocked hands out ports in turn over all hosts; ports of listeners are left out.
func (n *Network) ephemeralLocked(host netip.Addr) netip.AddrPort {
	for {
		n.mu.nextPort++
		if n.mu.nextPort < firstPort { // wrapped around
			n.mu.nextPort = firstPort
		}
		addr := netip.AddrPortFrom(host, n.mu.nextPort)
		if _, taken := n.mu.listeners[addr]; !taken {
			return addr
		}
	}
}

func (n *Network) pairLocked(from, to netip.AddrPort) (client, server *conn) {
	up, down := newBuffer(), newBuffer()
	client = newConn(n, from, to, down, up)
	server = newConn(n, to, from, up, down)
	client.peer, server.peer = server, client
	n.mu.conns[client] = struct{}{}
	n.mu.conns[server] = struct{}{}
	return client, server
}

func (n *Network) forget(c *conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.mu.conns, c)
}

func parse(network, address string) (netip.AddrPort, error) {
	switch network {
	case "tcp", "tcp4", "tcp6":
	default:
		return netip.AddrPort{}, net.UnknownNetworkError(network)
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if host == "" || host == "localhost" {
		host = loopback.String()
	}
	addr, err := netip.ParseAddrPort(net.JoinHostPort(host, port))
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("memnet resolves no names: %w", err)
	}
	return addr, nil
}

func matches(address string, a netip.AddrPort) bool {
	return address == a.String() || address == a.Addr().String()
}
