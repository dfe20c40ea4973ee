//go:build race

package conn

import "syscall"

// The race detector knows of what is written before something is read only from the syscall package's own calls.

func sysRead(fd int, p []byte) (int, error)  { return syscall.Read(fd, p) }
func sysWrite(fd int, p []byte) (int, error) { return syscall.Write(fd, p) }

func sysSetInt(fd, level, option int, value int32) error {
	return syscall.SetsockoptInt(fd, level, option, int(value))
}
