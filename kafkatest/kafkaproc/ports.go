package kafkaproc

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// Ports are taken from this range: below Linux's range for client ports (32768 and up) and above well-known services.
const (
	lowestPort  = 20000
	highestPort = 31999
	// portAttempts bounds the search; with 12,000 ports it ends after a few.
	portAttempts = 1000
)

// ports holds reservations of loopback ports. A reservation is a locked file, because a port that is only tried and
// closed can be tried by another suite at the same time, and stays free for others while a broker is down.
type ports struct{ files []*os.File }

// take reserves a free port.
func (p *ports) take() (int, error) {
	for range portAttempts {
		port := lowestPort + rand.IntN(highestPort-lowestPort+1)
		err := p.reserve(port)
		if err == nil {
			return port, nil
		}
		if !errors.Is(err, errPortTaken) {
			return 0, err
		}
	}
	return 0, fmt.Errorf("kafkaproc: no free port between %d and %d", lowestPort, highestPort)
}

var errPortTaken = errors.New("kafkaproc: port is taken")

// reserve reserves this port until release; errPortTaken means that it is in use or reserved.
func (p *ports) reserve(port int) error {
	dir := filepath.Join(os.TempDir(), "oncemill-kafkaproc-ports")
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(dir, strconv.Itoa(port)), os.O_CREATE|os.O_RDWR, 0o666)
	if err != nil {
		return err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return errors.Join(fmt.Errorf("%w: %d is reserved", errPortTaken, port), f.Close())
	}
	listener, err := net.Listen("tcp", loopback(port))
	if err != nil {
		return errors.Join(fmt.Errorf("%w: %w", errPortTaken, err), f.Close())
	}
	p.files = append(p.files, f)
	return listener.Close()
}

// release gives the ports back.
func (p *ports) release() {
	for _, f := range p.files {
		f.Close()
	}
	p.files = nil
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
