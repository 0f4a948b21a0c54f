package network

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"
)

// echo is a broker that sends back what it gets, and tells each piece.
type echo struct {
	addr string
	got  chan string
}

func newEcho(t *testing.T) *echo {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := &echo{addr: listener.Addr().String(), got: make(chan string, 100)}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				for buf := make([]byte, 100); ; {
					n, err := conn.Read(buf)
					if err != nil {
						return
					}
					e.got <- string(buf[:n])
					_, _ = conn.Write(buf[:n]) // the client may have given up
				}
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		wg.Wait()
	})
	return e
}

func newLink(t *testing.T) (*Link, *Dialer) {
	t.Helper()
	l, err := Listen()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l, &Dialer{Door: l.Door()}
}

func dial(t *testing.T, d *Dialer, addr string) net.Conn {
	t.Helper()
	conn, err := d.Dial(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// say sends a word and returns the answer; an empty one if none came within wait.
func say(conn net.Conn, word string, wait time.Duration) (string, error) {
	if _, err := io.WriteString(conn, word); err != nil {
		return "", err
	}
	return hear(conn, len(word), wait)
}

func hear(conn net.Conn, n int, wait time.Duration) (string, error) {
	if err := conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return "", err
	}
	buf := make([]byte, n)
	n, err := io.ReadFull(conn, buf)
	return string(buf[:n]), err
}

const (
	soon = 5 * time.Second       // nothing here takes so long
	not  = 50 * time.Millisecond // long enough to see that nothing comes over loopback
)

func TestAnOpenLinkPassesBytesOn(t *testing.T) {
	broker := newEcho(t)
	_, d := newLink(t)
	conn := dial(t, d, broker.addr)
	if got, err := say(conn, "one", soon); got != "one" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

func TestACutEndsConnectionsAndRefusesNewOnes(t *testing.T) {
	broker, other := newEcho(t), newEcho(t)
	l, d := newLink(t)
	conn, beside := dial(t, d, broker.addr), dial(t, d, other.addr)
	l.Set(broker.addr, Cut)
	if got, err := say(conn, "one", soon); err == nil {
		t.Errorf("heard %q through a cut", got)
	}
	if _, err := d.Dial(t.Context(), "tcp", broker.addr); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dialled through a cut: %v", err)
	}
	if got, err := say(beside, "two", soon); got != "two" || err != nil {
		t.Errorf("another broker: %q, %v", got, err)
	}
	l.Set("", Cut)
	if _, err := say(beside, "three", soon); err == nil {
		t.Error("a cut from all brokers left one")
	}
	l.Set("", Open)
	l.Set(broker.addr, Open)
	if got, err := say(dial(t, d, broker.addr), "four", soon); got != "four" || err != nil {
		t.Errorf("afterwards: %q, %v", got, err)
	}
}

func TestASlowLinkTakesItsTime(t *testing.T) {
	broker := newEcho(t)
	l, d := newLink(t)
	conn := dial(t, d, broker.addr)
	l.Set("", Slow)
	began := time.Now()
	if got, err := say(conn, "one", soon); got != "one" || err != nil {
		t.Fatalf("%q, %v", got, err)
	}
	if took := time.Since(began); took < 2*Latency {
		t.Errorf("there and back took %v, less than twice %v", took, Latency)
	}
}

func TestAHalfOpenLinkSwallowsAndIsDeadAfterwards(t *testing.T) {
	broker := newEcho(t)
	l, d := newLink(t)
	conn, idle := dial(t, d, broker.addr), dial(t, d, broker.addr)
	l.Set(broker.addr, HalfOpen)
	var timeout net.Error
	if got, err := say(conn, "one", not); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("heard %q, %v", got, err)
	}
	hopeless, cancel := context.WithTimeout(t.Context(), not)
	defer cancel()
	if _, err := d.Dial(hopeless, "tcp", broker.addr); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("dialled: %v", err)
	}
	l.Set(broker.addr, Open)
	if got, err := hear(conn, 1, soon); err == nil || errors.As(err, &timeout) && timeout.Timeout() {
		t.Errorf("the connection that lost bytes goes on: %q, %v", got, err)
	}
	if got, err := say(idle, "two", soon); got != "two" || err != nil {
		t.Errorf("the connection that lost nothing: %q, %v", got, err)
	}
	if got := <-broker.got; got != "two" {
		t.Errorf("the broker got %q", got)
	}
}

