package proxy

import (
	"fmt"
	"strings"
	"testing"

	"imapproxy/internal/imaptest"
)

// What a client was told while it was parked isn't told again the next time.
func TestWhatWasToldWhileParkedIsntToldAgain(t *testing.T) {
	for name, wake := range map[string]func(p *scripted, c *imaptest.Client){
		"told": func(p *scripted, c *imaptest.Client) {
			c.MustOK("UID FETCH 1 (UID)")
		},
		"owed": func(p *scripted, c *imaptest.Client) {
			p.expunge(4)
			p.on("FETCH", func(c *imaptest.BackendConn, cmd imaptest.Command) error { return c.Send(cmd.Tag() + " OK done") })
			c.MustOK("FETCH 1 (UID)")
			c.MustOK("NOOP")
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newScripted(t, scriptedCaps, 4)
			c := p.idle("ENABLE QRESYNC", "SELECT INBOX")
			p.flag(3)
			p.hint()
			c.Expect(`* 3 FETCH (UID 3 FLAGS (\Flagged) MODSEQ (11))`)
			done(c)
			wake(p, c)
			p.idles(c)
			p.flag(1)
			p.hint()
			c.Expect(`* 1 FETCH (UID 1 FLAGS (\Flagged) MODSEQ ({*}))`)
		})
	}
}

// A connection that a session has switched CONDSTORE on by another word than ENABLE
// isn't asked to enable it: Cyrus wouldn't say that it did.
func TestAWarmConnectionWithCondStoreServesAtOnce(t *testing.T) {
	p := newScripted(t, scriptedCaps, 3)
	p.on("ENABLE", func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		return c.Send(cmd.Tag() + " OK nothing to enable")
	})
	c := p.idle("SELECT INBOX (CONDSTORE)")
	done(c)
	c.MustOK("UID FETCH 1 (UID)")
	if logins := len(p.said("AUTHENTICATE")); logins != 1 {
		t.Errorf("%d logins", logins)
	}
}

func TestARefusalThatPassesIsTriedAgain(t *testing.T) {
	p := newScripted(t, scriptedCaps, 3)
	c := p.idle("SELECT INBOX")
	done(c)
	refused := false
	p.on("SELECT", func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		if !refused {
			refused = true
			return c.Send(cmd.Tag() + " NO [INUSE] somebody repairs it")
		}
		return p.answer(c, cmd)
	})
	c.MustOK("UID FETCH 1 (UID)")
}

// A mailbox that has outgrown the comparison's limit while a session was parked there.
func TestAMailboxThatHasOutgrownTheLimit(t *testing.T) {
	const limit = 10000 // resync.DefaultMaxDiffMessages
	p := newScripted(t, "IMAP4rev1 IDLE UNSELECT ESEARCH", limit-1)
	c := p.idle("SELECT INBOX")
	done(c)
	for range 3 {
		p.deliver()
	}
	c.Write("u UID FETCH 1 (UID)")
	c.Expect(fmt.Sprintf("* %d EXISTS", limit+2))
	c.Expect("* 1 FETCH (UID 1)")
}

// A backend that doesn't let go of a mailbox may have said what the client hasn't
// heard: the session is parked, and finds it out.
func TestWhatARefusedUnselectSaysIsNotLost(t *testing.T) {
	p := newScripted(t, scriptedCaps, 4)
	refused := false
	p.on("UNSELECT", func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		if refused {
			return p.answer(c, cmd)
		}
		refused = true
		p.expunge(2)
		return c.Send("* 2 EXPUNGE", cmd.Tag()+" NO not now")
	})
	c := p.idle("SELECT INBOX")
	p.hint()
	c.Expect("* 2 EXPUNGE")
	done(c)
	if n := strings.Count(strings.Join(p.said("SELECT"), " "), "SELECT"); n != 1 {
		t.Errorf("%d SELECTs", n)
	}
}

// A user who is refused at a resume is refused at a login too, whatever connections their sessions have left in
// the pool.
func TestARefusedResumeForgetsWarmConnections(t *testing.T) {
	p := newScripted(t, scriptedCaps, 3)
	pool := p.opts.Park.Pool
	plain := p.login("alice")
	p.on("UNSELECT", func(c *imaptest.BackendConn, cmd imaptest.Command) error { // which has it closed
		return c.Send(cmd.Tag() + " NO not now")
	})
	c := p.idle("ENABLE QRESYNC", "SELECT INBOX")
	done(c)
	plain.MustOK("LOGOUT")
	eventually(t, "the pool to have what a session left", func() bool { return pool.Len() == 1 })
	p.set(func() { p.refuses = "NO [AUTHENTICATIONFAILED] not any more" })
	c.Write("u UID FETCH 1 (UID)")
	c.Expect("* BYE [AUTHENTICATIONFAILED] Your password{*}")
	if n := pool.Len(); n != 0 {
		t.Errorf("the pool has %d of what he left", n)
	}
}
