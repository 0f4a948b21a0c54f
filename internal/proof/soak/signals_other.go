//go:build !unix

package soak

import "syscall"

// There is no way to halt a process here: a pause fails when it is tried, and with it the soak.
const (
	dumpSignal = syscall.Signal(-1)
	haltSignal = syscall.Signal(-1)
	goOnSignal = syscall.Signal(-1)
)
