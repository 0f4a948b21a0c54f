package streamtest

import (
	"context"
	"encoding/binary"
	"io"
	"maps"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Loss is what happens to requests of one kind on their way between a process and a broker.
type Loss struct {
	// Key is the kind of the request.
	Key kmsg.Key
	// Process restricts it to one process, Role to one kind of its clients: "data", "group", "restore" or "admin".
	Process, Role string
	// Nth is the first request that it happens to, counted from 1 (the default). Times is to how many; default 1, -1 for
	// ever.
	Nth, Times int
	// Request loses the request, which is not executed. Otherwise the request is executed and its answer is lost. Either way
	// the connection breaks.
	Request bool
	// Delay, with an answer or a refusal, holds it back instead of losing it: beyond the client's patience it comes too late. With a
	// request it lets the lost request arrive after all, when its sender has given up.
	Delay time.Duration
	// Refuse lets the request arrive, and the broker answer it with this error instead of executing it; TopLevel is where the
	// answer says so, as in kfake.Fault.
	Refuse   *kerr.Error
	TopLevel bool
	// Err, with an answer to EndTxn, is what it says instead: the request was executed, and its sender is told otherwise.
	Err *kerr.Error
}

// LossHandle tells how often a Loss has happened.
type LossHandle struct {
	loss Loss
	wire *wire
	seen int // guarded by wire.mu, as is hits
	hits int
}

// Hits is how often it has happened.
func (h *LossHandle) Hits() int {
	h.wire.mu.Lock()
	defer h.wire.mu.Unlock()
	return h.hits
}

// Remove ends it.
func (h *LossHandle) Remove() {
	h.wire.mu.Lock()
	defer h.wire.mu.Unlock()
	h.wire.losses = slices.DeleteFunc(h.wire.losses, func(o *LossHandle) bool { return o == h })
}

// Lose loses, delays or leads astray requests or answers.
func (c *Cluster) Lose(l Loss) *LossHandle {
	c.t.Helper()
	l.Nth = max(l.Nth, 1)
	if l.Times == 0 {
		l.Times = 1
	}
	h := &LossHandle{loss: l, wire: &c.wire}
	c.wire.mu.Lock()
	defer c.wire.mu.Unlock()
	c.wire.losses = append(c.wire.losses, h)
	c.wire.delayed = c.wire.delayed || l.Delay > 0 && l.Refuse == nil
	return h
}

// delays reports that some request or answer may be under way for long.
func (w *wire) delays() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.delayed
}

// wire is the network between the processes and the brokers, where requests and answers can be told apart.
type wire struct {
	cluster *Cluster
	mu      sync.Mutex
	losses  []*LossHandle
	delayed bool // there was a loss with a delay
	sent    map[kmsg.Key]int
}

// Requests counts what the processes have asked the brokers, by kind.
func (c *Cluster) Requests() map[kmsg.Key]int {
	c.wire.mu.Lock()
	defer c.wire.mu.Unlock()
	return maps.Clone(c.wire.sent)
}

