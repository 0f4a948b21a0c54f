package kafkaproc

import (
	"errors"
	"net"
	"testing"
)

func TestAReservedPortIsFreeForItsOwnerOnly(t *testing.T) {
	var first, second ports
	defer first.release()
	defer second.release()
	port, err := first.take()
	if err != nil {
		t.Fatal(err)
	}
	if port < lowestPort || port > highestPort {
		t.Errorf("port %d is outside of the range", port)
	}
	listener, err := net.Listen("tcp", loopback(port))
	if err != nil {
		t.Fatalf("the reserved port is not free: %v", err)
	}
	listener.Close()
	if err := second.reserve(port); !errors.Is(err, errPortTaken) {
		t.Errorf("a second reservation: %v, want errPortTaken", err)
	}
	first.release()
	if err := second.reserve(port); err != nil {
		t.Errorf("a reservation after the release: %v", err)
	}
}

func TestAPortInUseIsNotReserved(t *testing.T) {
	listener, err := net.Listen("tcp", loopback(0))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	var p ports
	defer p.release()
	if err := p.reserve(listener.Addr().(*net.TCPAddr).Port); !errors.Is(err, errPortTaken) {
		t.Errorf("got %v, want errPortTaken", err)
	}
}
