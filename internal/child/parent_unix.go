//go:build unix && !linux

package child

import (
	"os/exec"
	"syscall"
)

// dieWithParent can do less than on Linux: a parent that is killed leaves its children behind.
func dieWithParent(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }
