package kafkaproc

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
)

// Child is any program that a test runs beside the brokers. It dies with its parent.
type Child struct{ process *process }

// StartChild starts the program.
func StartChild(cmd *exec.Cmd) (*Child, error) {
	p, err := startProcess(cmd)
	if err != nil {
		return nil, err
	}
	return &Child{p}, nil
}

// Signal sends a signal; ErrNotRunning when the program is gone.
func (c *Child) Signal(signal syscall.Signal) error {
	if !c.process.running() {
		return ErrNotRunning
	}
	err := c.process.cmd.Process.Signal(signal)
	if errors.Is(err, os.ErrProcessDone) {
		return ErrNotRunning
	}
	return err
}

// Exited is closed when the program is gone.
func (c *Child) Exited() <-chan struct{} { return c.process.exited }

// Err is how the program ended, after Exited: nil for exit code 0.
func (c *Child) Err() error { return c.process.err }
