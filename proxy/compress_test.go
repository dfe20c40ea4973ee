package proxy

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/session"
)

// compresses offers compression on all listeners.
func compresses(o *Options) {
	for i := range o.Listeners {
		o.Listeners[i].Compress, o.Listeners[i].CompressHistory = true, 8192
	}
}

func TestCompressIsAnswered(t *testing.T) {
	l := newLab(t, labOptions{change: compresses})
	for _, listener := range []string{plain, implicit} {
		c := l.dial(listener)
		if strings.Contains(c.Greeting.Text, "COMPRESS") {
			t.Errorf("offered before login: %s", c.Greeting)
		}
		if a := c.Cmd("COMPRESS DEFLATE"); a.Tagged.Status() != "BAD" {
			t.Errorf("before login: %s", a)
		}
		if a := c.Login("alice", password); !strings.Contains(a.Tagged.Text, " COMPRESS=DEFLATE]") {
			t.Errorf("not offered after login: %s", a)
		}
		for line, want := range map[string]string{
			"COMPRESS":              "BAD",
			"COMPRESS GZIP":         "NO Unknown",
			"COMPRESS DEFLATE GZIP": "BAD",
			`COMPRESS "DEFLATE"`:    "BAD",
			"COMPRESS (DEFLATE)":    "BAD",
			"COMPRESS {7}":          "BAD", // without "+", so no literal follows
		} {
			if a := c.Cmd("%s", line); !strings.HasPrefix(a.Tagged.Text, a.Tagged.Tag()+" "+want) || len(a.Untagged) != 0 {
				t.Errorf("%s: %s", line, a)
			}
		}
		if a := c.MustOK("CAPABILITY"); !strings.Contains(a.Untagged[0].Text, " COMPRESS=DEFLATE") {
			t.Errorf("not offered: %s", a)
		}
		must(t, c.Compress())
		if a := c.MustOK("CAPABILITY"); strings.Contains(a.Untagged[0].Text, "COMPRESS") {
			t.Errorf("offered a second time: %s", a)
		}
		if a := c.Cmd("COMPRESS DEFLATE"); !strings.Contains(a.Tagged.Text, " NO [COMPRESSIONACTIVE] ") {
			t.Errorf("a second time: %s", a)
		}
		c.Write("x1 NOOP", "x2 NOOP", "x3 LOGOUT") // in one flush
		c.Expect("x1 OK {*}")
		c.Expect("x2 OK {*}")
		c.Expect("* BYE {*}")
		c.Expect("x3 OK {*}")
		c.ExpectEOF()
	}
}

// TestNothingMayFollowCompress has bytes behind the command in the same packet: which of them are compressed can't be told, so it is refused.
func TestNothingMayFollowCompress(t *testing.T) {
	l := newLab(t, labOptions{change: compresses})
	for _, listener := range []string{plain, implicit} {
		c := l.dial(listener)
		c.Login("alice", password)
		must(t, c.SendRaw("a COMPRESS DEFLATE\r\nb NOOP\r\n"))
		for range 2 {
			if r := c.Read(); r.Tag() == "a" && r.Status() != "BAD" || r.Tag() == "b" && r.Status() != "OK" {
				t.Error(r)
			}
		}
		must(t, c.Compress())
		c.MustOK("NOOP")
	}
}

// TestCompressWithinIdleIsNotADone has the backend answer, as to each line that isn't DONE.
func TestCompressWithinIdleIsNotADone(t *testing.T) {
	p := newScripted(t, scriptedCaps, 3, compresses)
	c := p.login("alice")
	c.MustOK("SELECT INBOX")
	c.Write("i IDLE")
	c.Expect("+{*}")
	c.Write("a COMPRESS DEFLATE")
	c.Expect("i {*}")
	if !compressed {
		must(t, c.Compress())
	}
	c.MustOK("NOOP")
}

func TestWithoutTheSettingNothingIsCompressed(t *testing.T) {
	l := newLab(t, labOptions{change: func(o *Options) {
		compresses(o)
		o.Listeners[0].Compress = false
	}})
	if compressed {
		t.Skip("all listeners compress")
	}
	c := l.dial(plain)
	if a := c.Login("alice", password); strings.Contains(a.Tagged.Text, "COMPRESS") {
		t.Error(a)
	}
	if a := c.Cmd("COMPRESS DEFLATE"); a.Tagged.Status() != "BAD" {
		t.Error(a)
	}
	c.MustOK("NOOP")
}

// TestWhatCannotBeInflatedEndsTheSession has a client that goes on in the clear.
func TestWhatCannotBeInflatedEndsTheSession(t *testing.T) {
	for name, parked := range map[string]bool{"attached": false, "parked": true} {
		t.Run(name, func(t *testing.T) {
			p := newScripted(t, scriptedCaps, 3, compresses)
			c := p.dial(plain)
			c.Login("alice", password)
			raw := c.Conn.Conn
			must(t, c.Compress())
			c.MustOK("SELECT INBOX")
			if parked {
				c.Write("i IDLE")
				c.Expect("+{*}")
				p.parked()
			}
			_, err := raw.Write([]byte("\xff\xff\xff\xff NOOP\r\n"))
			must(t, err)
			if r := c.Expect("* BYE {*}"); parked && !strings.Contains(r.Text, "BYE") {
				t.Error(r)
			}
			c.ExpectEOF()
			p.ended(session.ReasonClientProtocol)
		})
	}
}

