package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/session"
)

// commands are handlers for a polite backend.
type commands = map[string]imaptest.CommandFunc

// politeWith is a lab with one polite backend that answers some commands in its
// own way.
func politeWith(t testing.TB, cmds commands, o labOptions) *lab {
	t.Helper()
	d := polite()
	d.Commands = cmds
	o.handlers = []imaptest.Handler{d.Serve}
	return newLab(t, o)
}

// bigLiteral sends a FETCH response with a literal of n bytes in two halves, the
// second once the event "rest" has been fired.
func bigLiteral(n int) imaptest.CommandFunc {
	return func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		body := strings.Repeat("0123456789abcde\n", n/16)
		if err := c.SendRaw(fmt.Sprintf("* 1 FETCH (BODY[] {%d}\r\n%s", len(body), body[:len(body)/2])); err != nil {
			return err
		}
		c.Backend.Fire("half")
		if err := c.Stall("rest"); err != nil {
			return err
		}
		return c.Send(body[len(body)/2:]+")", cmd.Tag()+" OK fetched")
	}
}

func TestAnAnswerOfTheProxysOwnWaitsForTheEndOfAResponse(t *testing.T) {
	for _, listener := range []string{plain, implicit} {
		for _, size := range []int{1 << 10, 1 << 20} { // handed on by ourselves, and by splice
			t.Run(fmt.Sprint(listener, size), func(t *testing.T) {
				t.Parallel()
				l := politeWith(t, commands{"FETCH": bigLiteral(size)}, labOptions{})
				c := l.dial(listener)
				c.Login("alice", password)
				c.Write("a1 FETCH 1 BODY[]")
				begun := readBytes(t, c, size/2) // so the response has begun here
				c.Write("a2 COMPRESS DEFLATE", "a3 NOOP")
				l.logs.wait(t, "takes over.*COMPRESS")
				l.backends[0].Fire("rest")
				head := fmt.Sprintf("* 1 FETCH (BODY[] {%d}\r\n", size)
				whole := head + strings.Repeat("0123456789abcde\n", size/16) + ")\r\n"
				if got := begun + readBytes(t, c, len(whole)-len(begun)); got != whole {
					t.Fatal("something else than the response came")
				}
				got := map[string]bool{}
				for range 3 {
					r := c.Read()
					got[r.Tag()+" "+r.Status()] = true
				}
				if !got["a1 OK"] || !got["a2 BAD"] || !got["a3 OK"] {
					t.Fatal(got)
				}
			})
		}
	}
}

func TestARefusedLiteralIsNotReadAsOne(t *testing.T) {
	d := polite()
	d.Commands = commands{"APPEND": func(c *imaptest.BackendConn, cmd imaptest.Command) error { return nil }}
	refuse := func(c *imaptest.BackendConn) error {
		c.OnLiteral(func(int64) error { return errRefused })
		err := d.Serve(c)
		if !errors.Is(err, errRefused) {
			return err
		}
		c.OnLiteral(func(int64) error { return nil })
		if err := c.Send("a1 NO [TRYCREATE] no such mailbox"); err != nil {
			return err
		}
		// What is left of the line, then what the client says next.
		for _, want := range []string{"a3 NOOP", "a4 SELECT INBOX"} {
			cmd, err := c.Expect(want)
			if err != nil {
				return err
			}
			if err := c.Send(cmd.Tag() + " OK done"); err != nil {
				return err
			}
		}
		return c.DrainUntilEOF()
	}
	l := newLab(t, labOptions{handlers: []imaptest.Handler{refuse}})
	c := l.login("alice")
	c.Write("a1 APPEND nowhere {1000000}")
	c.Expect("a1 NO [TRYCREATE] no such mailbox")
	c.Write("a2 COMPRESS DEFLATE") // seen for what it is, not as literal
	c.Expect("a2 BAD")
	c.Write("a3 NOOP")
	c.Expect("a3 OK")
	c.Write("a4 SELECT INBOX")
	c.Expect("a4 OK")
	page, _ := l.srv.Sessions(session.Filter{})
	if len(page) != 1 || page[0].State != "selected" || page[0].InFlight != 0 {
		t.Fatalf("%+v", page)
	}
}

var errRefused = errors.New("no such mailbox")

func TestAPromptForIdleIsNotTakenForALiterals(t *testing.T) {
	// IDLE, DONE and an APPEND's announcement in one write: the first "+" is
	// IDLE's, and the literal is refused.
	b := func(c *imaptest.BackendConn) error {
		c.OnLiteral(func(int64) error { return errRefused })
		if err := polite().Serve(c); !errors.Is(err, errRefused) {
			return err
		}
		if err := c.Send("a2 NO [TRYCREATE] no"); err != nil {
			return err
		}
		if _, err := c.Expect("a4 NOOP"); err != nil {
			return err
		}
		return c.Send("a4 OK done")
	}
	l := newLab(t, labOptions{handlers: []imaptest.Handler{b}})
	c := l.login("alice")
	c.Write("a1 IDLE", "DONE", "a2 APPEND x {1000000}")
	c.Expect("+")
	c.Expect("a1 OK")
	c.Expect("a2 NO")
	c.Write("a3 COMPRESS DEFLATE")
	c.Expect("a3 BAD")
	c.Write("a4 NOOP")
	c.Expect("a4 OK")
}

