package demo

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"sync"
	"syscall"

	"github.com/oncemill/oncemill/internal/problem"
)

// process is a running worker.
type process struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	tail  *tail
	// done is closed when the process has ended and everything it wrote was read; err is how it ended.
	done chan struct{}
	err  error
}

// start starts a worker and gives it its order.
func start(cmd *exec.Cmd, o order, log io.Writer, told func(report)) (*process, error) {
	failed := func(err error) error { return problem.Wrap(problem.ChildEnded, "start "+cmd.Path, err) }
	p := &process{cmd: cmd, tail: &tail{}, done: make(chan struct{})}
	cmd.Stderr = io.MultiWriter(p.tail, log)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, failed(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, failed(err)
	}
	p.stdin = stdin
	if err := cmd.Start(); err != nil {
		return nil, failed(err)
	}
	go func() {
		defer close(p.done)
		readReports(stdout, told)
		p.err = cmd.Wait()
	}()
	line, err := json.Marshal(o)
	if err == nil {
		_, err = stdin.Write(append(line, '\n'))
	}
	if err != nil {
		p.kill()
		return nil, failed(err)
	}
	return p, nil
}

// readReports reads until the worker's output ends. A last line that broke off when the worker was killed is left out.
func readReports(stdout io.Reader, told func(report)) {
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		var r report
		if json.Unmarshal(lines.Bytes(), &r) == nil {
			told(r)
		}
	}
}

// kill kills the worker with SIGKILL and waits until it is gone. It may have ended before.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // fails only if it has ended
	<-p.done
	_ = p.stdin.Close() // nobody reads it any more
}

// stop lets the worker end in good order.
func (p *process) stop(ctx context.Context) error {
	if _, err := io.WriteString(p.stdin, stopWord+"\n"); err != nil && !errors.Is(err, syscall.EPIPE) {
		return err
	}
	select {
	case <-p.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	if p.err != nil {
		return p.died()
	}
	return nil
}

// died is the error of a worker that ended although nobody wanted it to.
func (p *process) died() error {
	err := problem.New(problem.ChildEnded, "demo worker", "it ended before its work was done; its last words:\n%s", p.tail)
	if p.err != nil {
		return err.Because(p.err)
	}
	return err
}

// tail keeps the last lines that were written to it.
type tail struct {
	mu    sync.Mutex
	lines []string
	open  string // a line without its end
}

// tailLines bounds what an error quotes.
const tailLines = 20

// Write implements io.Writer.
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := len(b)
	for {
		line, rest, whole := bytes.Cut(b, []byte("\n"))
		t.open += string(line)
		if !whole {
			break
		}
		if t.lines = append(t.lines, t.open); len(t.lines) > tailLines {
			t.lines = t.lines[1:]
		}
		t.open, b = "", rest
	}
	return n, nil
}

// String returns the lines.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.lines) == 0 && t.open == "" {
		return "(none)"
	}
	return strings.TrimRight(strings.Join(t.lines, "\n")+"\n"+t.open, "\n")
}