// dialer dials for a process, which may be paused; for the test itself when its name is empty.
func (w *wire) dialer(process, host string, paused func() <-chan struct{}) func(context.Context, string, string) (net.Conn, error) {
	dial := w.cluster.net.Dialer(host)
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		for goOn := paused(); goOn != nil; goOn = paused() {
			select {
			case <-goOn:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		conn, err := dial(ctx, network, address)
		if err != nil {
			<-time.After(latency) // a refusal is an answer
			return nil, err
		}
		return &wireConn{Conn: conn, wire: w, process: process, paused: paused, held: map[uint32]held{}, changed: make(chan struct{})}, nil
	}
}

// notPaused is the process of the test itself.
func notPaused() <-chan struct{} { return nil }

// strike finds the loss that a request meets. The test's own clients, which have no process, meet none.
func (w *wire) strike(process string, key int16, client string) *LossHandle {
	if process == "" {
		return nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.sent == nil {
		w.sent = map[kmsg.Key]int{}
	}
	w.sent[kmsg.Key(key)]++
	for _, h := range w.losses {
		l := &h.loss
		if int16(l.Key) != key || l.Process != "" && l.Process != process || l.Role != "" && !strings.HasSuffix(client, "-"+l.Role) {
			continue
		}
		h.seen++
		if h.seen < l.Nth || l.Times >= 0 && h.seen >= l.Nth+l.Times {
			continue
		}
		h.hits++
		return h
	}
	return nil
}

// wireConn is a connection of a process. The client writes a request with one call, and reads from one goroutine.
type wireConn struct {
	net.Conn
	wire    *wire
	process string
	paused  func() <-chan struct{} // nil, or closed when the process goes on

	mu       sync.Mutex
	held     map[uint32]held // by correlation id: what happens to the answer
	deadline time.Time       // of reads
	until    time.Time       // of writes
	closed   bool
	changed  chan struct{} // closed and replaced with each of these three

	answer []byte // read and not yet handed out
}

// held is what happens to the answer of a request of that version.
type held struct {
	*LossHandle
	version int16
}

// errBroken is what a client sees of a broken connection.
func errBroken(op string) error {
	return &net.OpError{Op: op, Net: "tcp", Err: os.NewSyscallError(op, syscall.ECONNRESET)}
}

// requestHeader takes a request apart: size 4, key 2, version 2, correlation id 4, client id with a length of 2.
func requestHeader(p []byte) (key int16, correlation uint32, client string, ok bool) {
	if len(p) < 14 {
		return 0, 0, "", false
	}
	n := int(int16(binary.BigEndian.Uint16(p[12:])))
	if n > 0 && len(p) >= 14+n {
		client = string(p[14 : 14+n])
	}
	return int16(binary.BigEndian.Uint16(p[4:])), binary.BigEndian.Uint32(p[8:]), client, true
}

// Write passes a request on, unless it gets lost.
func (c *wireConn) Write(p []byte) (int, error) {
	if err := c.standStill("write"); err != nil {
		return 0, err
	}
	key, correlation, client, ok := requestHeader(p)
	if !ok {
		return c.Conn.Write(p)
	}
	if c.process != "" && kmsg.Key(key) == kmsg.DeleteRecords {
		c.wire.cluster.keep()
	}
	h := c.wire.strike(c.process, key, client)
	switch {
	case h == nil:
		return c.Conn.Write(p)
	case h.loss.Refuse != nil:
		c.wire.cluster.trace.fault("%s of %s is answered with %s", kmsg.Key(key).Name(), c.process, h.loss.Refuse.Message)
		c.wire.cluster.broker.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Key(key)}, Err: h.loss.Refuse, TopLevel: h.loss.TopLevel})
		if h.loss.Delay == 0 {
			return c.Conn.Write(p)
		}
	case h.loss.Request:
		c.wire.cluster.trace.fault("a request %s of %s is lost; it arrives after %v (0: never)", kmsg.Key(key).Name(), c.process, h.loss.Delay)
		if h.loss.Delay > 0 {
			c.astray(slices.Clone(p), h.loss.Delay)
		}
		_ = c.Close()
		return 0, errBroken("write")
	}
	c.mu.Lock()
	c.held[correlation] = held{h, int16(binary.BigEndian.Uint16(p[6:]))}
	c.mu.Unlock()
	return c.Conn.Write(p)
}

// astray lets a request arrive later, on a connection that nobody reads for its sender.
func (c *wireConn) astray(request []byte, delay time.Duration) {
	address := c.RemoteAddr().String()
	cluster := c.wire.cluster
	dial := cluster.net.Dialer(cluster.newHost())
	cluster.mu.running.Go(func() {
		<-time.After(delay)
		conn, err := dial(context.Background(), "tcp", address)
		if err != nil {
			return // the brokers are gone: so is the test
		}
		defer func() { _ = conn.Close() }()
		_ = conn.SetDeadline(time.Now().Add(time.Minute))
		cluster.trace.fault("the stray request arrives")
		if _, err := conn.Write(request); err == nil {
			_, _ = readFrame(conn)
		}
	})
}

func readFrame(r io.Reader) ([]byte, error) {
	frame := make([]byte, 4)
	if _, err := io.ReadFull(r, frame); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(frame)
	frame = append(frame, make([]byte, size)...)
	_, err := io.ReadFull(r, frame[4:])
	return frame, err
}

// latency is what every answer takes. Without it virtual time would stand still while a client asks again at once, as it does
// after it was told of a new leader, and what ends its asking waits for that time.
const latency = 100 * time.Microsecond

