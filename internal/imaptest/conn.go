package imaptest

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// DefaultTimeout is how long a read waits for the other side unless told
// otherwise. Long: the race detector and two busy cores are slow.
const DefaultTimeout = 20 * time.Second

// DialOptions say how to reach a server. The zero value is plain TCP.
type DialOptions struct {
	TLS     *tls.Config   // not nil: implicit TLS; see Conn.StartTLS for the other
	Timeout time.Duration // of the dial and of each read; 0 = DefaultTimeout
	Source  string        // the local address; "": the system's choice

	// Small gives the connection the least receive buffer there is, and segments as on the internet: if the
	// client doesn't read, the server soon has to wait.
	Small bool
}

// A Conn is a client's connection. It isn't safe for concurrent use, except
// that one goroutine may write while another reads.
type Conn struct {
	net.Conn
	Timeout time.Duration // of each read; 0 = DefaultTimeout

	r *reader
	w *bufio.Writer
}

// DialConn connects; it doesn't read the greeting.
func DialConn(ctx context.Context, addr string, o DialOptions) (*Conn, error) {
	d := net.Dialer{Timeout: orDefault(o.Timeout)}
	if o.Source != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(o.Source)}
	}
	if o.Small {
		d.Control = small
	}
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	c := NewConn(nc)
	c.Timeout = o.Timeout
	if o.TLS != nil {
		if err := c.handshake(o.TLS); err != nil {
			_ = nc.Close() // the handshake's error is the one that matters
			return nil, err
		}
	}
	return c, nil
}

// small is a net.Dialer's Control.
func small(_, _ string, c syscall.RawConn) error {
	var err error
	cerr := c.Control(func(fd uintptr) {
		err = errors.Join(
			unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 1),
			unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG, 1220))
	})
	return errors.Join(cerr, err)
}

// NewConn speaks over a connection that exists already.
func NewConn(nc net.Conn) *Conn {
	return &Conn{Conn: nc, r: newReader(nc, true), w: bufio.NewWriterSize(nc, 32<<10)}
}

func orDefault(d time.Duration) time.Duration {
	if d <= 0 {
		return DefaultTimeout
	}
	return d
}

// Next reads one response. io.EOF means that the server closed between two.
func (c *Conn) Next() (Response, error) { return c.NextWithin(orDefault(c.Timeout)) }

// NextWithin is Next with a timeout of its own; the error is then
// os.ErrDeadlineExceeded.
func (c *Conn) NextWithin(d time.Duration) (Response, error) {
	if err := c.SetReadDeadline(time.Now().Add(d)); err != nil {
		return Response{}, err
	}
	return c.r.next()
}

// Buffered is what has come but wasn't read yet, in bytes.
func (c *Conn) Buffered() int { return c.r.br.Buffered() }

// Send writes the lines, each ended by CRLF, in as few writes as it takes.
func (c *Conn) Send(lines ...string) error {
	for _, l := range lines {
		if _, err := c.w.WriteString(l + "\r\n"); err != nil {
			return err
		}
	}
	return c.flush()
}

// SendRaw writes s as it is.
func (c *Conn) SendRaw(s string) error {
	if _, err := c.w.WriteString(s); err != nil {
		return err
	}
	return c.flush()
}

// SendPayload writes a payload as it is.
func (c *Conn) SendPayload(p Payload) error {
	if err := c.SetWriteDeadline(time.Now().Add(orDefault(c.Timeout) * 3)); err != nil {
		return err
	}
	if _, err := io.Copy(c.w, p.Open()); err != nil {
		return err
	}
	return c.flush()
}

func (c *Conn) flush() error {
	if err := c.SetWriteDeadline(time.Now().Add(orDefault(c.Timeout))); err != nil {
		return err
	}
	return c.w.Flush()
}

// Command sends "tag line" and reads to its tagged response. What came before
// it is in untagged, continuations included.
func (c *Conn) Command(tag, line string) (untagged []Response, tagged Response, err error) {
	if err := c.Send(tag + " " + line); err != nil {
		return nil, Response{}, err
	}
	return c.Until(tag)
}

// Until reads to the response with this tag. Another tag on the way is an
// error, so don't use it with pipelined commands that may overtake.
func (c *Conn) Until(tag string) (before []Response, tagged Response, err error) {
	for {
		r, err := c.Next()
		if err != nil {
			return before, Response{}, fmt.Errorf("waiting for %s after %d responses: %w", tag, len(before), err)
		}
		switch r.Tag() {
		case tag:
			return before, r, nil
		case "*", "+":
			before = append(before, r)
		default:
			return before, Response{}, fmt.Errorf("waiting for %s: got %q", tag, r.Text)
		}
	}
}

// StartTLS sends STARTTLS (RFC 9051 §6.2.1) and does the handshake.
func (c *Conn) StartTLS(cfg *tls.Config) error {
	_, r, err := c.Command("starttls", "STARTTLS")
	if err != nil {
		return err
	}
	if r.Status() != "OK" {
		return fmt.Errorf("STARTTLS: %s", r.Text)
	}
	if n := c.Buffered(); n > 0 {
		return fmt.Errorf("STARTTLS: the server sent %d bytes in clear behind its OK", n)
	}
	return c.handshake(cfg)
}

func (c *Conn) handshake(cfg *tls.Config) error {
	tc := tls.Client(c.Conn, cfg)
	ctx, cancel := context.WithTimeout(context.Background(), orDefault(c.Timeout))
	defer cancel()
	if err := tc.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("TLS handshake: %w", err)
	}
	c.upgrade(tc)
	return nil
}

func (c *Conn) upgrade(nc net.Conn) {
	c.Conn = nc
	c.r.br.Reset(nc)
	c.w.Reset(nc)
}

// CloseWrite shuts our sending side (half-close).
func (c *Conn) CloseWrite() error {
	if h, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return errors.New("imaptest: this connection has no half-close")
}

// Reset closes with a TCP RST, dropping what's unsent.
func (c *Conn) Reset() error { return reset(c.Conn) }

func reset(nc net.Conn) error {
	for {
		over, ok := nc.(interface{ NetConn() net.Conn }) // a tls.Conn, or compressed
		if !ok {
			break
		}
		nc = over.NetConn()
	}
	if l, ok := nc.(interface{ SetLinger(int) error }); ok {
		if err := l.SetLinger(0); err != nil {
			return err
		}
	}
	return nc.Close()
}

// Quote is s as an IMAP quoted string (RFC 9051 §4.3).
func Quote(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}
