package conn

import (
	"errors"
	"io"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrUnread means that data has arrived that wasn't read.
var ErrUnread = errors.New("conn: data unread")

// Pending says, without waiting, whether the connection is idle. nil: it is open, and no data has arrived.
// ErrUnread: unread data is in the socket, or was read ahead by the connection's last reader. io.EOF: the
// peer has ended its side. Other errors: the connection has failed.
//
// After an error the caller must close the connection: under TLS, Pending may have consumed a byte. Only the
// connection's owner may call it, and no deadline may be set meanwhile. Under TLS all bytes count, also those
// of tickets and alerts.
func (c *Conn) Pending() error {
	if len(c.unread) > 0 || len(c.hold) > 0 || c.inflate != nil && c.inflate.hasMore() {
		return ErrUnread
	}
	if s := c.socket(); s != nil && s.isAhead() {
		return ErrUnread
	}
	var err error
	if cerr := c.raw.Control(func(fd uintptr) { err = peek(int(fd)) }); cerr != nil {
		return cerr
	}
	if err != nil || c.tls == nil {
		return c.noted(err)
	}
	return c.decrypted()
}

// Holding says whether bytes that were taken from the socket may still have to be read: a Poller, which sees only the
// socket, must not wait then. Under TLS it says so, too, of a record that has come in part, and always where Pool.Unfit has an
// error. Only the connection's reader may call it, between two reads.
func (c *Conn) Holding(pool *Pool) bool {
	if len(c.unread) > 0 || len(c.hold) > 0 || c.inflate != nil && c.inflate.hasMore() {
		return true
	}
	if c.tls == nil {
		return false
	}
	s := c.socket()
	return pool.unfit != nil || s.isAhead() || pool.layout.holding(c.tls)
}

// Ended says whether the peer has ended its side or the connection has failed, even if unread data precedes
// that. It consumes no data, so any goroutine may call it.
func (c *Conn) Ended() bool {
	ended := false
	err := c.raw.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		n, err := unix.Poll(p, 0)
		ended = err == nil && n > 0 && p[0].Revents != 0
	})
	return err == nil && ended
}

// decrypted looks for data that tls has already taken from the socket: with a deadline in the past, Read
// returns only that data.
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
		return c.noted(err) // io.EOF: tls had read close_notify
	}
	return c.limit(Reads, time.Time{})
}

// peek looks at the socket's queue without consuming data.
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
