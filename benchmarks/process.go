package benchmarks

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"sync"
	"syscall"
)

// process is a running child.
type process struct {
	cmd  *exec.Cmd
	talk tailBuffer
	done chan struct{} // closed when it has ended

	mu struct {
		sync.Mutex
		report      *Report
		checkpoints int // as far as they were told
		err         error
	}
}

// start starts a child. progress is told the number of committed records, from another goroutine.
func (s *Suite) start(spec *Spec, progress func(done int64)) (*process, error) {
	input, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	p := &process{cmd: s.options.Child(), done: make(chan struct{})}
	p.cmd.Stdin, p.cmd.Stderr = bytes.NewReader(input), &p.talk
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start a child process: %w", err)
	}
	go p.follow(out, progress)
	return p, nil
}

// follow reads the lines of the child until it ends.
func (p *process) follow(out io.Reader, progress func(done int64)) {
	defer close(p.done)
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var m message
		if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
			continue // not ours; what is missing is noticed at the end
		}
		p.mu.Lock()
		p.mu.checkpoints = max(p.mu.checkpoints, m.Checkpoints)
		if m.Report != nil {
			p.mu.report = m.Report
		}
		p.mu.Unlock()
		if m.Progress > 0 {
			progress(m.Progress)
		}
	}
	err := errors.Join(lines.Err(), p.cmd.Wait())
	p.mu.Lock()
	p.mu.err = err
	p.mu.Unlock()
}

// wait returns the report of a child that ends by itself; when ctx ends, it is killed.
func (p *process) wait(ctx context.Context) (*Report, error) {
	select {
	case <-p.done:
	case <-ctx.Done():
		p.kill()
		return nil, context.Cause(ctx)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.err != nil {
		return nil, fmt.Errorf("a child process: %w\n%s", p.mu.err, p.talk.String())
	}
	if p.mu.report == nil {
		return nil, fmt.Errorf("a child process ended without a report\n%s", p.talk.String())
	}
	return p.mu.report, nil
}

// kill ends the child as a crash does, and returns when it is gone.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended already
	<-p.done
}

// checkpoints is how many the child has told of.
func (p *process) checkpoints() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mu.checkpoints
}

// terminate asks the child to end in good order.
func (p *process) terminate() error { return p.cmd.Process.Signal(syscall.SIGTERM) }

// tailBuffer keeps the last part of what is written.
type tailBuffer struct {
	mu   sync.Mutex
	last []byte
}

// tailBytes is enough for the end of a log with a stack.
const tailBytes = 8 << 10

// Write implements io.Writer.
func (b *tailBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last = append(b.last, p...)
	if n := len(b.last); n > tailBytes {
		b.last = append(b.last[:0], b.last[n-tailBytes:]...)
	}
	return len(p), nil
}

// String is what is kept.
func (b *tailBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return string(b.last)
}
