// Package conn is a TCP connection, in the clear or under TLS, compressed or not, as the relay needs it: it waits for data
// without holding a buffer or a grown stack, moves literals inside the kernel if neither side uses TLS, and
// acknowledges data at once if the peer may be waiting for the acknowledgement.
//
// A Conn has exactly one reader and one writer at a time. Before login it is
// used as an ordinary net.Conn with deadlines; the relay reads it with Pump.
//
// Imports proxy/deflate. Imported by internal/postfix, proxy,
// proxy/auth/dovecotauth, proxy/auth/ldapauth, proxy/imapclient, proxy/park,
// proxy/park/resync, proxy/session and proxy/upstream.
package conn

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
)

// Conn is a TCP connection that may be under TLS.
type Conn struct {
	tcp         *net.TCPConn
	raw         syscall.RawConn
	tls         *tls.Conn // nil while in the clear
	unread      []byte    // bytes taken from the socket before, which the next read returns
	hold        []byte    // the bytes that Pump's receiver kept back from the last chunk
	drained     bool      // tls holds no decrypted bytes
	wakePending bool      // Poller.Wake was called while the connection wasn't in the Poller; guarded by Poller.mu, as slot is
	slot        uint32    // index + 1 of the slot in a Poller; 0: the connection isn't in one

	interruption interruption
	failed       atomic.Uint32 // the errno of the first read or write that has failed with the connection; 0: none has

	inflate *inflating // nil: what the peer sends isn't compressed
	deflate *deflating // nil: what is written isn't compressed

	closed func() bool // Guard's; nil: there is none
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

// Server starts TLS in the server's role and completes the handshake. The caller must have processed all
// bytes that it read in the clear: bytes that Unread put back are read as the beginning of the handshake,
// never as plaintext under TLS.
func (c *Conn) Server(ctx context.Context, cfg *tls.Config) error {
	return c.handshake(ctx, func(s *socket) *tls.Conn { return tls.Server(s, cfg) })
}

// Client starts TLS in the client's role and completes the handshake.
func (c *Conn) Client(ctx context.Context, cfg *tls.Config) error {
	return c.handshake(ctx, func(s *socket) *tls.Conn { return tls.Client(s, cfg) })
}

func (c *Conn) handshake(ctx context.Context, wrap func(*socket) *tls.Conn) error {
	if c.tls != nil {
		return fmt.Errorf("conn: already under TLS")
	}
	s := &socket{tcp: c.tcp, raw: c.raw, of: &c.interruption, first: c.unread}
	t := wrap(s)
	if err := t.HandshakeContext(ctx); err != nil {
		return err
	}
	c.unread, c.tls = nil, t
	s.ciphertext = field[bytes.Buffer](t, knownNames().rawInput)
	return nil
}

// socket returns what tls reads from and writes to, nil in the clear.
func (c *Conn) socket() *socket {
	if c.tls == nil {
		return nil
	}
	s, _ := c.tls.NetConn().(*socket)
	return s
}

// Unread puts bytes back, so that the next read returns them first. In the clear they may also be the
// beginning of a TLS handshake (the reader of a PROXY header may read too much).
func (c *Conn) Unread(b []byte) {
	if len(b) == 0 {
		return
	}
	c.unread = append(append([]byte(nil), b...), c.unread...)
}

// TakeUnread removes and returns the bytes that Unread put back.
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

// Read blocks until it has data, the deadline passes or the peer ends its side (io.EOF).
func (c *Conn) Read(p []byte) (int, error) {
	if len(c.unread) > 0 {
		n := copy(p, c.unread)
		if c.unread = c.unread[n:]; len(c.unread) == 0 {
			c.unread = nil
		}
		return n, nil
	}
	if c.inflate != nil {
		return c.inflate.read(p, c.readRaw)
	}
	return c.readRaw(p)
}

// readRaw is Read without what was put back, and without inflation.
func (c *Conn) readRaw(p []byte) (int, error) {
	if c.tls != nil {
		c.drained = false
		n, err := c.tls.Read(p)
		return n, c.noted(err)
	}
	n, err := c.tcp.Read(p)
	return n, c.noted(err)
}

// Write blocks until the kernel has accepted all of p.
func (c *Conn) Write(p []byte) (int, error) {
	if c.closed != nil && c.closed() {
		return 0, ErrGuarded
	}
	if c.deflate != nil && len(p) > 0 {
		return c.deflate.write(p, c.writeRaw)
	}
	return c.writeRaw(p)
}

func (c *Conn) writeRaw(p []byte) (int, error) {
	if c.tls != nil {
		n, err := c.tls.Write(p)
		return n, c.noted(err)
	}
	n, err := writeAll(c.tcp, c.raw, p)
	return n, c.noted(err)
}

// ErrGuarded is the error of a Write that the connection's guard doesn't let through.
var ErrGuarded = errors.New("conn: nothing may be sent now")

// Guard has each Write ask closed first: while it says true nothing is sent. It is set before the connection is shared.
func (c *Conn) Guard(closed func() bool) { c.closed = closed }

// CloseWrite ends the sending side: close_notify under TLS, then a FIN. The peer's data can still be read.
func (c *Conn) CloseWrite() error {
	if c.tls != nil {
		if err := c.tls.CloseWrite(); err != nil {
			return err
		}
	}
	return c.tcp.CloseWrite()
}

// Close ends the connection. It may be called while a reader waits; the read then returns net.ErrClosed.
func (c *Conn) Close() error {
	if c.tls != nil {
		return c.tls.Close()
	}
	return c.tcp.Close()
}

// Abort closes the connection without close_notify: after a literal was cut off in the middle, the peer must
// not receive another byte.
func (c *Conn) Abort() error { return c.tcp.Close() }

// LocalAddr returns the address of the proxy's side.
func (c *Conn) LocalAddr() net.Addr { return c.tcp.LocalAddr() }

// RemoteAddr returns the address of the TCP peer, which behind a load balancer isn't the client.
func (c *Conn) RemoteAddr() net.Addr { return c.tcp.RemoteAddr() }

// QuickAck makes the kernel acknowledge received data at once, now and for a while. A server that uses
// Nagle's algorithm keeps the second half of its response until the first is acknowledged, which takes 44 ms
// with delayed acknowledgements.
func (c *Conn) QuickAck() {
	_ = c.raw.Control(func(fd uintptr) { quickAck(int(fd)) })
}

// Broken says whether the TCP connection has ended: it was reset, or it failed because the peer was silent.
// After a failed Splice it tells which side failed.
func (c *Conn) Broken() bool {
	broken := true
	if err := c.raw.Control(func(fd uintptr) { broken = isClosed(int(fd)) }); err != nil {
		return true
	}
	return broken
}

// Vanished says whether a read or a write has failed since the peer's host was silent. Any goroutine may call it.
func (c *Conn) Vanished() bool { return isSilence(syscall.Errno(c.failed.Load())) }

// noted records the error of a read or a write with which the connection has failed, and returns the error. The kernel tells one reader or writer of it, and
// what is read then looks like the peer's end: noted returns what was recorded in place of that.
func (c *Conn) noted(err error) error {
	if err == nil || err == errEmpty {
		return err
	}
	if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
		if failed := c.failed.Load(); failed != 0 {
			return os.NewSyscallError("read", syscall.Errno(failed))
		}
		return err
	}
	var errno syscall.Errno
	if errors.As(err, &errno) && (errno == syscall.ECONNRESET || isSilence(errno)) {
		c.failed.CompareAndSwap(0, uint32(errno))
	}
	return err
}

// isSilence says whether the error means that the kernel has given a connection up because the peer's host was
// silent, or because the network has said that it can't be reached.
func isSilence(errno syscall.Errno) bool {
	return errno == syscall.ETIMEDOUT || errno == syscall.EHOSTUNREACH || errno == syscall.ENETUNREACH
}