// Cyrus doesn't see a DONE that it has read together with IDLE. Clients say it before the continuation request comes: some give up,
// and both have waited for a connection.
func TestDoneIsPassedOnOnceIdleIsAccepted(t *testing.T) {
	cyrus := func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		missed := c.Buffered() > 0
		if err := c.Send("+ idling"); err != nil {
			return err
		}
		if missed {
			return c.StallForever()
		}
		if _, err := c.Expect("DONE"); err != nil {
			return err
		}
		return c.Send(cmd.Tag() + " OK done")
	}
	l := politeWith(t, map[string]imaptest.CommandFunc{"IDLE": cyrus}, labOptions{})
	c := l.login("alice")
	c.Write("n NOOP", "i IDLE", "DONE", "j IDLE", "DONE", "o NOOP")
	for _, want := range []string{"n OK", "+", "i OK", "+", "j OK", "o OK"} {
		c.Expect(want)
	}
	c.MustOK("LOGOUT")
}

func TestMoreCommandsThanMayBeInFlightAreAllAnswered(t *testing.T) {
	const n = 5*mostInFlight + 7
	l := politeWith(t, nil, labOptions{})
	c := l.login("alice")
	var b strings.Builder
	for i := range n {
		if i == n/2 {
			b.WriteString("own COMPRESS DEFLATE\r\n")
		}
		fmt.Fprintf(&b, "t%d NOOP\r\n", i)
	}
	sent := make(chan error, 1)
	go func() { _, err := io.WriteString(c.Conn.Conn, b.String()); sent <- err }()
	next, own := 0, 0
	for next < n || own == 0 {
		switch r := c.Read(); {
		case r.Tag() == "own":
			own++
		case r.Text != fmt.Sprintf("t%d OK done", next):
			t.Fatalf("%s instead of t%d", r, next)
		default:
			next++
		}
	}
	must(t, <-sent)
	c.MustOK("LOGOUT")
}

// flow is a payload that both sides can check.
func TestLargeLiteralsBothWaysStayWhatTheyAre(t *testing.T) {
	const size = 6<<20 + 345
	mail := imaptest.GeneratedMessage(size, 3)
	for _, way := range []struct{ listener, backendTLS string }{{plain, ""}, {implicit, ""}, {plain, "starttls"}, {implicit, "implicit"}} {
		t.Run(way.listener+" to "+way.backendTLS, func(t *testing.T) {
			t.Parallel()
			cert := imaptest.NewCert(t)
			d := polite()
			d.TLS, d.Implicit = cert.Server, way.backendTLS == "implicit"
			if way.backendTLS == "starttls" {
				d.Caps = "IMAP4rev1 SASL-IR STARTTLS AUTH=PLAIN"
			}
			appended := make(chan imaptest.Command, 4)
			d.Commands = commands{
				"APPEND": func(c *imaptest.BackendConn, cmd imaptest.Command) error {
					appended <- cmd
					return c.Send(cmd.Tag() + " OK appended")
				},
				"FETCH": func(c *imaptest.BackendConn, cmd imaptest.Command) error {
					if err := c.Sendf("* 1 FETCH (BODY[] {%d}", mail.Size); err != nil {
						return err
					}
					if err := c.SendPayload(mail); err != nil {
						return err
					}
					return c.Send(")", cmd.Tag()+" OK fetched")
				},
			}
			l := newLab(t, labOptions{handlers: []imaptest.Handler{d.Serve}, change: func(o *Options) {
				o.BackendTLS, o.BackendServerName = way.backendTLS, "localhost"
				o.Dialer = dialerFor(t, cert)
			}})
			c := l.dial(way.listener)
			c.Login("alice", password)
			for range 2 {
				if a := c.Literal("APPEND INBOX ", mail, ""); !a.OK() {
					t.Fatal(a)
				}
				if cmd := <-appended; len(cmd.Literals) != 1 || cmd.Literals[0].SHA256 != mail.SHA256() {
					t.Fatal("the backend has got something else")
				}
				a := c.MustOK("FETCH 1 BODY[]")
				if len(a.Untagged) != 1 || len(a.Untagged[0].Literals) != 1 || a.Untagged[0].Literals[0].SHA256 != mail.SHA256() {
					t.Fatal("the client has got something else")
				}
				c.MustOK("NOOP")
			}
			page, _ := l.srv.Sessions(session.Filter{User: "alice"})
			if len(page) != 1 || page[0].BytesIn < 2*size || page[0].BytesOut < 2*size || page[0].Commands != 6 {
				t.Fatalf("%+v", page)
			}
		})
	}
}

// readBytes is the next n bytes as they come.
func readBytes(t *testing.T, c *imaptest.Client, n int) string {
	t.Helper()
	if c.Buffered() > 0 {
		t.Fatal("some were read already")
	}
	must(t, c.SetReadDeadline(time.Now().Add(imaptest.DefaultTimeout)))
	b := make([]byte, n)
	_, err := io.ReadFull(c.Conn.Conn, b)
	must(t, err)
	return string(b)
}

