package soak

import (
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oncemill/oncemill/internal/proof/soak/network"
)

// mirror is a broker that sends back what it gets.
func mirror(t *testing.T) (addr string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				_, _ = io.Copy(conn, conn) // until the other side ends
				conn.Close()
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		wg.Wait()
	})
	return listener.Addr().String()
}

// talker says something to a broker again and again, on a new connection when it loses one, until the test ends.
func talker(t *testing.T, link *network.Link, broker string) {
	dialer, over, ended := &network.Dialer{Door: link.Door()}, make(chan struct{}), make(chan struct{})
	t.Cleanup(func() {
		close(over)
		link.Close()
		<-ended
	})
	go func() {
		defer close(ended)
		for {
			if conn, err := dialer.Dial(t.Context(), "tcp", broker); err == nil {
				for buf := make([]byte, 1); err == nil; {
					if _, err = conn.Write(buf); err == nil {
						_ = conn.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
						_, err = conn.Read(buf)
					}
				}
				conn.Close()
			}
			select {
			case <-over:
				return
			case <-time.After(time.Millisecond):
			}
		}
	}()
}

// A fault of the network counts if it has hit somebody: one between a worker and a broker that it does not talk to is done again, to all, and
// a worker that says nothing is left to other faults.
func TestANetworkFaultThatHitsNobodyIsNotDone(t *testing.T) {
	spoken, silent := mirror(t), mirror(t)
	s := &striker{fleet: &fleet{}, timeline: newTimeline()}
	for kind := range states {
		t.Run(string(kind), func(t *testing.T) {
			link, err := network.Listen()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(link.Close)
			m, f, struck := &member{name: "w1", link: link}, Fault{Kind: kind, For: 50 * time.Millisecond}, &Struck{}
			if err := s.disturbAt(t.Context(), f, m, spoken, "broker 1", struck); !errors.Is(err, errAgain) || struck.Text != "" {
				t.Errorf("a worker that says nothing: %v, %q", err, struck.Text)
			}
			talker(t, link, spoken)
			for hits := 0; hits == 0; { // it may not talk yet
				if hits, err = bend(t.Context(), link, "", network.Slow, f.For); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.disturbAt(t.Context(), f, m, spoken, "broker 1", struck); err != nil || !strings.HasPrefix(struck.Text, "50ms to broker 1, hit ") {
				t.Errorf("a broker that it talks to: %v, %q", err, struck.Text)
			}
			if err := s.disturbAt(t.Context(), f, m, silent, "broker 2", struck); err != nil || !strings.HasPrefix(struck.Text, "50ms to all brokers, after nothing") {
				t.Errorf("a broker that it does not talk to: %v, %q", err, struck.Text)
			}
		})
	}
}
