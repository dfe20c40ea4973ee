package conn

import (
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
)

// mostAtOnce is the size from which on a write goes through the net package: the kernel may work on it for so long that Go's scheduler
// should know. A TLS record is smaller.
const mostAtOnce = 17 << 10

// writeAll writes all of p to the socket of tcp and raw. Like the net package's Write it waits while the socket has no room, until the write
// deadline.
func writeAll(tcp *net.TCPConn, raw syscall.RawConn, p []byte) (int, error) {
	if len(p) == 0 || len(p) >= mostAtOnce {
		return tcp.Write(p)
	}
	w := writers.Get().(*writing)
	w.rest = p
	err := raw.Write(w.try)
	if err != nil {
		nameWrite(err)
	} else if w.err != nil {
		err = &net.OpError{Op: "write", Net: "tcp", Source: tcp.LocalAddr(), Addr: tcp.RemoteAddr(), Err: w.err}
	}
	n := len(p) - len(w.rest)
	w.rest, w.err = nil, nil
	writers.Put(w)
	return n, err
}

// nameWrite has the error of a RawConn's Write name the operation as the net package's Write does.
func nameWrite(err error) {
	var op *net.OpError
	if errors.As(err, &op) {
		op.Op = "write" // not "raw-write"
	}
}

// writing is a write in progress.
type writing struct {
	rest []byte
	err  error
	try  func(fd uintptr) bool // writes; made once
}

var writers = sync.Pool{New: func() any {
	w := &writing{}
	w.try = w.write
	return w
}}

// write writes until the socket has no room, for which it returns false.
func (w *writing) write(fd uintptr) bool {
	for len(w.rest) > 0 {
		n, err := sysWrite(int(fd), w.rest)
		switch err {
		case nil:
			w.rest = w.rest[n:]
		case syscall.EINTR:
		case syscall.EAGAIN:
			return false
		default:
			w.err = os.NewSyscallError("write", err)
			return true
		}
	}
	return true
}