func TestALateLinkDeliversWhatItsSenderHasGivenUp(t *testing.T) {
	broker := newEcho(t)
	l, d := newLink(t)
	patient, hasty := dial(t, d, broker.addr), dial(t, d, broker.addr)
	l.Set("", Late)
	if got, err := say(patient, "patient", not); err == nil {
		t.Errorf("heard %q", got)
	}
	if _, err := say(hasty, "hasty", not); err == nil {
		t.Error("an answer came")
	}
	hasty.Close()
	select {
	case got := <-broker.got:
		t.Fatalf("the broker got %q in time", got)
	default:
	}
	l.Set("", Open)
	heard := map[string]bool{<-broker.got: true, <-broker.got: true}
	if !heard["patient"] || !heard["hasty"] {
		t.Errorf("the broker got %v", heard)
	}
	if got, err := hear(patient, len("patient"), soon); got != "patient" || err != nil {
		t.Errorf("the answer: %q, %v", got, err)
	}
}

// What a state does is counted, for the broker that it is done to; that it was set is nothing.
func TestHitsAreCounted(t *testing.T) {
	broker, other := newEcho(t), newEcho(t)
	l, d := newLink(t)
	talk := func() { // a connection that is there before, or one that is not: both may be hit
		ctx, cancel := context.WithTimeout(t.Context(), not)
		defer cancel()
		if conn, err := d.Dial(ctx, "tcp", broker.addr); err == nil {
			_, _ = say(conn, "one", not) // it may be swallowed
			conn.Close()
		}
	}
	talk()
	if n := l.Hits(""); n != 0 {
		t.Fatalf("an open link has %d hits", n)
	}
	for name, s := range map[string]State{"cut": Cut, "slow": Slow, "half-open": HalfOpen, "late": Late} {
		before := l.Hits(broker.addr)
		l.Set(other.addr, s)
		talk()
		if n := l.Hits(""); n != before || l.Hits(other.addr) != 0 {
			t.Errorf("%s, between others: %d hits", name, n-before)
		}
		l.Set(other.addr, Open)
		l.Set(broker.addr, s)
		talk()
		l.Set(broker.addr, Open)
		if n := l.Hits(broker.addr); n == before || n != l.Hits("") {
			t.Errorf("%s: %d hits, of %d with all", name, n-before, l.Hits("")-before)
		}
	}
	conns := []net.Conn{dial(t, d, broker.addr), dial(t, d, broker.addr), dial(t, d, other.addr)}
	before := l.Hits(broker.addr)
	l.Set(broker.addr, Cut)
	if n := l.Hits(broker.addr) - before; n != len(conns)-1 || l.Hits(other.addr) != 0 {
		t.Errorf("a cut of 2 idle connections: %d hits, with another broker %d", n, l.Hits(other.addr))
	}
	for _, s := range []State{HalfOpen, Late} {
		l.Set("", s)
		before := l.Hits(other.addr)
		if _, err := say(conns[2], "two", not); err == nil || l.Hits(other.addr) != before+1 {
			t.Errorf("a piece that does not come: %v, %d hits", err, l.Hits(other.addr)-before)
		}
		l.Set("", Open)
		conns[2] = dial(t, d, other.addr)
	}
}

func TestStrangersAndDeadBrokersAreRefused(t *testing.T) {
	broker := newEcho(t)
	_, d := newLink(t)
	stranger := &Dialer{Door: Door{Addr: d.Door.Addr, Token: "guessed"}}
	if _, err := stranger.Dial(t.Context(), "tcp", broker.addr); err == nil {
		t.Error("a wrong token was let in")
	}
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	if _, err := d.Dial(t.Context(), "tcp", gone.Addr().String()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a broker that is gone: %v", err)
	}
}

func TestCloseEndsWhatWaits(t *testing.T) {
	broker := newEcho(t)
	l, d := newLink(t)
	conn := dial(t, d, broker.addr)
	l.Set("", Late)
	if _, err := say(conn, "one", not); err == nil {
		t.Error("an answer came")
	}
	l.Close()
	if got, err := hear(conn, 1, soon); err == nil {
		t.Errorf("heard %q from a closed link", got)
	}
}
