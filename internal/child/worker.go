package child

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os/exec"
	"sync"
	"syscall"

	"github.com/oncemill/oncemill/internal/problem"
)

// stopWord is the second line that a worker gets: end in good order.
const stopWord = "stop"

// longest bounds a line of an order.
const longest = 1 << 20

// Worker is a worker process, as its parent has it.
type Worker struct {
	*Process
	name  string
	stdin io.WriteCloser
	tail  tail
	done  chan struct{}
}

// StartWorker starts a worker, whose name is for errors, and gives it its order. What it writes to its standard error goes to log.
func StartWorker[O, R any](cmd *exec.Cmd, name string, order O, log io.Writer, told func(R)) (*Worker, error) {
	failed := func(err error) (*Worker, error) { return nil, problem.Wrap(problem.ChildEnded, "start "+cmd.Path, err) }
	line, err := json.Marshal(order)
	if err != nil {
		return failed(err)
	}
	w := &Worker{name: name, done: make(chan struct{})}
	if w.stdin, err = cmd.StdinPipe(); err != nil {
		return failed(err)
	}
	reader, writer := io.Pipe()
	cmd.Stdout, cmd.Stderr = writer, io.MultiWriter(&w.tail, log)
	if w.Process, err = Start(cmd); err != nil {
		return failed(err)
	}
	go func() {
		defer close(w.done)
		readReports(reader, told)
	}()
	go func() {
		<-w.exited
		writer.Close()
	}()
	if _, err := w.stdin.Write(append(line, '\n')); err != nil {
		w.Kill()
		return failed(err)
	}
	return w, nil
}

// readReports reads until the output ends. A last line that broke off when the process was killed is left out.
func readReports[R any](stdout io.Reader, told func(R)) {
	lines := bufio.NewReader(stdout)
	for {
		line, err := lines.ReadBytes('\n')
		var r R
		if json.Unmarshal(line, &r) == nil {
			told(r)
		}
		if err != nil {
			return
		}
	}
}

// Done is closed when the process is gone and everything that it wrote was read.
func (w *Worker) Done() <-chan struct{} { return w.done }

// Kill kills the process with SIGKILL and waits for Done. It may have ended before.
func (w *Worker) Kill() {
	w.Process.Kill()
	<-w.done
}

// Stop lets the process end in good order.
func (w *Worker) Stop(ctx context.Context) error {
	if _, err := io.WriteString(w.stdin, stopWord+"\n"); err != nil && w.Running() && !errors.Is(err, syscall.EPIPE) {
		return err
	}
	select {
	case <-w.done:
	case <-ctx.Done():
		return problem.New(problem.Unfinished, w.name, "it did not stop; its last words:\n%s", &w.tail).Because(context.Cause(ctx))
	}
	if w.err != nil {
		return w.Died()
	}
	return nil
}

// Died is the error of a process that ended although nobody wanted it to, after Done.
func (w *Worker) Died() error {
	err := problem.New(problem.ChildEnded, w.name, "it ended before its work was done; its last words:\n%s", &w.tail)
	if w.err != nil {
		return err.Because(w.err)
	}
	return err
}

// Work is the main function of a worker process, whose name is for errors. It reads its order from in and runs it until it is told to
// stop. It returns an error at once when in ends: then the parent is dead, and so must be its child.
func Work[O any](ctx context.Context, name string, in io.Reader, run func(context.Context, *O) error) error {
	errOrphaned := problem.New(problem.ChildEnded, name, "its parent is gone")
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, longest)
	if !lines.Scan() {
		return errors.Join(errOrphaned, lines.Err())
	}
	order := new(O)
	if err := json.Unmarshal(lines.Bytes(), order); err != nil {
		return fmt.Errorf("the worker's order: %w", err)
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	orphaned := make(chan struct{})
	go func() { // ends with the input, or with the process
		if lines.Scan() && lines.Text() == stopWord {
			stop()
			lines.Scan()
		}
		close(orphaned)
	}()
	done := make(chan error, 1)
	go func() { done <- run(ctx, order) }()
	select {
	case err := <-done:
		return err
	case <-orphaned:
		return errOrphaned
	}
}

// Teller returns a function that reports to the parent; several goroutines may call it.
func Teller[R any](out io.Writer, log *slog.Logger) func(R) {
	var mu sync.Mutex
	return func(r R) {
		mu.Lock()
		defer mu.Unlock()
		if err := json.NewEncoder(out).Encode(r); err != nil {
			log.Debug("report not written", "err", err) // the end of the parent is noticed elsewhere
		}
	}
}
