package proxy

import (
	"strings"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/session"
	"imapproxy/proxy/upstream"
)

// newUIDOnly is a scripted backend that knows UIDONLY (RFC 9586), and a list of what it was asked to mark.
func newUIDOnly(t *testing.T, n uint32, change ...func(*Options)) (p *scripted, marked func() string) {
	t.Helper()
	p = newScripted(t, scriptedCaps+" UIDONLY", n, change...)
	var all []string
	refuse := func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		return c.Send(cmd.Tag() + " BAD [UIDREQUIRED] no message numbers")
	}
	for _, name := range []string{"FETCH", "STORE", "SEARCH", "COPY"} {
		p.on(name, refuse)
	}
	for _, name := range []string{"UID STORE", "UID COPY"} {
		p.on(name, func(c *imaptest.BackendConn, cmd imaptest.Command) error {
			p.mu.Lock()
			all = append(all, cmd.Name+" "+cmd.Args)
			p.mu.Unlock()
			return c.Send(cmd.Tag() + " OK done")
		})
	}
	return p, func() string {
		p.mu.Lock()
		defer p.mu.Unlock()
		return strings.Join(all, "|")
	}
}

// A client that has enabled UIDONLY is parked, and told by UID of what has changed: in IDLE, and before the
// command that resumes it, whichever that is. The connection that it comes back on has UIDONLY enabled.
func TestAClientOfUIDOnlyIsParked(t *testing.T) {
	p, _ := newUIDOnly(t, 4, func(o *Options) { o.Park.Pool = upstream.NewPool(upstream.PoolOptions{}) }) // keeps none warm
	c := p.idle("ENABLE UIDONLY", "SELECT INBOX")
	p.expunge(1)
	p.deliver()
	p.flag(3)
	p.hint()
	for _, want := range []string{"* VANISHED 1", "* 4 EXISTS", `* 3 UIDFETCH (FLAGS (\Flagged))`} {
		c.Expect(want)
	}
	done(c)
	for i, say := range []string{"FETCH 1 (UID)", "UID FETCH 3 (UID)", "STATUS Other (MESSAGES)", "UID STORE 3 +FLAGS (a)"} {
		p.expunge(uint32(2 + i))
		p.deliver()
		c.Write("s " + say)
		c.Expect("* VANISHED " + string(rune('2'+i)))
		c.Expect("* 4 EXISTS")
		for r := c.Read(); r.Tag() != "s"; r = c.Read() {
			if r.Word(2) == "EXPUNGE" || r.Word(1) == "VANISHED" {
				t.Errorf("%s: told %s", say, r)
			}
		}
		p.idles(c)
		done(c)
	}
	if n := len(p.said("ENABLE")); n < 5 {
		t.Errorf("enabled %d times, not on each connection: %q", n, p.said("ENABLE"))
	}
}

// With mod-sequences it is told those of flags, too.
func TestAClientOfUIDOnlyAndQResyncIsParked(t *testing.T) {
	p, _ := newUIDOnly(t, 3)
	c := p.idle("ENABLE QRESYNC UIDONLY", "SELECT INBOX")
	p.expunge(2)
	p.flag(3)
	p.hint()
	c.Expect("* VANISHED 2")
	c.Expect(`* 3 UIDFETCH (FLAGS (\Flagged) MODSEQ (12))`)
	done(c)
}

