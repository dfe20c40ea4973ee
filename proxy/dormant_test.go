package proxy

import (
	"strings"
	"sync"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/session"
)

// silence is how long both sides have to be silent before a session is dormant.
const silence = 5 * time.Second

// attachedOnly parks no session before it leaves its backend.
func attachedOnly(o *Options) {
	if o.Park.Hub != nil {
		o.Park.Linger, o.Park.QuietAfter = 24*time.Hour, 24*time.Hour
	}
}

// dormant lets all sessions be silent until none has a goroutine, and all are attached.
func (l *lab) dormant() {
	l.t.Helper()
	l.clock.forward(silence)
	eventually(l.t, "no goroutine of a session", func() bool {
		l.srv.Sweep()
		st := l.srv.Status()
		buf := make([]byte, 8<<20)
		return st.Sessions == st.Attachments[session.Attached.String()] && !strings.Contains(string(buf[:stacks(buf)]), "proxy/session.(*Session).")
	})
}

// A session is dormant and wakes whatever lies between the client and the proxy, and no octet is lost.
func TestADormantSessionGoesOnOverEachKindOfConnection(t *testing.T) {
	for name, how := range map[string]struct {
		listener   string
		compressed bool
	}{"plain": {plain, false}, "TLS": {implicit, false}, "compressed": {plain, true}, "compressed, TLS": {implicit, true}} {
		t.Run(name, func(t *testing.T) {
			p := newScripted(t, scriptedCaps, 3, attachedOnly, compresses)
			c := p.dial(how.listener)
			c.Login("alice", password)
			if how.compressed || compressed {
				must(t, c.Compress())
			}
			for range 3 {
				p.dormant()
				if a := c.MustOK("SELECT INBOX"); len(a.Untagged) < 4 {
					t.Errorf("SELECT: %s", a)
				}
				p.dormant()
				c.Write("a UID FETCH 1:* (UID)", "b NOOP")
				for range 3 {
					c.Expect("* {n} FETCH {*}")
				}
				c.Expect("a OK {*}")
				c.Expect("b OK {*}")
			}
			p.dormant()
			c.Write("i IDLE")
			c.Expect("+{*}")
			p.dormant()
			page, _ := p.srv.Sessions(session.Filter{})
			if len(page) != 1 || page[0].Attachment != session.Attached.String() || page[0].State != "selected" || !page[0].Idle {
				t.Errorf("it is shown as %+v", page)
			}
			done(c)
			p.dormant()
			c.Write("o LOGOUT")
			c.Expect("* BYE {*}")
			c.Expect("o OK {*}")
			c.ExpectEOF()
		})
	}
}

// A dormant session learns of the loss of its backend connection, and goes on with another one; its client hears what has happened meanwhile.
func TestADormantSessionOutlivesItsBackendConnection(t *testing.T) {
	for name, lose := range map[string]func(*scripted){
		"reset":  func(p *scripted) { p.lose() },
		"closed": func(p *scripted) { p.backends[0].CloseConns() },
		"moved":  func(p *scripted) { p.srv.LetGo("alice", true) },
	} {
		t.Run(name, func(t *testing.T) {
			p := newScripted(t, scriptedCaps, 3, attachedOnly)
			c := p.stays("SELECT INBOX", "UID FETCH 1:* (FLAGS)")
			before := p.backends[0].Accepted()
			p.dormant()
			p.expunge(2)
			lose(p)
			eventually(t, "another connection", func() bool { return p.backends[0].Accepted() > before })
			c.Write("n NOOP")
			c.Expect("* 2 EXPUNGE")
			c.Expect("n OK {*}")
			p.dormant()
			c.MustOK("NOOP")
		})
	}
}

// A dormant session in IDLE is parked once its client has been silent for long enough, and comes back.
func TestADormantSessionIsParkedAndComesBack(t *testing.T) {
	p := newScripted(t, scriptedCaps, 3, attachedOnly)
	c := p.stays("SELECT INBOX")
	c.Write("i IDLE")
	c.Expect("+{*}")
	p.dormant()
	p.srv.LetGo("alice", false)
	p.parked()
	p.deliver()
	p.hint()
	c.Expect("* 4 EXISTS")
	done(c)
	c.MustOK("UID FETCH 1 (UID)")
	p.dormant()
	c.MustOK("NOOP")
}

// All dormant clients hear of a shutdown.
func TestAShutdownTellsDormantClients(t *testing.T) {
	l := newLab(t, labOptions{change: func(o *Options) { o.Drain = 5 * time.Second }})
	clients := []*imaptest.Client{l.login("alice"), l.login("bob"), l.login("carol")}
	clients[1].Write("i IDLE")
	clients[1].Expect("+")
	l.dormant()
	l.end()
	for _, c := range clients {
		c.Expect("* BYE [UNAVAILABLE] {*}")
		c.ExpectEOF()
		_ = c.Conn.Close()
	}
	l.stop()
	if got := l.closed(session.ReasonShutdown); got != len(clients) {
		t.Errorf("%d ended for the shutdown, of %d", got, len(clients))
	}
}

// Kicked clients are told, and a client that vanishes while its session is dormant leaves nothing behind.
func TestADormantSessionEnds(t *testing.T) {
	l := newLab(t, labOptions{})
	kicked, closes := l.login("alice"), l.login("bob")
	l.dormant()
	var kick sync.WaitGroup
	kick.Go(func() { l.srv.Kick(t.Context(), Kick{User: "alice"}) }) // waits for the client's end
	kicked.Expect("* BYE {*}")
	kicked.ExpectEOF()
	kick.Wait()
	_ = closes.Conn.Close()
	eventually(t, "the end of all sessions", func() bool { return l.srv.Status().Sessions == 0 && l.backends[0].Open() == 0 })
}
