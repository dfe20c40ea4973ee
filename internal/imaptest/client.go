package imaptest

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"
)

// A Client is a Conn for tests: whatever fails ends the test with a message.
// Use it on the test's goroutine only; others use Client.Conn.
type Client struct {
	*Conn
	Greeting Response

	t    testing.TB
	tags int
}

// Dial connects in clear, reads the greeting and closes at the test's end.
func Dial(t testing.TB, addr string) *Client {
	t.Helper()
	return DialWith(t, addr, DialOptions{})
}

// DialTLS is Dial with implicit TLS.
func DialTLS(t testing.TB, addr string, cfg *tls.Config) *Client {
	t.Helper()
	return DialWith(t, addr, DialOptions{TLS: cfg})
}

// DialStartTLS is Dial, STARTTLS and the handshake.
func DialStartTLS(t testing.TB, addr string, cfg *tls.Config) *Client {
	t.Helper()
	c := Dial(t, addr)
	if err := c.Conn.StartTLS(cfg); err != nil {
		t.Fatalf("STARTTLS at %s: %v", addr, err)
	}
	return c
}

// DialWith is Dial with options.
func DialWith(t testing.TB, addr string, o DialOptions) *Client {
	t.Helper()
	nc, err := DialConn(context.Background(), addr, o)
	if err != nil {
		t.Fatalf("dial %s: %v", addr, err)
	}
	c := &Client{Conn: nc, t: t}
	t.Cleanup(func() { _ = c.Conn.Close() }) // closed by the test already, perhaps
	c.Greeting = c.Read()
	return c
}

// Read is the next response.
func (c *Client) Read() Response {
	c.t.Helper()
	r, err := c.Next()
	if err != nil {
		c.t.Fatalf("reading from the server: %v (so far %q)", err, r.Text)
	}
	return r
}

// Expect reads the next response and matches it with a pattern (see the
// package's comment).
func (c *Client) Expect(pattern string) Response {
	c.t.Helper()
	r := c.Read()
	ok, err := Match(pattern, r)
	if err != nil {
		c.t.Fatal(err)
	}
	if !ok {
		c.t.Fatalf("the server's answer:\n got  %s\n want %s", r, pattern)
	}
	return r
}

// ExpectEOF fails unless the server closes now; untagged responses may come
// before, and are returned. Then it closes the client's side, for which the proxy would wait.
func (c *Client) ExpectEOF() []Response {
	c.t.Helper()
	var before []Response
	for {
		r, err := c.Next()
		switch {
		case err == nil && r.Tag() == "*":
			before = append(before, r)
		case err == nil:
			c.t.Fatalf("want the end of the connection, got %s", r)
		case errors.Is(err, os.ErrDeadlineExceeded):
			c.t.Fatalf("the server kept the connection open (so far %q)", r.Text)
		default:
			if errors.Is(err, io.ErrUnexpectedEOF) {
				c.t.Fatalf("the server closed within a response: %q", r.Text)
			}
			_ = c.Conn.Close()
			return before
		}
	}
}

// Write sends the lines, each ended by CRLF, in one write.
func (c *Client) Write(lines ...string) {
	c.t.Helper()
	if err := c.Send(lines...); err != nil {
		c.t.Fatalf("sending %.60q: %v", lines, err)
	}
}

// Answer is what a command was answered.
type Answer struct {
	Untagged []Response // in order, continuations included
	Tagged   Response
}

// OK says whether the tagged response is OK.
func (a Answer) OK() bool { return a.Tagged.Status() == "OK" }

// Find is the first untagged response whose second or third word is name:
// Find("EXISTS"), Find("CAPABILITY").
func (a Answer) Find(name string) (Response, bool) {
	for _, r := range a.Untagged {
		if r.Word(1) == name || r.Word(2) == name {
			return r, true
		}
	}
	return Response{}, false
}

// String is the answer as a transcript shows it.
func (a Answer) String() string {
	var b strings.Builder
	for _, r := range a.Untagged {
		fmt.Fprintf(&b, "S: %s\n", r)
	}
	return b.String() + "S: " + a.Tagged.String()
}

