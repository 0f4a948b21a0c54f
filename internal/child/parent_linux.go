package child

import (
	"os/exec"
	"syscall"
)

// dieWithParent has the kernel kill the child when its parent dies, also by SIGKILL. The process group of its own keeps
// a Ctrl-C in the terminal from reaching the child before its parent has decided what to do.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
