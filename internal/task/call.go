package task

import (
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/oncemill/oncemill/internal/host"
	"github.com/oncemill/oncemill/internal/problem"
	"github.com/oncemill/oncemill/statestore"
)

// call runs user code: a panic becomes a failure of the node that ran, and a failure that user code swallowed counts.
func (t *Task) call(fn func() error) (failure *host.Failure) {
	t.failed, t.node = nil, nil
	defer func() {
		if r := recover(); r != nil {
			name := ""
			if t.node != nil {
				name = t.node.Name
			}
			failure = &host.Failure{Phase: t.phase(), Node: name, Stack: debug.Stack(),
				Err: problem.New(problem.HandlerPanicked, fmt.Sprintf("node %q at %s", name, t.current.place()), "panic: %v", r)}
		}
		t.node = nil
	}()
	err := fn()
	if t.failed != nil || err == nil {
		return t.failed
	}
	return t.failureOf(err)
}

// failureOf is apart from call, whose result would else be allocated for every record.
func (t *Task) failureOf(err error) *host.Failure {
	var failure *host.Failure
	if !errors.As(err, &failure) {
		failure = &host.Failure{Phase: t.phase(), Err: err}
	}
	return failure
}

// fatalCause returns the error if it is not the record's fault: then no failure policy may touch the record.
func fatalCause(f *host.Failure) error {
	for _, fatal := range []error{statestore.ErrClosed, statestore.ErrReleased, statestore.ErrBudget,
		&problem.Error{Code: problem.StoreIO}, &problem.Error{Code: problem.StoreCorrupt}, &problem.Error{Code: problem.InvariantBroken}} {
		if errors.Is(f, fatal) {
			return f
		}
	}
	return nil
}