// Cmd sends a command under a fresh tag and reads its answer.
func (c *Client) Cmd(format string, args ...any) Answer {
	c.t.Helper()
	c.tags++
	return c.CmdTag(fmt.Sprintf("t%d", c.tags), fmt.Sprintf(format, args...))
}

// CmdTag is Cmd under a tag of the caller's.
func (c *Client) CmdTag(tag, line string) Answer {
	c.t.Helper()
	untagged, tagged, err := c.Command(tag, line)
	if err != nil {
		c.t.Fatalf("%s %.80q: %v", tag, line, err)
	}
	return Answer{Untagged: untagged, Tagged: tagged}
}

// MustOK is Cmd that fails the test unless the answer is OK.
func (c *Client) MustOK(format string, args ...any) Answer {
	c.t.Helper()
	a := c.Cmd(format, args...)
	if !a.OK() {
		c.t.Fatalf("%s: %s", fmt.Sprintf(format, args...), a.Tagged)
	}
	return a
}

// Login is LOGIN with quoted strings; it fails the test when refused.
func (c *Client) Login(user, password string) Answer {
	c.t.Helper()
	a := c.TryLogin(user, password)
	if !a.OK() {
		c.t.Fatalf("login of %s: %s", user, a.Tagged)
	}
	return a
}

// TryLogin is Login that also returns a refusal.
func (c *Client) TryLogin(user, password string) Answer {
	c.t.Helper()
	return c.Cmd("LOGIN %s %s", Quote(user), Quote(password))
}

// Plain is AUTHENTICATE PLAIN with an initial response (RFC 4959).
func (c *Client) Plain(authzid, user, password string) Answer {
	c.t.Helper()
	return c.Cmd("AUTHENTICATE PLAIN %s", PlainInitial(authzid, user, password))
}

// PlainInitial is SASL PLAIN's one message in base64 (RFC 4616).
func PlainInitial(authzid, user, password string) string {
	return base64.StdEncoding.EncodeToString([]byte(authzid + "\x00" + user + "\x00" + password))
}

// Literal sends "tag before{n}", waits for the server's "+", sends the payload
// and after, and reads the answer.
func (c *Client) Literal(before string, p Payload, after string) Answer {
	c.t.Helper()
	c.tags++
	tag := fmt.Sprintf("t%d", c.tags)
	c.Write(fmt.Sprintf("%s %s{%d}", tag, before, p.Size))
	var untagged []Response
	for {
		r := c.Read()
		if r.Tag() == tag {
			return Answer{Untagged: untagged, Tagged: r}
		}
		if r.Tag() == "+" {
			break
		}
		untagged = append(untagged, r)
	}
	if err := c.SendPayload(p); err != nil {
		c.t.Fatalf("sending a literal of %d bytes: %v", p.Size, err)
	}
	c.Write(after)
	more, tagged, err := c.Until(tag)
	if err != nil {
		c.t.Fatal(err)
	}
	return Answer{Untagged: append(untagged, more...), Tagged: tagged}
}

// Idle begins IDLE (RFC 2177) and returns once the server said "+"; done sends
// DONE and returns what came since then.
func (c *Client) Idle() (done func() Answer) {
	c.t.Helper()
	c.tags++
	tag := fmt.Sprintf("t%d", c.tags)
	c.Write(tag + " IDLE")
	var early []Response
	for r := c.Read(); r.Tag() != "+"; r = c.Read() {
		if r.Tag() == tag {
			c.t.Fatalf("IDLE: %s", r)
		}
		early = append(early, r)
	}
	return func() Answer {
		c.t.Helper()
		c.Write("DONE")
		untagged, tagged, err := c.Until(tag)
		if err != nil {
			c.t.Fatal(err)
		}
		return Answer{Untagged: append(early, untagged...), Tagged: tagged}
	}
}

// Quiet fails when anything arrives within d.
func (c *Client) Quiet(d time.Duration) {
	c.t.Helper()
	r, err := c.NextWithin(d)
	if err == nil {
		c.t.Fatalf("want silence, got %s", r)
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Fatalf("want silence on an open connection, got %v", err)
	}
}