// TestABombIsReadAsFastAsItIsAnswered has a literal arrive that is a thousand times as large as what was sent for it.
func TestABombIsReadAsFastAsItIsAnswered(t *testing.T) {
	const size = 8 << 20
	got := make(chan int64, 1)
	backend := polite()
	backend.Commands = map[string]imaptest.CommandFunc{"APPEND": func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		n := int64(0)
		for _, l := range cmd.Literals {
			n += l.Size
		}
		got <- n
		return c.Send(cmd.Tag() + " OK done")
	}}
	l := newLab(t, labOptions{handlers: []imaptest.Handler{backend.Serve}, change: compresses})
	c := l.dial(plain)
	c.Login("alice", password)
	must(t, c.Compress())
	must(t, c.SendRaw(fmt.Sprintf("a APPEND INBOX {%d+}\r\n", size)))
	zeros := strings.Repeat("a", 1<<20)
	for range size >> 20 {
		must(t, c.SendRaw(zeros))
	}
	must(t, c.SendRaw("\r\n"))
	c.Expect("a OK {*}")
	if n := <-got; n != size {
		t.Errorf("the backend got %d", n)
	}
}

func TestAParkedClientIsToldCompressed(t *testing.T) {
	p := newScripted(t, scriptedCaps, 3, compresses)
	c := p.dial(plain)
	c.Login("alice", password)
	must(t, c.Compress())
	c.MustOK("SELECT INBOX")
	for range 3 {
		c.Write("i IDLE")
		c.Expect("+{*}")
		p.parked()
		p.deliver()
		p.hint()
		c.Expect("* {n} EXISTS")
		c.Write("DONE")
		c.Expect("i OK {*}")
		c.MustOK("UID FETCH 1:* (UID)") // resumes it
	}
	c.Write("i IDLE")
	c.Expect("+{*}")
	p.parked()
	c.Write("DONE", "n NOOP", "l LOGOUT")
	c.Expect("i OK {*}")
	c.Expect("n OK {*}")
	c.Expect("* BYE {*}")
	c.Expect("l OK {*}")
	c.ExpectEOF()
}

func TestACompressedSessionOutlivesItsBackendConnection(t *testing.T) {
	p := newScripted(t, scriptedCaps, 3, compresses)
	c := p.dial(plain)
	c.Login("alice", password)
	must(t, c.Compress())
	c.MustOK("SELECT INBOX")
	p.lose()
	if a := c.MustOK("UID FETCH 1:* (UID)"); len(a.Untagged) != 3 {
		t.Error(a)
	}
	p.lose()
	p.recovered()
	c.MustOK("NOOP")
}

// TestCompressGoesToTheRelay has a session in each state in which the relay doesn't run when COMPRESS comes.
func TestCompressGoesToTheRelay(t *testing.T) {
	if compressed {
		t.Skip("it is compressed from the beginning")
	}
	for name, before := range map[string]func(l *parkLab, w *imaptest.ModelWatcher, d *imaptest.ModelWriter){
		"parked": func(l *parkLab, w *imaptest.ModelWatcher, _ *imaptest.ModelWriter) { l.parked(w) },
		"parked, with EXPUNGE due": func(l *parkLab, w *imaptest.ModelWatcher, d *imaptest.ModelWriter) {
			l.parked(w)
			d.Expunge(2)
		},
		"catching up": func(l *parkLab, w *imaptest.ModelWatcher, d *imaptest.ModelWriter) {
			l.parked(w)
			d.Expunge(2)
			w.Say("FETCH 4 (FLAGS)")
			if at := l.of(w).Attachment(); at != session.CatchingUp {
				t.Errorf("it is %s", at)
			}
		},
		"its backend connection is lost": func(l *parkLab, w *imaptest.ModelWatcher, _ *imaptest.ModelWriter) { l.Tap.CutAll() },
	} {
		t.Run(name, func(t *testing.T) {
			l := newParkLab(t, session.ParkOptions{QuietAfter: time.Nanosecond}, compresses)
			user, d := l.user(5)
			w := l.watch(user, d.Truth)
			before(l, w, d)
			w.Say("COMPRESS DEFLATE")
			must(t, w.BeginCompression())
			w.Say("FETCH 1:* (UID FLAGS)")
			w.BeginIdle()
			l.parked(w)
			d.Append(1)
			w.Told("EXISTS", 1)
			w.EndIdle()
			w.Say("UID FETCH 1:* (FLAGS)")
		})
	}
}

// TestALargeLiteralIsCompressed is of a size that is spliced between connections in the clear.
func TestALargeLiteralIsCompressed(t *testing.T) {
	body := strings.Repeat("All work and no play makes Jack a dull boy.\r\n", 1<<15)
	backend := polite()
	backend.Commands = map[string]imaptest.CommandFunc{"FETCH": func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		return c.SendRaw(fmt.Sprintf("* 1 FETCH (BODY[] {%d}\r\n%s)\r\n%s OK done\r\n", len(body), body, cmd.Tag()))
	}}
	l := newLab(t, labOptions{handlers: []imaptest.Handler{backend.Serve}, change: compresses})
	c := l.dial(plain)
	c.Login("alice", password)
	counted := &counting{Conn: c.Conn.Conn}
	c.Conn.Conn = counted
	must(t, c.Compress())
	for range 2 {
		a := c.MustOK("FETCH 1 BODY[]")
		if len(a.Untagged) != 1 || !strings.Contains(a.Untagged[0].Text, "FETCH") {
			t.Error(a)
		}
	}
	if counted.n > int64(len(body))/4 {
		t.Errorf("%d octets were sent for 2 × %d", counted.n, len(body))
	}
}

type counting struct {
	net.Conn
	n int64
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.n += int64(n)
	return n, err
}