// Read hands answers out, unless they are lost or late.
func (c *wireConn) Read(p []byte) (int, error) {
	if len(c.answer) == 0 {
		frame, err := readFrame(c.Conn)
		if err != nil {
			return 0, err
		}
		if err := c.wait("read", time.After(latency)); err != nil {
			return 0, err
		}
		if err := c.standStill("read"); err != nil {
			return 0, err
		}
		if len(frame) >= 8 {
			if frame, err = c.receive(frame); err != nil {
				return 0, err
			}
		}
		c.answer = frame
	}
	n := copy(p, c.answer)
	c.answer = c.answer[n:]
	return n, nil
}

// receive applies what happens to an answer, and returns what is left of it.
func (c *wireConn) receive(frame []byte) ([]byte, error) {
	correlation := binary.BigEndian.Uint32(frame[4:])
	c.mu.Lock()
	h := c.held[correlation]
	delete(c.held, correlation)
	c.mu.Unlock()
	if h.LossHandle == nil {
		return frame, nil
	}
	if h.loss.Err != nil {
		c.wire.cluster.trace.fault("an answer to %s says %s to %s", h.loss.Key.Name(), h.loss.Err.Message, c.process)
		return lie(frame, h.version, h.loss.Err)
	}
	if h.loss.Refuse != nil {
		return frame, c.holdBack(h.loss.Delay)
	}
	if h.loss.Delay == 0 {
		c.wire.cluster.trace.fault("an answer to %s is lost for %s", h.loss.Key.Name(), c.process)
		_ = c.Close()
		return nil, errBroken("read")
	}
	c.wire.cluster.trace.fault("an answer to %s is %v late for %s", h.loss.Key.Name(), h.loss.Delay, c.process)
	return frame, c.holdBack(h.loss.Delay)
}

// lie puts an error into an answer to EndTxn.
func lie(frame []byte, version int16, e *kerr.Error) ([]byte, error) {
	resp := kmsg.NewPtrEndTxnResponse()
	resp.SetVersion(version)
	body := 8 // behind size and correlation id
	if resp.IsFlexible() {
		body++ // and a header without tags
	}
	if err := resp.ReadFrom(frame[body:]); err != nil {
		return nil, err
	}
	resp.ErrorCode = e.Code
	return resp.AppendTo(frame[:body]), nil // of the same length
}

// holdBack lets an answer wait.
func (c *wireConn) holdBack(d time.Duration) error { return c.wait("read", time.After(d)) }

// standStill waits while the process is paused.
func (c *wireConn) standStill(op string) error {
	for goOn := c.paused(); goOn != nil; goOn = c.paused() {
		if err := wait(c, op, goOn); err != nil {
			return err
		}
	}
	return nil
}

func (c *wireConn) wait(op string, until <-chan time.Time) error { return wait(c, op, until) }

// wait waits for a channel, or for the end of the connection or of the client's patience. A client that gives up waits for the call to
// return, and may hold locks meanwhile: who wants those is no longer waiting for time to pass, so in a bubble no time would pass.
func wait[T any](c *wireConn, op string, until <-chan T) error {
	for {
		c.mu.Lock()
		deadline, closed, changed := c.deadline, c.closed, c.changed
		if op == "write" {
			deadline = c.until
		}
		c.mu.Unlock()
		if closed {
			return net.ErrClosed
		}
		var expired <-chan time.Time
		if !deadline.IsZero() {
			left := time.Until(deadline)
			if left <= 0 {
				return &net.OpError{Op: op, Net: "tcp", Err: os.ErrDeadlineExceeded}
			}
			timer := time.NewTimer(left)
			defer timer.Stop()
			expired = timer.C
		}
		select {
		case <-until:
			return nil
		case <-expired:
		case <-changed:
		}
	}
}

// change changes what a wait depends on.
func (c *wireConn) change(set func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	set()
	close(c.changed)
	c.changed = make(chan struct{})
}

// SetReadDeadline implements net.Conn.
func (c *wireConn) SetReadDeadline(t time.Time) error {
	c.change(func() { c.deadline = t })
	return c.Conn.SetReadDeadline(t)
}

// SetWriteDeadline implements net.Conn.
func (c *wireConn) SetWriteDeadline(t time.Time) error {
	c.change(func() { c.until = t })
	return c.Conn.SetWriteDeadline(t)
}

// SetDeadline implements net.Conn.
func (c *wireConn) SetDeadline(t time.Time) error {
	c.change(func() { c.deadline, c.until = t, t })
	return c.Conn.SetDeadline(t)
}

// Close implements net.Conn.
func (c *wireConn) Close() error {
	c.change(func() { c.closed = true })
	return c.Conn.Close()
}
