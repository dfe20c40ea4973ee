package conn

import (
	"math/rand/v2"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// Probing is how the kernel probes a peer's host that is silent while the connection is idle.
//
// Each connection gets times of its own, between these and somewhat longer ones, and many probes. The kernel rounds its timers (to a quarter of a
// second for 9 s, to 2 s for two minutes, at 250 Hz), so that connections that were last used at about the same moment are all probed in one.
// Loopback, and the pairs of devices that containers have, drop what exceeds 1,000 packets of one moment on one processor
// (net.core.netdev_max_backlog): of 9,000 connections with two probes each, at the same times, a quarter failed although the peer's host was well.
type Probing struct {
	Idle     time.Duration // of silence before the first probe; up to a half more
	Interval time.Duration // between probes; up to twice as long
	Within   time.Duration // from the last octet to the connection's failure; up to an interval more
}

// config returns settings for one connection.
func (p Probing) config() net.KeepAliveConfig {
	idle, interval := longer(p.Idle, p.Idle/2), longer(p.Interval, p.Interval)
	return net.KeepAliveConfig{Enable: true, Idle: idle, Interval: interval, Count: int((p.Within - idle + interval - 1) / interval)}
}

// longer returns d and up to more, in whole seconds, as the kernel takes them.
func longer(d, more time.Duration) time.Duration {
	return d + time.Duration(rand.Int64N(int64(more/time.Second)+1))*time.Second
}

// NoticeLoss has the kernel fail the connection if its peer's host doesn't answer while the connection is idle.
//
// Data that isn't acknowledged is not covered: the kernel sends no probes while there is some. TCP_USER_TIMEOUT
// would cover it, and would also end a connection whose peer is alive but doesn't read (a window of zero): a
// server reads nothing during a long command. Unacknowledged tells the two apart.
func (c *Conn) NoticeLoss(p Probing) error { return c.tcp.SetKeepAliveConfig(p.config()) }

// KeepAlive sets how a silent peer is probed. Data that isn't acknowledged fails the connection after p.Within, too
// (TCP_USER_TIMEOUT).
func (c *Conn) KeepAlive(p Probing) error {
	if err := c.NoticeLoss(p); err != nil {
		return err
	}
	var serr error
	if err := c.raw.Control(func(fd uintptr) { serr = userTimeout(int(fd), p.Within) }); err != nil {
		return err
	}
	return serr
}

// lostSegments is how many repetitions of a segment, or probes of a closed window, have to be lost before
// silence counts: a single one may be lost on a network that works.
const lostSegments = 3

// Unacknowledged says whether the peer's host has sent nothing for d although the kernel has sent data, or probes of the peer's closed window,
// again and again; with idle, or probes of an idle connection. Any goroutine may call it.
func (c *Conn) Unacknowledged(d time.Duration, idle bool) bool {
	i := c.info()
	return i != nil && time.Duration(i.Last_ack_recv)*time.Millisecond >= d &&
		(i.Unacked > 0 && i.Retransmits >= lostSegments || (idle || i.Notsent_bytes > 0) && i.Probes >= lostSegments)
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
func (c *Conn) HasUnread() (has bool) {
	_ = c.raw.Control(func(fd uintptr) { has = hasInput(int(fd)) }) // a closed connection has nothing
	return has
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
