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

// A client in IDLE sends DONE and, before it could read what it missed, a command by number: the number means what it counts. The session is
// woken while DONE waits for a look of the hub's, or DONE comes while the woken session gets its connection.
func TestDoneWhileTheSessionIsWoken(t *testing.T) {
	t.Parallel()
	const store = `s STORE 3 +FLAGS (\Seen)`
	for name, wake := range map[string]func(*scripted, *imaptest.Client, *session.Session){
		"DONE waits for a look": func(p *scripted, c *imaptest.Client, s *session.Session) {
			said, sent := s.LastHeard(), make(chan struct{})
			p.on("EXAMINE", func(b *imaptest.BackendConn, cmd imaptest.Command) error {
				if s.LastHeard() != said { // this is the look of DONE
					p.on("EXAMINE", nil)
					<-sent
					c.Write(store)
					s.Signal(session.SigLostWatch)
				}
				return b.Send(cmd.Tag() + " NO [UNAVAILABLE] not now")
			})
			p.hint()
			eventually(p.t, "two looks that fail", func() bool { return p.hub.Stats().Failed == 2 }) // the next one of the hub's begins after a pause
			c.Write("DONE")
			close(sent)
		},
		"DONE comes while the session gets its connection": func(p *scripted, c *imaptest.Client, s *session.Session) {
			p.on("SELECT", func(b *imaptest.BackendConn, cmd imaptest.Command) error {
				p.on("SELECT", nil)
				c.Write("DONE", store)
				return p.answer(b, cmd)
			})
			s.Signal(session.SigLostWatch)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newScripted(t, scriptedCaps, 4)
			c := p.idle("SELECT INBOX")
			p.expunge(2)
			p.on("STORE", func(b *imaptest.BackendConn, cmd imaptest.Command) error {
				if cmd.Args != `2 +FLAGS (\Seen)` {
					t.Errorf("it stores %s", cmd.Args)
				}
				return b.Send(`* 2 FETCH (FLAGS (\Seen))`, cmd.Tag()+" OK done")
			})
			wake(p, c, p.only())
			c.Expect("i OK {*}")
			c.Expect(`* 3 FETCH (FLAGS (\Seen))`)
			c.Expect("s OK done")
			c.Write("n NOOP")
			c.Expect("* 2 EXPUNGE")
			c.Expect("n OK done")
		})
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
