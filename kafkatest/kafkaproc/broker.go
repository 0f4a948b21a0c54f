package kafkaproc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/oncemill/oncemill/internal/child"
)

// Broker is one broker of a Cluster. Its methods may be called from several goroutines.
//
//	         Start                Pause
//	stopped -------> running <-----------> paused
//	   ^  Kill, Stop    |        Resume       |
//	   +----------------+---------------------+ Kill
type Broker struct {
	cluster        *Cluster
	id             int
	dir            string
	directoryID    string
	controllerPort int
	ports          map[Protocol]int

	mu struct {
		sync.Mutex
		process *child.Process // nil before the first start
	}
}

// ErrNotRunning is returned when a stopped broker is to be stopped, paused or resumed.
var ErrNotRunning = errors.New("kafkaproc: broker is not running")

// ID is the node id: 1 for the first broker.
func (b *Broker) ID() int { return b.id }

// Addr is the address of the plain listener.
func (b *Broker) Addr() string { return loopback(b.ports[Plaintext]) }

// LogPath is the file with the broker's log, all starts one after the other.
func (b *Broker) LogPath() string { return filepath.Join(b.dir, "broker.log") }

func (b *Broker) propertiesPath() string { return filepath.Join(b.dir, "server.properties") }

// Kill ends the broker as a power cut does (SIGKILL), and returns when it is gone.
func (b *Broker) Kill() error { return b.end(context.Background(), syscall.SIGKILL) }

// Stop asks the broker to shut down in good order (SIGTERM: it hands its leaderships over), and returns when it is gone.
// A paused broker does not hear it.
func (b *Broker) Stop(ctx context.Context) error { return b.end(ctx, syscall.SIGTERM) }

// Pause halts the broker (SIGSTOP): its connections stay open and nothing answers.
func (b *Broker) Pause() error {
	_, err := b.signal(syscall.SIGSTOP)
	return err
}

// Resume ends a Pause.
func (b *Broker) Resume() error {
	_, err := b.signal(syscall.SIGCONT)
	return err
}

func (b *Broker) end(ctx context.Context, signal syscall.Signal) error {
	p, err := b.signal(signal)
	if err != nil {
		return err
	}
	select {
	case <-p.Exited():
		return nil
	case <-ctx.Done():
		return fmt.Errorf("kafkaproc: broker %d did not end: %w", b.id, context.Cause(ctx))
	}
}

func (b *Broker) signal(signal syscall.Signal) (*child.Process, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.mu.process
	if p == nil || !p.Running() {
		return nil, ErrNotRunning
	}
	err := p.Signal(signal)
	if errors.Is(err, os.ErrProcessDone) {
		err = ErrNotRunning
	}
	return p, err
}

// Start starts a stopped broker on its old data and ports, and returns when it answers and counts itself alive.
func (b *Broker) Start(ctx context.Context) error {
	if err := b.launch(); err != nil {
		return err
	}
	return b.waitUntilListed(ctx, b.id)
}

// launch starts the process and waits for nothing.
func (b *Broker) launch() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mu.process != nil && b.mu.process.Running() {
		return fmt.Errorf("kafkaproc: broker %d is already running", b.id)
	}
	log, err := os.OpenFile(b.LogPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close() // the child has its own
	cmd := exec.Command("java", fmt.Sprintf("-Xmx%dm", b.cluster.config.HeapMB),
		"-Dorg.slf4j.simpleLogger.showDateTime=true", "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
		"-cp", b.cluster.classPath, "kafka.Kafka", b.propertiesPath())
	cmd.Dir, cmd.Stdout, cmd.Stderr = b.dir, log, log
	p, err := child.Start(cmd)
	if err != nil {
		return fmt.Errorf("kafkaproc: %w", err)
	}
	b.mu.process = p
	return nil
}

// exited is closed when the running process ends.
func (b *Broker) exited() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mu.process.Exited()
}

// failure wraps err with the end of the broker's log.
func (b *Broker) failure(err error) error {
	log, readErr := os.ReadFile(b.LogPath())
	if readErr != nil {
		return errors.Join(err, readErr)
	}
	return fmt.Errorf("kafkaproc: broker %d: %w; the end of its log:\n%s", b.id, err, tail(log))
}
