//go:build !unix

package child

import "os/exec"

// dieWithParent can do nothing here: a worker notices the end of its parent by that of its input.
func dieWithParent(*exec.Cmd) {}
