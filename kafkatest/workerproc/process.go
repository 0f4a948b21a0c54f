package workerproc

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"syscall"

	"github.com/oncemill/oncemill/internal/child"
)

// Process is a worker process. Kill ends it as a power cut does.
type Process struct {
	*Log
	*child.Process
}

// Build builds the worker's program into dir and returns its path.
func Build(ctx context.Context, dir string) (program string, err error) {
	program = dir + "/worker"
	out, err := exec.CommandContext(ctx, "go", "build", "-o", program, "github.com/oncemill/oncemill/kafkatest/worker").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("workerproc: build: %w\n%s", err, out)
	}
	return program, nil
}

// Start starts a worker process.
func Start(program string, spec Spec) (*Process, error) {
	encoded, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	p := &Process{Log: &Log{}}
	cmd := exec.Command(program, string(encoded))
	cmd.Stdout, cmd.Stderr = p.Log, p.Log
	p.Process, err = child.Start(cmd)
	return p, err
}

// Stop asks the process to end in good order (SIGTERM), and returns how it ended.
func (p *Process) Stop(ctx context.Context) error {
	if err := p.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("%w; the end of the log:\n%s", err, p.Tail())
	}
	return p.Ended(ctx)
}

// Ended waits for the end of the process and returns how it ended.
func (p *Process) Ended(ctx context.Context) error {
	select {
	case <-p.Exited():
	case <-ctx.Done():
		return fmt.Errorf("still running: %w; the end of the log:\n%s", context.Cause(ctx), p.Tail())
	}
	if err := p.Err(); err != nil {
		return fmt.Errorf("%w; the end of the log:\n%s", err, p.Tail())
	}
	return nil
}

// Pause halts the process (SIGSTOP): its connections stay open and it does nothing.
func (p *Process) Pause() error { return p.Signal(syscall.SIGSTOP) }

// Resume ends a Pause.
func (p *Process) Resume() error { return p.Signal(syscall.SIGCONT) }