// What comes together was written before the client could read of a new message: "*" is the last that it knew.
func TestCommandsThatComeTogetherByUIDMeanTheLastOfBefore(t *testing.T) {
	for name, c := range map[string]struct {
		idle   bool
		say    string
		hear   []string
		marked string
	}{
		"one": {false, "x UID STORE * +FLAGS (a)\r\n", []string{"* VANISHED 2", "* 4 EXISTS", "x OK done"}, "UID STORE 4 +FLAGS (a)"},
		"two": {false, "x UID STORE * +FLAGS (a)\r\ny UID COPY 1:* Other\r\n",
			[]string{"* VANISHED 2", "* 4 EXISTS", "x OK done", "y OK done"}, "UID STORE 4 +FLAGS (a)|UID COPY 1:4 Other"},
		"with DONE": {true, "DONE\r\nx UID STORE * +FLAGS (a)\r\ny UID STORE * +FLAGS (b)\r\n",
			[]string{"i OK {*}", "* VANISHED 2", "* 4 EXISTS", "x OK done", "y OK done"}, "UID STORE 4 +FLAGS (a)|UID STORE 4 +FLAGS (b)"},
		"behind one by number": {false, "x FETCH 1 (UID)\r\ny UID STORE * +FLAGS (b)\r\n",
			[]string{"* VANISHED 2", "* 4 EXISTS", "x BAD [UIDREQUIRED]{*}", "y OK done"}, "UID STORE 4 +FLAGS (b)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, marked := newUIDOnly(t, 4)
			client := p.idle("ENABLE UIDONLY", "SELECT INBOX")
			if !c.idle {
				done(client)
			}
			p.expunge(2)
			p.deliver()
			must(t, client.SendRaw(c.say))
			for _, want := range c.hear {
				client.Expect(want)
			}
			if got := marked(); got != c.marked {
				t.Errorf("the backend was asked for %q, not %q", got, c.marked)
			}
			p.expunge(3) // it goes on with what its backend tells, and is parked again
			p.on("NOOP", func(c *imaptest.BackendConn, cmd imaptest.Command) error {
				return c.Send("* VANISHED 3", `* 4 UIDFETCH (FLAGS (\Seen))`, cmd.Tag()+" OK done")
			})
			client.Write("n NOOP")
			client.Expect("* VANISHED 3")
			client.Expect(`* 4 UIDFETCH (FLAGS (\Seen))`)
			client.Expect("n OK done")
			p.on("NOOP", nil)
			p.idles(client)
			p.expunge(4)
			p.hint()
			client.Expect("* VANISHED 4")
		})
	}
}

// A session of UIDONLY that comes back though its client says nothing hears of VANISHED with its next command.
func TestWhoIsWokenHearsOfVanishedWithItsNextCommand(t *testing.T) {
	p, marked := newUIDOnly(t, 4)
	c := p.idle("ENABLE UIDONLY", "SELECT INBOX")
	done(c)
	p.expunge(2)
	p.deliver()
	off := p.opts
	off.Park = session.ParkOptions{Linger: time.Nanosecond}
	must(t, p.srv.Reload(off))
	p.attached()
	c.Write("s UID STORE 1:* +FLAGS (a)")
	for _, want := range []string{"* VANISHED 2", "* 4 EXISTS", "s OK done"} {
		c.Expect(want)
	}
	if got := marked(); got != "UID STORE 1:4 +FLAGS (a)" {
		t.Errorf("the backend was asked for %q", got)
	}
}

// Parked while it is quiet, the client is told of nothing before its next command: that may be a SELECT.
func TestAQuietClientOfUIDOnlyIsParked(t *testing.T) {
	p, _ := newUIDOnly(t, 4, func(o *Options) { o.Park.QuietAfter = time.Nanosecond })
	c := p.login("alice")
	c.MustOK("ENABLE UIDONLY")
	c.MustOK("SELECT INBOX")
	c.Write("f FETCH 1 (UID)") // leaves nothing behind
	c.Expect("f BAD [UIDREQUIRED]{*}")
	told := false
	p.on("NOOP", func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		if told {
			return c.Send(cmd.Tag() + " OK done")
		}
		told = true
		p.expunge(2)
		p.deliver()
		p.flag(3)
		return c.Send("* VANISHED 2", "* 4 EXISTS", `* 5 UIDFETCH (FLAGS (\Recent))`, `* 3 UIDFETCH (FLAGS (\Flagged))`, cmd.Tag()+" OK done")
	})
	p.parked()
	c.Write("s UID FETCH 3 (UID)")
	c.Expect("* VANISHED 2")
	c.Expect("* 4 EXISTS")
	c.Expect(`* 3 UIDFETCH (FLAGS (\Flagged))`)
	c.Expect("* 1 FETCH{*}") // the scripted backend's own, which knows no UIDFETCH
}
