package proxy

import (
	"io"
	"strings"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/session"
)

// Without QRESYNC a parked client's flags are compared with those of before the snapshot.
// One that it is told during the snapshot is in neither: taken back later, that would
// never be told.
func TestFlagsToldDuringTheSnapshotAreInDoubt(t *testing.T) {
	p := newScripted(t, "IMAP4rev1 IDLE UNSELECT ESEARCH", 3)
	p.on("NOOP", func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		return c.Send(`* 1 FETCH (FLAGS (\Seen))`, cmd.Tag()+" OK done")
	})
	c := p.login("alice")
	c.MustOK("SELECT INBOX")
	c.Write("i IDLE")
	c.Expect("+{*}")
	p.srv.Sweep()
	c.Expect(`* 1 FETCH (FLAGS (\Seen))`)
	eventually(t, "the reason why it isn't parked", func() bool {
		page, _ := p.srv.Sessions(session.Filter{})
		return len(page) == 1 && page[0].Attachment == session.Attached.String() && page[0].NotParked == "unsettled"
	})
	p.on("NOOP", nil)
	p.clock.forward(10 * time.Second)
	p.parked()
	done(c)
}

// Outside IDLE a client hears of new messages with its next command: its STORE * means the last
// message that it knows, also where the hidden FETCH brings others. What that FETCH can't
// tell, an EXPUNGE from before there were hints, is found by looking.
func TestAQuietClientHearsNothingWhileItIsParked(t *testing.T) {
	for name, next := range map[string]func(p *scripted, c *imaptest.Client){
		"NOOP": func(_ *scripted, c *imaptest.Client) {
			c.Write("n NOOP")
			c.Expect("* 1 EXPUNGE")
			c.Expect("* 3 EXISTS")
			c.Expect("n OK {*}")
		},
		"STORE *": func(p *scripted, c *imaptest.Client) {
			c.MustOK(`STORE * +FLAGS.SILENT (\Deleted)`)
			if got := p.said("STORE"); len(got) != 1 || !strings.Contains(got[0], "STORE 2 ") { // UID 3 of 2, 3 and 4
				p.t.Errorf("the backend was told %q", got)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newScripted(t, scriptedCaps, 3)
			c := p.login("alice")
			c.MustOK("SELECT INBOX")
			p.expunge(1)
			p.deliver()
			tries := 0
			p.on("FETCH", func(c *imaptest.BackendConn, cmd imaptest.Command) error {
				lines := []string{"* 1 FETCH (UID 1)", "* 2 FETCH (UID 2)", "* 3 FETCH (UID 3)"}
				if tries++; tries == 1 {
					lines = append(lines, "* 4 EXISTS", "* 1 RECENT", `* 4 FETCH (FLAGS (\Recent))`)
				} else {
					lines = append(lines, "* 4 FETCH (UID 4)")
				}
				return c.Send(append(lines, cmd.Tag()+" OK done")...)
			})
			p.clock.forward(time.Minute)
			p.parked()
			next(p, c)
		})
	}
}

// A session that stays attached is told what the hidden FETCH has brought.
func TestAQuietClientThatStaysAttachedIsTold(t *testing.T) {
	p := newScripted(t, scriptedCaps, 3)
	c := p.login("alice")
	c.MustOK("SELECT INBOX")
	p.on("FETCH", func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		return c.Send("* 4 EXISTS", "* 1 RECENT", cmd.Tag()+" NO not now")
	})
	p.clock.forward(time.Minute)
	p.srv.Sweep()
	c.Expect("* 4 EXISTS")
	c.Expect("* 1 RECENT")
	c.MustOK("NOOP")
}

// A BYE that is about the backend isn't the client's to hear: its session goes on.
func TestAByeOfABackendThatGoesIsKept(t *testing.T) {
	goes := func(p *scripted, name string) {
		p.on(name, func(c *imaptest.BackendConn, _ imaptest.Command) error {
			p.on(name, p.answer)
			must(t, c.Send("* BYE Server shutting down."))
			return io.EOF
		})
	}
	t.Run("parking", func(t *testing.T) {
		p := newScripted(t, scriptedCaps, 3)
		goes(p, "NOOP")
		c := p.login("alice")
		c.MustOK("SELECT INBOX")
		c.Write("i IDLE")
		c.Expect("+{*}")
		p.parked()
		done(c)
		c.MustOK("NOOP")
	})
	t.Run("owing", func(t *testing.T) {
		p, c := owedOne(t, scriptedCaps)
		goes(p, "FETCH")
		c.MustOK("FETCH 1 (UID)")
	})
}

func TestByeIsSaidOnce(t *testing.T) {
	goes := func(c *imaptest.BackendConn, _ imaptest.Command) error {
		must(t, c.Send("* BYE [ALERT] maintenance"))
		return io.EOF
	}
	t.Run("parking", func(t *testing.T) {
		p := newScripted(t, scriptedCaps, 3)
		p.on("NOOP", goes)
		c := p.login("alice")
		c.MustOK("SELECT INBOX")
		c.Write("i IDLE")
		c.Expect("+{*}")
		p.srv.Sweep()
		c.Expect("* BYE [ALERT] maintenance")
		c.ExpectEOF()
		p.ended(session.ReasonBackendBye)
	})
	t.Run("owing", func(t *testing.T) {
		p, c := owedOne(t, scriptedCaps)
		p.on("FETCH", goes)
		c.Write("g FETCH 1 (UID)")
		c.Expect("* BYE [ALERT] maintenance")
		c.ExpectEOF()
		p.ended(session.ReasonBackendBye)
	})
}

// A resume can't enable CONDSTORE on a backend that doesn't have it, whatever the client
// has said.
func TestAClientThatOnlySpeaksOfModSeqsKeepsItsConnection(t *testing.T) {
	p := newScripted(t, "IMAP4rev1 IDLE UNSELECT ESEARCH", 3)
	now := p.opts
	now.Park.QuietAfter = now.Park.Linger
	must(t, p.srv.Reload(now))
	c := p.login("alice")
	c.MustOK("SELECT INBOX")
	c.MustOK("UID SEARCH MODSEQ 3")
	c.MustOK("UNSELECT")
	eventually(t, "the reason why it isn't parked", func() bool {
		p.srv.Sweep()
		page, _ := p.srv.Sessions(session.Filter{})
		return len(page) == 1 && page[0].Attachment == session.Attached.String() && page[0].NotParked == "no_qresync"
	})
	c.MustOK("SELECT INBOX")
}

// A client that idles regardless hears of it what the backend says.
func TestIdleIsAnsweredForBackendsThatKnowIt(t *testing.T) {
	p := newScripted(t, "IMAP4rev1 UNSELECT ENABLE CONDSTORE QRESYNC ESEARCH", 3)
	p.on("IDLE", func(c *imaptest.BackendConn, cmd imaptest.Command) error { return c.Send(cmd.Tag() + " BAD what?") })
	p.on("FETCH", func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		cmd.Name = "UID FETCH"
		return p.answer(c, cmd)
	})
	now := p.opts
	now.Park.QuietAfter = now.Park.Linger
	must(t, p.srv.Reload(now))
	c := p.login("alice")
	c.MustOK("SELECT INBOX")
	c.MustOK("UID FETCH 1 (UID)")
	p.parked()
	c.Write("i IDLE")
	c.Expect("i BAD what?")
}
