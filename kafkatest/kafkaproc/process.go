package kafkaproc

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"time"
)

// process is a child process that dies with its parent.
type process struct {
	cmd *exec.Cmd
	// exited is closed when the process is gone; err is set before.
	exited chan struct{}
	err    error
}

// startProcess starts cmd from a thread that lives as long as the child: Linux sends the death signal when the thread that
// forked ends, not the process.
func startProcess(cmd *exec.Cmd) (*process, error) {
	dieWithParent(cmd)
	p := &process{cmd: cmd, exited: make(chan struct{})}
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
		return nil, fmt.Errorf("kafkaproc: %w", err)
	}
	return p, nil
}

func (p *process) running() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// pipeGrace is how long output is still read after a program was killed.
const pipeGrace = time.Second

// runJava runs a Java program to its end, with its standard output going to out. Its error carries what the program wrote
// to standard error.
func runJava(ctx context.Context, out io.Writer, classPath, class string, args ...string) error {
	var talk bytes.Buffer
	options := []string{
		"-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx512m", // short runs: start quickly
		"-Dorg.slf4j.simpleLogger.defaultLogLevel=error",
		"-cp", classPath, class,
	}
	cmd := exec.CommandContext(ctx, "java", append(options, args...)...)
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = out, &talk, pipeGrace
	p, err := startProcess(cmd)
	if err != nil {
		return err
	}
	<-p.exited
	if ctx.Err() != nil {
		return fmt.Errorf("kafkaproc: %s: %w", class, context.Cause(ctx))
	}
	if p.err != nil {
		return fmt.Errorf("kafkaproc: %s: %w\n%s", class, p.err, tail(talk.Bytes()))
	}
	return nil
}

// tailLines is how much of a log an error shows.
const tailLines = 30

func tail(b []byte) []byte {
	lines := bytes.Split(bytes.TrimSpace(b), []byte("\n"))
	return bytes.Join(lines[max(0, len(lines)-tailLines):], []byte("\n"))
}
