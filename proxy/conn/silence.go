package conn

import (
	"errors"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// NoticeLoss has the kernel fail the connection if its peer's host doesn't answer while the connection is
// idle: it is probed after idle, then every interval, and the connection fails after count probes.
//
// Data that isn't acknowledged is not covered: the kernel sends no probes while there is some. TCP_USER_TIMEOUT
// would cover it, and would also end a connection whose peer is alive but doesn't read (a window of zero): a
// server reads nothing during a long command. Unacknowledged tells the two apart.
func (c *Conn) NoticeLoss(idle, interval time.Duration, count int) error {
	return c.tcp.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: idle, Interval: interval, Count: count})
}

// lostSegments is how many repetitions of a segment, or probes of a closed window, have to be lost before
// silence counts: a single one may be lost on a network that works.
const lostSegments = 3

// Unacknowledged says whether the peer's host has sent nothing for d although the kernel has sent data, or
// probes of the peer's closed window, again and again. Any goroutine may call it.
func (c *Conn) Unacknowledged(d time.Duration) bool {
	i := c.info()
	return i != nil && time.Duration(i.Last_ack_recv)*time.Millisecond >= d &&
		(i.Unacked > 0 && i.Retransmits >= lostSegments || i.Probes >= lostSegments)
}

// Backlogged says whether the kernel has bytes that it can't send yet. Any goroutine may call it.
func (c *Conn) Backlogged() bool {
	i := c.info()
	return i != nil && i.Notsent_bytes > 0
}

// Drained says whether the peer's host has acknowledged all that was written: a small write doesn't have to wait then. Any goroutine
// may call it.
func (c *Conn) Drained() bool {
	i := c.info()
	return i != nil && i.Notsent_bytes == 0 && i.Unacked == 0
}

// SinceReceived returns how long ago data last arrived. Any goroutine may call it.
func (c *Conn) SinceReceived() time.Duration {
	i := c.info()
	if i == nil {
		return 0
	}
	return time.Duration(i.Last_data_recv) * time.Millisecond
}

// HasUnread says whether data has arrived that waits in the socket. Any goroutine may call it.
func (c *Conn) HasUnread() bool {
	var err error
	if cerr := c.raw.Control(func(fd uintptr) { err = peek(int(fd)) }); cerr != nil {
		return false
	}
	return errors.Is(err, ErrUnread)
}

// info returns what the kernel knows of the connection; nil if it is closed.
func (c *Conn) info() (i *unix.TCPInfo) {
	var err error
	if cerr := c.raw.Control(func(fd uintptr) { i, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) }); cerr != nil || err != nil {
		return nil
	}
	return i
}

// DiscardUnsent has the next Close or Abort reset the connection. Bytes that the peer's host hasn't taken yet
// are then never sent.
func (c *Conn) DiscardUnsent() { _ = c.tcp.SetLinger(0) }
