package imaptest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"time"
)

// Strings are the arguments as the client meant them: atoms, quoted strings
// and literals; parentheses stand as they are. For LOGIN and the like.
func (c Command) Strings() []string {
	var out []string
	lits := c.Literals
	rest := c.Args
	for rest = strings.TrimLeft(rest, " "); rest != ""; rest = strings.TrimLeft(rest, " ") {
		switch {
		case rest[0] == '"':
			var b strings.Builder
			i := 1
			for ; i < len(rest) && rest[i] != '"'; i++ {
				if rest[i] == '\\' && i+1 < len(rest) {
					i++
				}
				b.WriteByte(rest[i])
			}
			out = append(out, b.String())
			rest = rest[min(i+1, len(rest)):]
		case rest[0] == '{' && len(lits) > 0:
			out = append(out, string(lits[0].Data))
			lits = lits[1:]
			rest = rest[strings.IndexByte(rest, '}')+1:]
		default:
			word, after, _ := strings.Cut(rest, " ")
			out = append(out, word)
			rest = after
		}
	}
	return out
}

func newBackendConn(b *Backend, nc net.Conn, index int) *BackendConn {
	c := &BackendConn{Conn: nc, Index: index, Backend: b, cut: -1}
	c.r = newReader(nc, false)
	c.r.onSync = func(int64) error { return c.Send("+ go ahead") }
	return c
}

// Context is done when the backend closes.
func (c *BackendConn) Context() context.Context { return c.Backend.ctx }

// Buffered is what has come but wasn't read yet, in bytes.
func (c *BackendConn) Buffered() int { return c.r.br.Buffered() }

// OnLiteral says what happens at a synchronising literal instead of "+ go
// ahead". An error from f ends the reading of the command.
func (c *BackendConn) OnLiteral(f func(size int64) error) { c.r.onSync = f }

// Read is the next bytes, as they come; mixing it with ReadCommand keeps the
// order.
func (c *BackendConn) Read(p []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(orDefault(c.Timeout))); err != nil {
		return 0, err
	}
	return c.r.br.Read(p)
}

// ReadCommand reads one command or continuation line. Literals are asked for
// with "+ go ahead". io.EOF means that the client closed between commands.
func (c *BackendConn) ReadCommand() (Command, error) {
	if err := c.SetReadDeadline(time.Now().Add(orDefault(c.Timeout))); err != nil {
		return Command{}, err
	}
	u, err := c.r.next()
	if err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			err = fmt.Errorf("the client closed within a command (%.80q): %w", u.Text, err)
		}
		return Command{Response: u, Conn: c.Index}, err
	}
	cmd := parseCommand(u)
	cmd.Conn = c.Index
	c.Backend.mu.Lock()
	c.Backend.commands = append(c.Backend.commands, cmd)
	c.Backend.changedLocked()
	c.Backend.mu.Unlock()
	return cmd, nil
}

// Expect reads a command and matches it with a pattern, which is the whole
// line: "{w} LOGIN alice {w}".
func (c *BackendConn) Expect(pattern string) (Command, error) {
	cmd, err := c.ReadCommand()
	if err != nil {
		return cmd, fmt.Errorf("want %s: %w", pattern, err)
	}
	ok, err := Match(pattern, cmd.Response)
	if err == nil && !ok {
		err = fmt.Errorf("the client's command:\n got  %s\n want %s", cmd, pattern)
	}
	return cmd, err
}

// ExpectEOF fails unless the client closes its sending side now.
func (c *BackendConn) ExpectEOF() error {
	cmd, err := c.ReadCommand()
	switch {
	case err == nil:
		return fmt.Errorf("want the client to close, got %s", cmd)
	case isGone(err):
		return nil
	}
	return err
}

// Send writes the lines, each ended by CRLF, in one write (but see
// SplitWrites).
func (c *BackendConn) Send(lines ...string) error {
	return c.SendRaw(strings.Join(lines, "\r\n") + "\r\n")
}

