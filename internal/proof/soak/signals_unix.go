//go:build unix

package soak

import "syscall"

// The signals of a pause, and the one that makes a Go program say what its goroutines do, and end.
const (
	dumpSignal = syscall.SIGQUIT
	haltSignal = syscall.SIGSTOP
	goOnSignal = syscall.SIGCONT
)