// readAll is every byte that comes until the end, and how it ended.
func readAll(t *testing.T, c *imaptest.Client) (string, error) {
	t.Helper()
	must(t, c.SetReadDeadline(time.Now().Add(imaptest.DefaultTimeout)))
	var buf bytes.Buffer
	_, err := io.Copy(&buf, c.Conn.Conn)
	return buf.String(), err
}

func TestABackendLostInsideAResponseEndsTheSessionWithoutAnotherByte(t *testing.T) {
	for name, sent := range map[string]string{
		"inside a literal":       "* 1 FETCH (BODY[] {1000}\r\nhalf a mail\r\n",
		"inside a spliced one":   "* 1 FETCH (BODY[] {1000000}\r\n" + strings.Repeat("half a mail\r\n", 1000),
		"behind a literal":       "* 1 FETCH (BODY[] {3}\r\nabc FLAGS",
		"inside a long line":     "* LIST () " + strings.Repeat("x", 300),
		"having said LOGOUT":     "",
		"the client half-closed": "",
	} {
		for _, listener := range []string{plain, implicit} {
			for _, how := range []imaptest.Fault{imaptest.FaultClose, imaptest.FaultReset} {
				if name == "the client half-closed" && listener == implicit {
					continue
				}
				t.Run(fmt.Sprint(name, listener, how), func(t *testing.T) {
					t.Parallel()
					text := sent
					if text == "" {
						text = "* 1 FETCH (BODY[] {1000}\r\nhalf a mail\r\n"
					}
					gone := make(chan struct{})
					l := politeWith(t, commands{"FETCH": func(c *imaptest.BackendConn, cmd imaptest.Command) error {
						if err := c.SendRaw(text); err != nil {
							return err
						}
						if name == "having said LOGOUT" {
							if _, err := c.Expect("a2 LOGOUT"); err != nil {
								return err
							}
						}
						<-gone
						return c.Do(how)
					}}, labOptions{})
					c := l.dial(listener)
					c.Login("alice", password)
					c.Write("a1 FETCH 1 BODY[]")
					if name == "having said LOGOUT" {
						c.Write("a2 LOGOUT")
					}
					if name == "the client half-closed" {
						must(t, c.CloseWrite())
					}
					must(t, c.SetReadDeadline(time.Now().Add(imaptest.DefaultTimeout)))
					got := make([]byte, len(text))
					_, err := io.ReadFull(c.Conn.Conn, got)
					must(t, err)
					begun := time.Now()
					close(gone)
					rest, err := readAll(t, c)
					if string(got) != text || rest != "" {
						t.Fatalf("got %.100q, then %.100q", got, rest)
					}
					var ne net.Error
					if errors.As(err, &ne) && ne.Timeout() || time.Since(begun) > lingering {
						t.Fatalf("the connection stayed open: %v", err)
					}
					l.ended(session.ReasonBackendLostInner)
				})
			}
		}
	}
}

func TestAClientThatGoesEndsTheBackendsConnection(t *testing.T) {
	for name, c := range map[string]struct {
		leave  func(*imaptest.Client) error
		reason session.Reason
	}{
		"closes": {func(c *imaptest.Client) error { return c.Conn.Close() }, session.ReasonClientClosed},
		"resets": {func(c *imaptest.Client) error { return c.Reset() }, session.ReasonClientLost},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := politeWith(t, nil, labOptions{})
			client := l.login("alice")
			must(t, c.leave(client))
			l.backends[0].WaitOpen(0)
			l.ended(c.reason)
		})
	}
}

func TestAClientThatResetsInsideALiteralIsTheOneThatIsLost(t *testing.T) {
	for _, size := range []int{10_000, 10_000_000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			t.Parallel()
			got := make(chan string, 1)
			l := newLab(t, labOptions{handlers: []imaptest.Handler{func(c *imaptest.BackendConn) error {
				c.OnLiteral(func(int64) error { got <- "asked"; return c.Send("+ go") })
				return ignore(polite().Serve(c))
			}}})
			c := l.login("alice")
			c.Write(fmt.Sprintf("a1 APPEND INBOX {%d}", size))
			c.Expect("+")
			<-got
			must(t, c.SendRaw(strings.Repeat("x", size/2)))
			must(t, c.Reset())
			l.backends[0].WaitOpen(0)
			l.ended(session.ReasonClientLost)
		})
	}
}

// ignore is for backends whose client is meant to go within a command.
func ignore(error) error { return nil }

func TestTheBackendsHalfCloseIsItsEnd(t *testing.T) {
	l := politeWith(t, commands{"NOOP": func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		if err := c.Send(cmd.Tag() + " OK done"); err != nil {
			return err
		}
		if err := c.Do(imaptest.FaultHalfClose); err != nil {
			return err
		}
		return c.DrainUntilEOF()
	}}, labOptions{})
	c := l.login("alice")
	c.MustOK("NOOP")
	c.Expect("* BYE [UNAVAILABLE] {*}")
	c.ExpectEOF()
	l.ended(session.ReasonBackendLost)
}
