// Package invariants checks what must hold and says so when it does not. Check costs nothing in a normal build: it is on
// under the build tag "invariants" and under the race detector. Must is always on, for checks that cost nothing where they
// stand.
package invariants

import "github.com/oncemill/oncemill/internal/problem"

// Check panics with problem.InvariantBroken if ok is false and checks are on. Guard costly arguments with Enabled.
func Check(ok bool, name, format string, args ...any) {
	if Enabled && !ok {
		panic(problem.New(problem.InvariantBroken, name, format, args...))
	}
}

// Must panics with problem.InvariantBroken if ok is false.
func Must(ok bool, name, format string, args ...any) {
	if !ok {
		panic(problem.New(problem.InvariantBroken, name, format, args...))
	}
}
