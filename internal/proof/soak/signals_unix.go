//go:build unix

package soak

import "syscall"

// The signals of a pause.
const (
	haltSignal = syscall.SIGSTOP
	goOnSignal = syscall.SIGCONT
)