// Sendf is Send of one formatted line.
func (c *BackendConn) Sendf(format string, args ...any) error {
	return c.Send(fmt.Sprintf(format, args...))
}

// SendRaw writes s as it is.
func (c *BackendConn) SendRaw(s string) error {
	_, err := c.Write([]byte(s))
	return err
}

// SendPayload writes a payload as it is.
func (c *BackendConn) SendPayload(p Payload) error {
	_, err := io.Copy(writerOnly{c}, p.Open())
	return err
}

// writerOnly hides net.TCPConn's ReadFrom, which would bypass Write's faults.
type writerOnly struct{ io.Writer }

// Write is net.Conn's, with the faults that were asked for. It gives up after
// the connection's timeout.
func (c *BackendConn) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(orDefault(c.Timeout))); err != nil {
		return 0, err
	}
	written := 0
	for written < len(p) {
		part := p[written:]
		if c.split > 0 && len(part) > c.split {
			part = part[:c.split]
		}
		if c.cut >= 0 && int64(len(part)) >= c.cut {
			part = part[:c.cut]
			n, err := c.Conn.Write(part)
			if err == nil {
				err = errors.Join(c.cutWith(), errCut)
			}
			return written + n, err
		}
		n, err := c.Conn.Write(part)
		written += n
		if c.cut > 0 {
			c.cut -= int64(n)
		}
		if err != nil {
			return written, err
		}
	}
	return written, nil
}

// StartTLS does the server's handshake; send the tagged OK before.
func (c *BackendConn) StartTLS(cfg *tls.Config) error {
	if n := c.r.br.Buffered(); n > 0 {
		return fmt.Errorf("the client sent %d bytes in clear behind its STARTTLS", n)
	}
	tc := tls.Server(c.Conn, cfg)
	ctx, cancel := context.WithTimeout(c.Context(), orDefault(c.Timeout))
	defer cancel()
	if err := tc.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("TLS handshake: %w", err)
	}
	c.Backend.mu.Lock() // Close closes c.Conn
	c.Conn = tc
	c.Backend.mu.Unlock()
	c.r.br.Reset(tc)
	return nil
}

// SplitWrites makes every write from now on go out in pieces of n bytes, a
// write each; 0 ends it.
func (c *BackendConn) SplitWrites(n int) { c.split = n }

// CutAfter breaks the connection once n more bytes were written, in the middle
// of whatever is being written: with a RST, or with a plain close.
func (c *BackendConn) CutAfter(n int64, how Fault) {
	c.cut = n
	c.cutWith = func() error { return c.Do(how) }
}

// A Fault is a way of ending a connection.
type Fault int

// The ways of ending a connection.
const (
	FaultClose     Fault = iota // FIN both ways
	FaultReset                  // RST
	FaultHalfClose              // FIN of our side; we still read
)

// Do ends the connection.
func (c *BackendConn) Do(f Fault) error {
	switch f {
	case FaultReset:
		return reset(c.Conn)
	case FaultHalfClose:
		if h, ok := c.Conn.(interface{ CloseWrite() error }); ok {
			return h.CloseWrite()
		}
		return errors.New("imaptest: this connection has no half-close")
	}
	return c.Conn.Close()
}

// Stall does nothing until the event was fired, or the backend closes.
func (c *BackendConn) Stall(until string) error {
	err := c.Backend.Wait(until)
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// StallForever does nothing, and reads nothing, until the backend closes.
func (c *BackendConn) StallForever() error {
	<-c.Context().Done()
	return nil
}

// Garbage sends n pseudo-random bytes, the same for the same seed; there's no
// CR and no LF in them.
func (c *BackendConn) Garbage(n int, seed uint64) error {
	rng := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, n)
	for i := range b {
		if b[i] = byte(rng.Uint32()); b[i] == '\r' || b[i] == '\n' {
			b[i] = 'x'
		}
	}
	return c.SendRaw(string(b))
}

// DrainUntilEOF reads and drops all the client sends until it closes.
func (c *BackendConn) DrainUntilEOF() error {
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, c.r.br)
	return err
}
