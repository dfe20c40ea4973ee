package conn

import (
	"io"

	"golang.org/x/sys/unix"
)

// pipeSize is the capacity of the pipe that bytes pass through between two sockets.
const pipeSize = 1 << 20

// CanSplice says whether bytes can go from src to dst inside the kernel. Its caller is src's reader and dst's writer.
func CanSplice(dst, src *Conn) bool {
	return dst.tls == nil && src.tls == nil && dst.deflate == nil && src.inflate == nil
}

// Splice moves exactly n bytes from src to dst inside the kernel (splice(2)), with backpressure. It returns
// how many bytes it has taken from src, and an error if they are fewer than n or if dst didn't get all of them.
// It must not be called within a Pump of src.
func Splice(dst, src *Conn, n int64) (taken int64, err error) {
	if len(src.unread) > 0 {
		b := src.unread[:min(int64(len(src.unread)), n)]
		src.unread = src.unread[len(b):]
		taken = int64(len(b))
		if _, err := dst.tcp.Write(b); err != nil {
			return taken, dst.noted(err)
		}
	}
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return taken, err
	}
	defer func() { _, _ = unix.Close(pipe[0]), unix.Close(pipe[1]) }()
	_, _ = unix.FcntlInt(uintptr(pipe[1]), unix.F_SETPIPE_SZ, pipeSize) // the default works, too
	for taken < n {
		in, err := fill(pipe[1], src, n-taken)
		if err != nil {
			return taken, src.noted(err)
		}
		taken += in
		if err := empty(dst, pipe[0], in); err != nil {
			return taken, dst.noted(err)
		}
	}
	return taken, nil
}

// fill moves at most n bytes from src into an empty pipe. It waits until there are some.
func fill(pipe int, src *Conn, n int64) (int64, error) {
	var moved int64
	var err error
	rerr := src.raw.Read(func(fd uintptr) bool {
		moved, err = splice(int(fd), pipe, n)
		return err != unix.EAGAIN
	})
	switch {
	case rerr != nil:
		return 0, rerr
	case err == nil && moved == 0:
		err = io.EOF
	}
	return moved, err
}

// empty moves n bytes from a pipe to dst.
func empty(dst *Conn, pipe int, n int64) error {
	var err error
	werr := dst.raw.Write(func(fd uintptr) bool {
		for n > 0 && err == nil {
			var moved int64
			if moved, err = splice(pipe, int(fd), n); err == unix.EAGAIN {
				err = nil
				return false
			}
			n -= moved
		}
		return true
	})
	if werr != nil {
		return werr
	}
	return err
}

func splice(from, to int, n int64) (int64, error) {
	for {
		moved, err := unix.Splice(from, nil, to, nil, int(min(n, pipeSize)), unix.SPLICE_F_MOVE|unix.SPLICE_F_NONBLOCK)
		if err != unix.EINTR {
			return int64(max(0, moved)), err //nolint:unconvert // it is an int where that has 32 bits
		}
	}
}
