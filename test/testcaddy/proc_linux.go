package testcaddy

import (
	"os/exec"
	"syscall"
)

// dieWithParent makes the kernel end cmd when the test's process ends without
// cleaning up, as it does after a time-out.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
