// Package child runs programs beside this one. They die with their parent.
//
// A Process is any program. A Worker is one that ends in Work: its parent gives it an order on its standard input, gets reports from its
// standard output and its last words from its standard error, and may stop it by a word:
//
//	StartWorker  -- order, one line of JSON -->  Work
//	told         <-- report, a line each -----   Teller
//	Worker.Stop  -- "stop" ------------------>   the context of Work's function ends
//
// Secrets travel in the order, and not on the command line or in the environment, where other processes can see them.
package child

import (
	"os/exec"
	"runtime"
	"syscall"
)

// Process is a child process that dies with its parent.
type Process struct {
	cmd *exec.Cmd
	// exited is closed when the process is gone; err is set before.
	exited chan struct{}
	err    error
}

// Start starts cmd from a thread that lives as long as the child: Linux sends the death signal when the thread that forked ends, not
// the process.
func Start(cmd *exec.Cmd) (*Process, error) {
	dieWithParent(cmd)
	p := &Process{cmd: cmd, exited: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
			close(p.exited)
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// Signal sends a signal; os.ErrProcessDone when the process is gone.
func (p *Process) Signal(signal syscall.Signal) error { return p.cmd.Process.Signal(signal) }

// Kill kills the process with SIGKILL and returns when it is gone. It may have ended before.
func (p *Process) Kill() {
	_ = p.Signal(syscall.SIGKILL) // fails only if it has ended
	<-p.exited
}

// Running says that the process is not gone.
func (p *Process) Running() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// Exited is closed when the process is gone.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Err is how the process ended, after Exited: nil for exit code 0.
func (p *Process) Err() error { return p.err }
