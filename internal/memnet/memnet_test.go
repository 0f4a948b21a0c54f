package memnet_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/oncemill/oncemill/internal/memnet"
)

// pair returns the two ends of a connection from 10.0.0.1 to a listener on 127.0.0.1:9092.
func pair(t *testing.T, n *memnet.Network) (client, server net.Conn) {
	t.Helper()
	l := listen(t, n, "127.0.0.1:9092")
	defer l.Close()
	client, err := n.Dialer("10.0.0.1")(context.Background(), "tcp", "127.0.0.1:9092")
	if err != nil {
		t.Fatal(err)
	}
	return client, accept(t, l)
}

func listen(t *testing.T, n *memnet.Network, address string) net.Listener {
	t.Helper()
	l, err := n.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func accept(t *testing.T, l net.Listener) net.Conn {
	t.Helper()
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func write(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if n, err := c.Write([]byte(text)); n != len(text) || err != nil {
		t.Fatalf("Write(%q) = %d, %v", text, n, err)
	}
}

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("error is %v, want %v", err, want)
	}
}

func readByte(c net.Conn) error {
	_, err := c.Read(make([]byte, 1))
	return err
}

func writeByte(c net.Conn) error {
	_, err := c.Write([]byte{1})
	return err
}

func TestWriteDoesNotWaitForAReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := pair(t, memnet.New())
		write(t, client, "one ")
		write(t, client, "two")
		got := make([]byte, 100)
		n, err := server.Read(got)
		if err != nil || string(got[:n]) != "one two" {
			t.Fatalf("Read = %q, %v", got[:n], err)
		}
	})
}

func TestBytesArriveInOrderThroughAFullBuffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := pair(t, memnet.New())
		sent := make([]byte, 33<<20) // more than twice what the buffer takes
		for i := range sent {
			sent[i] = byte(i * 7 >> 3)
		}
		done := make(chan error, 1)
		go func() {
			_, err := client.Write(sent)
			done <- errors.Join(err, client.Close())
		}()
		synctest.Wait()
		select {
		case err := <-done:
			t.Fatalf("the write returned (%v) although nobody reads: the buffer has no bound", err)
		default:
		}
		got, err := io.ReadAll(server)
		if err != nil || !bytes.Equal(got, sent) {
			t.Fatalf("read %d bytes, want %d, equal %v, error %v", len(got), len(sent), bytes.Equal(got, sent), err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}

func TestCloseLetsThePeerReadWhatWasWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := pair(t, memnet.New())
		write(t, client, "last words")
		if err := client.Close(); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(server)
		if err != nil || string(got) != "last words" {
			t.Fatalf("ReadAll = %q, %v", got, err)
		}
		if err := readByte(server); err != io.EOF {
			t.Fatalf("read after the end: %v, want a bare io.EOF", err)
		}
		wantErr(t, writeByte(server), syscall.EPIPE)
		wantErr(t, readByte(client), net.ErrClosed)
		wantErr(t, writeByte(client), net.ErrClosed)
		wantErr(t, client.SetDeadline(time.Now()), net.ErrClosed)
		wantErr(t, client.Close(), net.ErrClosed)
	})
}

func TestCloseWakesPendingCalls(t *testing.T) {
	for name, end := range map[string]struct {
		close func(client, server net.Conn)
		read  error
		write error
	}{
		"own":  {func(client, _ net.Conn) { client.Close() }, net.ErrClosed, net.ErrClosed},
		"peer": {func(_, server net.Conn) { server.Close() }, io.EOF, syscall.EPIPE},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, server := pair(t, memnet.New())
				read, write := make(chan error, 1), make(chan error, 1)
				go func() { read <- readByte(client) }()
				go func() { _, err := client.Write(make([]byte, 17<<20)); write <- err }()
				synctest.Wait()
				end.close(client, server)
				wantErr(t, <-read, end.read)
				wantErr(t, <-write, end.write)
			})
		})
	}
}

func TestDeadlinesRunOnTheBubblesClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := pair(t, memnet.New())
		start := time.Now()
		client.SetReadDeadline(start.Add(time.Hour))
		err := readByte(client)
		wantErr(t, err, os.ErrDeadlineExceeded)
		var timeout net.Error
		if !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Fatalf("%v is not a timeout", err)
		}
		if waited := time.Since(start); waited != time.Hour {
			t.Fatalf("waited %v", waited)
		}
		wantErr(t, readByte(client), os.ErrDeadlineExceeded) // it stays expired

		client.SetReadDeadline(time.Time{})
		write(t, server, "x")
		if err := readByte(client); err != nil {
			t.Fatalf("read after the deadline was lifted: %v", err)
		}
		start = time.Now()
		client.SetWriteDeadline(start.Add(time.Minute))
		n, err := client.Write(make([]byte, 17<<20))
		wantErr(t, err, os.ErrDeadlineExceeded)
		if n == 0 || n == 17<<20 || time.Since(start) != time.Minute {
			t.Fatalf("wrote %d bytes in %v", n, time.Since(start))
		}
	})
}

func TestAMovedDeadlineHoldsForAPendingRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, _ := pair(t, memnet.New())
		start := time.Now()
		done := make(chan error, 1)
		client.SetReadDeadline(start.Add(time.Minute))
		go func() { done <- readByte(client) }()
		synctest.Wait()
		client.SetReadDeadline(start.Add(time.Hour))
		wantErr(t, <-done, os.ErrDeadlineExceeded)
		if waited := time.Since(start); waited != time.Hour {
			t.Fatalf("the read gave up after %v", waited)
		}
		client.SetReadDeadline(time.Time{})
		go func() { done <- readByte(client) }()
		synctest.Wait()
		client.SetReadDeadline(start) // in the past
		wantErr(t, <-done, os.ErrDeadlineExceeded)
	})
}

func TestCutBreaksBothEndsOfTheAddressOnly(t *testing.T) {
	for name, address := range map[string]string{"client host": "10.0.0.1", "broker": "127.0.0.1:9092"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := memnet.New()
				client, server := pair(t, n)
				other := listen(t, n, "127.0.0.1:9093")
				client2, err := n.Dialer("10.0.0.2")(context.Background(), "tcp", "127.0.0.1:9093")
				if err != nil {
					t.Fatal(err)
				}
				server2 := accept(t, other)
				write(t, server, "lost")
				pending := make(chan error, 1)
				go func() { pending <- readByte(server) }()
				synctest.Wait()

				if cut := n.Cut(address); cut != 1 {
					t.Fatalf("cut %d connections, want 1", cut)
				}
				wantErr(t, <-pending, syscall.ECONNRESET)
				wantErr(t, readByte(client), syscall.ECONNRESET)
				wantErr(t, writeByte(client), syscall.ECONNRESET)
				var call *os.SyscallError
				if err := writeByte(server); !errors.As(err, &call) {
					t.Fatalf("%v holds no *os.SyscallError: a client would not retry", err)
				}
				write(t, client2, "x")
				if err := readByte(server2); err != nil {
					t.Fatalf("the other connection broke: %v", err)
				}
				if cut := n.Cut(address); cut != 0 {
					t.Fatalf("cut %d connections again", cut)
				}
			})
		})
	}
}

func TestIsolateRefusesUntilHeal(t *testing.T) {
	for _, address := range []string{"10.0.0.1", "127.0.0.1:9092", "127.0.0.1"} {
		t.Run(address, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := memnet.New()
				client, _ := pair(t, n)
				l := listen(t, n, "127.0.0.1:9092")
				dial := n.Dialer("10.0.0.1")
				if cut := n.Isolate(address); cut != 1 {
					t.Fatalf("cut %d connections, want 1", cut)
				}
				wantErr(t, readByte(client), syscall.ECONNRESET)
				_, err := dial(context.Background(), "tcp", "127.0.0.1:9092")
				wantErr(t, err, syscall.ECONNREFUSED)
				n.Heal(address)
				if _, err = dial(context.Background(), "tcp", "127.0.0.1:9092"); err != nil {
					t.Fatalf("dial after Heal: %v", err)
				}
				accept(t, l)
			})
		})
	}
}

func TestListenerOwnsItsAddressUntilItCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New()
		l := listen(t, n, "localhost:0")
		address := l.Addr().String()
		if _, ok := l.Addr().(*net.TCPAddr); !ok {
			t.Fatalf("Addr is a %T", l.Addr())
		}
		_, err := n.Listen("tcp", address)
		wantErr(t, err, syscall.EADDRINUSE)
		waiting, err := n.DialContext(context.Background(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		wantErr(t, readByte(waiting), syscall.ECONNRESET) // dialed, never accepted
		_, err = l.Accept()
		wantErr(t, err, net.ErrClosed)
		wantErr(t, l.Close(), net.ErrClosed)
		_, err = n.DialContext(context.Background(), "tcp", address)
		wantErr(t, err, syscall.ECONNREFUSED)
		listen(t, n, address).Close()
	})
}

func TestListenerCloseWakesAcceptAndKeepsAcceptedConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New()
		l := listen(t, n, "127.0.0.1:9092")
		client, err := n.DialContext(context.Background(), "tcp", "127.0.0.1:9092")
		if err != nil {
			t.Fatal(err)
		}
		server := accept(t, l)
		pending := make(chan error, 1)
		go func() { _, err := l.Accept(); pending <- err }()
		synctest.Wait()
		l.Close()
		wantErr(t, <-pending, net.ErrClosed)
		write(t, client, "x")
		if err := readByte(server); err != nil {
			t.Fatalf("an accepted connection ended with its listener: %v", err)
		}
	})
}

func TestDialWaitsForAFullBacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New()
		l := listen(t, n, "127.0.0.1:9092")
		defer l.Close()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		dialed := 0
		for {
			c, err := n.DialContext(ctx, "tcp", "127.0.0.1:9092")
			if err != nil {
				wantErr(t, err, context.DeadlineExceeded)
				break
			}
			defer c.Close()
			if dialed++; dialed > 10_000 {
				t.Fatal("the backlog has no bound")
			}
		}
		if open := n.Open(); open != 2*dialed {
			t.Fatalf("%d ends open after %d dials: the abandoned dial left one behind", open, dialed)
		}
	})
}

func TestWrongAddressesAreRefused(t *testing.T) {
	n := memnet.New()
	for _, c := range []struct{ network, address string }{
		{"udp", "127.0.0.1:1"}, {"tcp", "127.0.0.1"}, {"tcp", "broker.example:9092"}, {"tcp", "127.0.0.1:99999"},
	} {
		if l, err := n.Listen(c.network, c.address); err == nil {
			t.Errorf("Listen(%q, %q) gave %v", c.network, c.address, l.Addr())
		}
		if _, err := n.DialContext(context.Background(), c.network, c.address); err == nil {
			t.Errorf("Dial(%q, %q) succeeded", c.network, c.address)
		}
	}
}

// Many clients echo through one server while connections are cut at random moments. Nothing may hang, and an answer
// that arrives is the one that was asked for.
func TestEchoUnderCuts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := memnet.New()
		l := listen(t, n, "127.0.0.1:9092")
		var server, clients sync.WaitGroup
		server.Go(func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				server.Go(func() { io.Copy(c, c); c.Close() })
			}
		})
		stop := make(chan struct{})
		server.Go(func() {
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-tick.C:
					n.Cut("127.0.0.1:9092")
				case <-stop:
					return
				}
			}
		})
		var broken, whole [8]int
		for i := range 8 {
			clients.Go(func() {
				for range 50 {
					if err := echo(n, i); err != nil {
						broken[i]++
						continue
					}
					whole[i]++
				}
			})
		}
		clients.Wait()
		close(stop)
		l.Close()
		server.Wait()
		for i := range whole {
			if whole[i] == 0 || broken[i] == 0 {
				t.Errorf("client %d: %d whole, %d broken; want some of each", i, whole[i], broken[i])
			}
		}
		if open := n.Open(); open != 0 {
			t.Errorf("%d ends are still open", open)
		}
	})
}

// echo asks three times, 3 ms apart, and fails when the connection breaks.
func echo(n *memnet.Network, i int) error {
	c, err := n.DialContext(context.Background(), "tcp", "127.0.0.1:9092")
	if err != nil {
		return err
	}
	defer c.Close()
	for k := range 3 {
		question := bytes.Repeat([]byte{byte(i), byte(k)}, 1000)
		if _, err := c.Write(question); err != nil {
			return err
		}
		answer := make([]byte, len(question))
		if _, err := io.ReadFull(c, answer); err != nil {
			return err
		}
		if !bytes.Equal(question, answer) {
			panic("an answer to another question")
		}
		<-time.After(3 * time.Millisecond)
	}
	return nil
}
