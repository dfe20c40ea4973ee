package conn

import (
	"io"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// readNow reads the data that the socket has. errEmpty: it has none; io.EOF: the peer has ended its side.
func readNow(fd int, p []byte) (int, error) {
	for {
		n, err := sysRead(fd, p)
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			return 0, errEmpty
		case err != nil:
			return 0, os.NewSyscallError("read", err)
		case n == 0:
			return 0, io.EOF
		}
		return n, nil
	}
}

// hasInput says whether the socket has data that wasn't read (tcp(7), SIOCINQ). Unlike a look at the data it leaves the error of a connection that has failed
// to the next read.
func hasInput(fd int) bool {
	n, err := unix.IoctlGetInt(fd, unix.SIOCINQ)
	return err == nil && n > 0
}

func userTimeout(fd int, d time.Duration) error {
	return os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds())))
}

// isClosed asks the kernel whether the connection is closed.
func isClosed(fd int) bool {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	return err != nil || info.State == unix.BPF_TCP_CLOSE
}

// quickAck is best effort: without it, acknowledgements are later.
func quickAck(fd int) {
	_ = sysSetInt(fd, unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1)
}

// emptyError is the type of errEmpty, which means that the socket has no data now.
type emptyError struct{}

func (emptyError) Error() string { return "conn: nothing to read now" }

func (emptyError) Timeout() bool { return true }

func (emptyError) Temporary() bool { return true }

var errEmpty error = emptyError{}
