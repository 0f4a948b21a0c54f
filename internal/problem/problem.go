// Package problem is the one form of an error that a person reads: a code, the place, the cause and the cure. The same
// text appears in the log, on the command line and in docs/errors.md; "oncemill help OMnnn" prints the long form.
package problem

import (
	"errors"
	"fmt"
	"strings"
)

// Error is an error with a code. It works with errors.Is (two Errors with the same Code are equal to Is; so is the
// cause) and errors.As.
type Error struct {
	// Code is the stable number, such as "OM104". It is registered in codes.go.
	Code Code
	// Place names where: a topic, a node, a store, a file, a configuration field.
	Place string
	// Problem says what is wrong, with the values.
	Problem string
	// Cure says what to do. Empty means: the registered cure of the code.
	Cure string
	// Cause is the error underneath, if any.
	Cause error
}

// New makes an Error with the registered cure.
func New(code Code, place, format string, args ...any) *Error {
	return &Error{Code: code, Place: place, Problem: fmt.Sprintf(format, args...)}
}

// Wrap makes an Error around a cause.
func Wrap(code Code, place string, cause error) *Error {
	return &Error{Code: code, Place: place, Cause: cause}
}

// WithCure returns e with another cure than the registered one.
func (e *Error) WithCure(format string, args ...any) *Error {
	e.Cure = fmt.Sprintf(format, args...)
	return e
}

// Because returns e with a cause.
func (e *Error) Because(cause error) *Error {
	e.Cause = cause
	return e
}

// Error renders "OM104 place: problem: cause. Cure: ...".
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(string(e.Code))
	if e.Place != "" {
		b.WriteString(" " + e.Place)
	}
	if e.Problem != "" {
		b.WriteString(": " + e.Problem)
	}
	if e.Cause != nil {
		b.WriteString(": " + e.Cause.Error())
	}
	cure := e.Cure
	if cure == "" {
		cure = Lookup(e.Code).Cure
	}
	if cure != "" {
		b.WriteString(". Cure: " + cure)
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// Is reports that target is an Error with the same code.
func (e *Error) Is(target error) bool {
	var t *Error
	return errors.As(target, &t) && t.Code == e.Code
}

// CodeOf returns the code of the first Error in err's tree, or "".
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}
