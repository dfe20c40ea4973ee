package conn

import (
	"errors"
	"io"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrUnread means that bytes have come that weren't read.
var ErrUnread = errors.New("conn: data unread")

// Pending looks, without waiting, whether the connection is quiet. nil: it is open, and nothing
// has come. ErrUnread: bytes wait, in the
// socket or read ahead by the connection's last reader. io.EOF: the peer has
// ended it. Another error: it is broken.
//
// After any error the connection has to be closed: under TLS the look
// may have used up a byte. Its caller is the connection's only owner, and sets
// no deadlines meanwhile. Under TLS any bytes count, also those of tickets and alerts.
func (c *Conn) Pending() error {
	if len(c.unread) > 0 || len(c.hold) > 0 {
		return ErrUnread
	}
	if s := c.sock; s != nil && (len(s.first) > 0 || len(s.ahead) > 0) {
		return ErrUnread
	}
	var err error
	if cerr := c.raw.Control(func(fd uintptr) { err = peek(int(fd)) }); cerr != nil {
		return cerr
	}
	if err != nil || c.tls == nil {
		return err
	}
	return c.decrypted()
}

// Ended says whether the peer has ended its side of the connection, or it is broken, whatever lies unread
// before that. It takes nothing away, so any goroutine may ask.
func (c *Conn) Ended() bool {
	ended := false
	err := c.raw.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		n, err := unix.Poll(p, 0)
		ended = err == nil && n > 0 && p[0].Revents != 0
	})
	return err == nil && ended
}

// decrypted looks for what TLS has already taken from the socket: with a
// deadline in the past a Read gives what it holds, or none.
func (c *Conn) decrypted() error {
	if err := c.limit(Reads, longAgo()); err != nil {
		return err
	}
	var b [1]byte
	c.drained = false
	n, err := c.tls.Read(b[:])
	switch {
	case n > 0:
		return ErrUnread
	case !errors.Is(err, os.ErrDeadlineExceeded):
		return err // io.EOF: close_notify lay there
	}
	return c.limit(Reads, time.Time{})
}

// peek looks at the socket's queue and leaves it as it is.
func peek(fd int) error {
	var b [1]byte
	for {
		n, _, err := unix.Recvfrom(fd, b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			return nil
		case err != nil:
			return os.NewSyscallError("recvfrom", err)
		case n == 0:
			return io.EOF
		}
		return ErrUnread
	}
}
