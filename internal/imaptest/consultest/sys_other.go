//go:build !linux

package consultest

import "syscall"

// endWithParent does nothing here: only Linux can do it.
func endWithParent() *syscall.SysProcAttr { return nil }
