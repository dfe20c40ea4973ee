package consultest

import "syscall"

// endWithParent keeps a test that is killed from leaving its agent behind.
func endWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
