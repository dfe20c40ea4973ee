package proxy

import (
	"strings"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/session"
)

// attached waits until the one session has its connection again.
func (p *scripted) attached() {
	p.t.Helper()
	eventually(p.t, "a session with its connection", func() bool {
		p.srv.Sweep()
		at := p.srv.Status().Attachments
		return at[session.Attached.String()]+at[session.CatchingUp.String()] == 1
	})
}

// A session that comes back though its client says nothing has no command in
// progress: what it says next by number means what it counts.
func TestWhoIsWokenHearsOfNoExpungeUntilItAsks(t *testing.T) {
	for _, half := range []string{"", "s ST"} {
		p := newScripted(t, scriptedCaps, 4)
		c := p.idle("SELECT INBOX")
		done(c)
		must(t, c.Conn.SendRaw(half))
		p.expunge(2)
		p.deliver()
		p.on("STORE", func(c *imaptest.BackendConn, cmd imaptest.Command) error {
			if cmd.Args != `2 +FLAGS (\Seen)` {
				t.Errorf("it stores %s", cmd.Args)
			}
			return c.Send(`* 2 FETCH (FLAGS (\Seen))`, cmd.Tag()+" OK done")
		})
		off := p.opts
		off.Park = session.ParkOptions{Linger: time.Nanosecond}
		must(t, p.srv.Reload(off))
		p.attached()
		must(t, c.Conn.SendRaw(`s STORE 3 +FLAGS (\Seen)`[len(half):]+"\r\n"))
		c.Expect("* 5 EXISTS")
		c.Expect(`* 3 FETCH (FLAGS (\Seen))`)
		c.Expect("s OK done")
		c.Write("n NOOP")
		c.Expect("* 2 EXPUNGE")
		c.Expect("n OK done")
		c.Close()
		p.stop()
	}
}

// Nor does it hear of new messages: "*" on its way means the last one that it counts.
func TestWhoIsWokenMarksNothingThatItHasNotHeardOf(t *testing.T) {
	for verb, last := range map[string]string{"STORE": "4", "UID STORE": "4", "UID EXPUNGE": "4"} {
		t.Run(verb, func(t *testing.T) {
			p := newScripted(t, scriptedCaps, 4)
			c := p.idle("SELECT INBOX")
			done(c)
			p.deliver()
			off := p.opts
			off.Park = session.ParkOptions{Linger: time.Nanosecond}
			must(t, p.srv.Reload(off))
			p.attached()
			c.Write("s " + verb + " *")
			c.Expect("* 5 EXISTS")
			c.Expect("s OK done")
			if said := p.said(verb); len(said) != 1 || !strings.HasSuffix(said[0], verb+" "+last) {
				t.Errorf("the backend was asked for %q", said)
			}
			c.MustOK("NOOP")
		})
	}
}
