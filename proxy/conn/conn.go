// Package conn is one TCP connection, in the clear or under TLS, as the relay
// needs it: it waits for data without holding a buffer or a grown stack, hands
// literals over inside the kernel where plain meets plain, and acknowledges at
// once when the peer is in the middle of something.
//
// A Conn has exactly one reader and one writer at a time. Before login it is
// used as an ordinary net.Conn with deadlines; the relay reads it with Pump.
//
// Imports none of our packages. Imported by proxy, proxy/imapclient, proxy/park,
// proxy/park/resync, proxy/session and proxy/upstream.
package conn

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"
)

// Conn is a TCP connection that may have become a TLS one.
type Conn struct {
	tcp    *net.TCPConn
	raw    syscall.RawConn
	tls    *tls.Conn // nil while in the clear
	sock   *socket   // what tls reads from and writes to; nil while in the clear
	unread []byte    // bytes already taken from the socket, to be read first
	// ciphertext is what tls has read of records that aren't whole; nil where its
	// place in tls.Conn isn't known.
	ciphertext *bytes.Buffer
	hold       []byte // Pump: bytes its receiver kept back at the last chunk's end
	drained    bool   // tls holds no decrypted bytes that weren't read
	wanted     bool   // a Waiting's Wake came while no owner waited; guarded by its mutex, as place is
	place      uint32 // in a Waiting, from 1 on; 0: it isn't there

	interruption interruption
}

var _ net.Conn = (*Conn)(nil)

// New takes ownership of an accepted or dialled TCP connection. TCP_NODELAY is
// Go's default and stays on.
func New(tcp *net.TCPConn) (*Conn, error) {
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("conn: %w", err)
	}
	return &Conn{tcp: tcp, raw: raw}, nil
}

// Server makes the connection a TLS one in the server's role and completes the
// handshake. The caller must have used the bytes that it read in the clear: those that Unread has
// put back are taken for the handshake's beginning, never for plaintext under TLS.
func (c *Conn) Server(ctx context.Context, cfg *tls.Config) error {
	return c.handshake(ctx, func(s *socket) *tls.Conn { return tls.Server(s, cfg) })
}

// Client makes the connection a TLS one in the client's role and completes the handshake.
func (c *Conn) Client(ctx context.Context, cfg *tls.Config) error {
	return c.handshake(ctx, func(s *socket) *tls.Conn { return tls.Client(s, cfg) })
}

func (c *Conn) handshake(ctx context.Context, wrap func(*socket) *tls.Conn) error {
	if c.tls != nil {
		return fmt.Errorf("conn: already under TLS")
	}
	s := &socket{tcp: c.tcp, of: &c.interruption, first: c.unread}
	t := wrap(s)
	if err := t.HandshakeContext(ctx); err != nil {
		return err
	}
	c.unread, c.sock, c.tls = nil, s, t
	c.ciphertext = field[bytes.Buffer](t, "rawInput")
	return nil
}

// Unread puts bytes back in front of what is still to be read. In the clear
// they may also be the start of a TLS handshake (a PROXY header's reader took
// too much).
func (c *Conn) Unread(b []byte) {
	if len(b) == 0 {
		return
	}
	c.unread = append(append([]byte(nil), b...), c.unread...)
}

// TakeUnread returns the bytes that Unread has put in front, and forgets them.
func (c *Conn) TakeUnread() []byte {
	b := c.unread
	c.unread = nil
	return b
}

// TLS returns the state of the TLS connection, nil in the clear.
func (c *Conn) TLS() *tls.ConnectionState {
	if c.tls == nil {
		return nil
	}
	st := c.tls.ConnectionState()
	return &st
}

// Secure says whether the connection is under TLS.
func (c *Conn) Secure() bool { return c.tls != nil }

// Read blocks until there is data, the deadline or the end (io.EOF).
func (c *Conn) Read(p []byte) (int, error) {
	if len(c.unread) > 0 {
		n := copy(p, c.unread)
		if c.unread = c.unread[n:]; len(c.unread) == 0 {
			c.unread = nil
		}
		return n, nil
	}
	if c.tls != nil {
		c.drained = false
		return c.tls.Read(p)
	}
	return c.tcp.Read(p)
}

// Write blocks until all of p is handed to the kernel.
func (c *Conn) Write(p []byte) (int, error) {
	if c.tls != nil {
		return c.tls.Write(p)
	}
	return c.tcp.Write(p)
}

// CloseWrite says that nothing more will be sent: close_notify under TLS, then
// a FIN. What the peer still sends can be read.
func (c *Conn) CloseWrite() error {
	if c.tls != nil {
		if err := c.tls.CloseWrite(); err != nil {
			return err
		}
	}
	return c.tcp.CloseWrite()
}

// Close ends the connection. It may be called while a reader waits: that
// returns net.ErrClosed.
func (c *Conn) Close() error {
	if c.tls != nil {
		return c.tls.Close()
	}
	return c.tcp.Close()
}

// Abort closes the connection without close_notify: a peer that was cut off in
// the middle of a literal must get not one more byte.
func (c *Conn) Abort() error { return c.tcp.Close() }

// LocalAddr returns the address of the proxy's side.
func (c *Conn) LocalAddr() net.Addr { return c.tcp.LocalAddr() }

// RemoteAddr returns the address of the TCP peer, which behind a load balancer isn't the client.
func (c *Conn) RemoteAddr() net.Addr { return c.tcp.RemoteAddr() }

// QuickAck makes the kernel acknowledge at once what has arrived, now and for a while:
// a server with Nagle's algorithm on keeps the second half of its answer until it is acknowledged,
// 44 ms with delayed acknowledgements.
func (c *Conn) QuickAck() {
	_ = c.raw.Control(func(fd uintptr) { quickAck(int(fd)) })
}

// KeepAlive sets when a silent peer is probed and given up: it is probed after idle, then
// every interval, count times. Data that isn't acknowledged breaks the connection after the same
// total time (TCP_USER_TIMEOUT).
func (c *Conn) KeepAlive(idle, interval time.Duration, count int) error {
	err := c.tcp.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: idle, Interval: interval, Count: count})
	if err != nil {
		return err
	}
	total := idle + time.Duration(count)*interval
	var serr error
	if err := c.raw.Control(func(fd uintptr) { serr = userTimeout(int(fd), total) }); err != nil {
		return err
	}
	return serr
}

// Broken says whether the TCP connection has ended: reset, or given up because
// the peer was silent. After a Splice that failed it shows which side failed.
func (c *Conn) Broken() bool {
	broken := true
	if err := c.raw.Control(func(fd uintptr) { broken = isClosed(int(fd)) }); err != nil {
		return true
	}
	return broken
}

// CanSplice says whether src's bytes can go to dst without leaving the kernel.
func CanSplice(dst, src *Conn) bool { return dst.tls == nil && src.tls == nil }

// Splice moves exactly n bytes from src to dst inside the kernel (splice(2)),
// with backpressure: it returns how many were moved, and an error when fewer.
// Not to be called from within a Pump of src.
func Splice(dst, src *Conn, n int64) (int64, error) {
	var first int64
	if len(src.unread) > 0 {
		b := src.unread[:min(int64(len(src.unread)), n)]
		src.unread = src.unread[len(b):]
		if _, err := dst.tcp.Write(b); err != nil {
			return 0, err
		}
		first = int64(len(b))
	}
	lr := io.LimitedReader{R: src.tcp, N: n - first}
	moved, err := dst.tcp.ReadFrom(&lr)
	moved += first
	if err == nil && moved < n {
		err = io.EOF
	}
	return moved, err
}
