package proxy

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
)

// echo is a broker that answers every request with its correlation id, and notes the keys of what it saw.
type echo struct {
	addr string
	mu   sync.Mutex
	keys []int16
}

func newEcho(t *testing.T) *echo {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := &echo{addr: listener.Addr().String()}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { e.serve(conn) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		wg.Wait()
	})
	return e
}

func (e *echo) serve(conn net.Conn) {
	defer conn.Close()
	for {
		var request [12]byte
		if _, err := io.ReadFull(conn, request[:]); err != nil {
			return
		}
		e.mu.Lock()
		e.keys = append(e.keys, int16(binary.BigEndian.Uint16(request[4:])))
		e.mu.Unlock()
		answer := append([]byte{0, 0, 0, 4}, request[8:12]...)
		if _, err := conn.Write(answer); err != nil {
			return
		}
	}
}

func (e *echo) saw() []int16 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.keys)
}

// ask sends a request and returns the correlation id of the answer.
func ask(conn net.Conn, apiKey int16, id uint32) (uint32, error) {
	request := binary.BigEndian.AppendUint32(nil, 8)
	request = binary.BigEndian.AppendUint16(request, uint16(apiKey))
	request = binary.BigEndian.AppendUint16(request, 0)
	request = binary.BigEndian.AppendUint32(request, id)
	if _, err := conn.Write(request); err != nil {
		return 0, err
	}
	var answer [8]byte
	_, err := io.ReadFull(conn, answer[:])
	return binary.BigEndian.Uint32(answer[4:]), err
}

func TestFates(t *testing.T) {
	for _, test := range []struct {
		name     string
		fate     Fate
		answered bool
		executed bool
	}{{"forward", Forward, true, true}, {"cut", Cut, false, false}, {"cut answer", CutAnswer, false, true}} {
		t.Run(test.name, func(t *testing.T) {
			broker := newEcho(t)
			p := New(func(apiKey int16) Fate {
				if apiKey == 26 {
					return test.fate
				}
				return Forward
			})
			defer p.Close()
			conn, err := p.Dial(t.Context(), "tcp", broker.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if id, err := ask(conn, 3, 70); err != nil || id != 70 {
				t.Fatalf("another request: %d, %v", id, err)
			}
			id, err := ask(conn, 26, 71)
			if answered := err == nil && id == 71; answered != test.answered {
				t.Errorf("answer %d, %v", id, err)
			}
			if executed := slices.Contains(broker.saw(), 26); executed != test.executed {
				t.Errorf("the broker saw %v", broker.saw())
			}
		})
	}
}

func TestCloseEndsConnectionsAndRefusesNewOnes(t *testing.T) {
	broker := newEcho(t)
	p := New(func(int16) Fate { return Forward })
	conn, err := p.Dial(t.Context(), "tcp", broker.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := ask(conn, 3, 1); err != nil {
		t.Fatal(err)
	}
	p.Close()
	if _, err := ask(conn, 3, 2); err == nil {
		t.Error("the connection outlived Close")
	}
	if _, err := p.Dial(t.Context(), "tcp", broker.addr); !errors.Is(err, net.ErrClosed) {
		t.Errorf("dialled after Close: %v", err)
	}
}

func TestWhatIsNoFrameEndsTheConnection(t *testing.T) {
	broker := newEcho(t)
	p := New(func(int16) Fate { return Forward })
	defer p.Close()
	conn, err := p.Dial(t.Context(), "tcp", broker.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("GET / HTTP/1.1\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(conn); err != nil && !errors.Is(err, net.ErrClosed) {
		var op *net.OpError
		if !errors.As(err, &op) {
			t.Errorf("got %v", err)
		}
	}
	if len(broker.saw()) != 0 {
		t.Errorf("the broker saw %v", broker.saw())
	}
}
