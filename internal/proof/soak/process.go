package soak

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os/exec"
	"sync"
	"syscall"

	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/kafkatest/kafkaproc"
)

// process is a running worker process.
type process struct {
	name  string
	child *kafkaproc.Child
	stdin io.WriteCloser
	tail  *tail
	read  chan struct{} // closed when everything it wrote was read
}

// startProcess starts a worker and gives it its order.
func startProcess(cmd *exec.Cmd, o Order, log io.Writer, told func(Report)) (*process, error) {
	failed := func(err error) error { return problem.Wrap(problem.ChildEnded, "start "+cmd.Path, err) }
	p := &process{name: o.Instance, tail: &tail{}, read: make(chan struct{})}
	cmd.Stderr = io.MultiWriter(p.tail, log)
	line, err := json.Marshal(o)
	if err != nil {
		return nil, failed(err)
	}
	if p.stdin, err = cmd.StdinPipe(); err != nil {
		return nil, failed(err)
	}
	reader, writer := io.Pipe()
	cmd.Stdout = writer
	if p.child, err = kafkaproc.StartChild(cmd); err != nil {
		return nil, failed(err)
	}
	go func() {
		defer close(p.read)
		readReports(reader, told)
	}()
	go func() {
		<-p.child.Exited()
		writer.Close()
	}()
	if _, err := p.stdin.Write(append(line, '\n')); err != nil {
		p.kill()
		return nil, failed(err)
	}
	return p, nil
}

// readReports reads until the output ends. A last line that broke off when the process was killed is left out.
func readReports(stdout io.Reader, told func(Report)) {
	lines := bufio.NewScanner(stdout)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r Report
		if json.Unmarshal(lines.Bytes(), &r) == nil {
			told(r)
		}
	}
	_, _ = io.Copy(io.Discard, stdout) // what is no report must not keep the process waiting
}

// kill kills the process with SIGKILL and waits until it is gone. It may have ended before.
func (p *process) kill() {
	_ = p.child.Signal(syscall.SIGKILL)
	p.gone()
}

// gone waits for the end of the process.
func (p *process) gone() {
	<-p.child.Exited()
	<-p.read
	_ = p.stdin.Close() // nobody reads it any more
}

func (p *process) running() bool {
	select {
	case <-p.child.Exited():
		return false
	default:
		return true
	}
}

// stop lets the process end in good order.
func (p *process) stop(ctx context.Context) error {
	if _, err := io.WriteString(p.stdin, stopWord+"\n"); err != nil && p.running() {
		return err
	}
	select {
	case <-p.child.Exited():
	case <-ctx.Done():
		return problem.New(problem.Unfinished, "soak worker "+p.name, "it did not stop; its last words:\n%s", p.tail).Because(context.Cause(ctx))
	}
	p.gone()
	if p.child.Err() != nil {
		return p.died()
	}
	return nil
}

// died is the error of a process that ended although nobody wanted it to.
func (p *process) died() error {
	err := problem.New(problem.ChildEnded, "soak worker "+p.name, "it ended before its work was done; its last words:\n%s", p.tail)
	if p.child.Err() != nil {
		return err.Because(p.child.Err())
	}
	return err
}

// tail keeps the last lines that were written to it.
type tail struct {
	mu sync.Mutex
	b  []byte
}

// tailBytes is what is kept: some dozen lines.
const tailBytes = 8 << 10

// Write implements io.Writer.
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, b...)
	if len(t.b) > 2*tailBytes {
		t.b = append(t.b[:0], t.b[len(t.b)-tailBytes:]...)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	kept := t.b[max(0, len(t.b)-tailBytes):]
	if cut := bytes.IndexByte(kept, '\n'); cut >= 0 && len(t.b) > tailBytes {
		kept = kept[cut+1:]
	}
	return string(bytes.TrimSpace(kept))
}
