package proxy

import (
	"io"
	"testing"

	"imapproxy/internal/imaptest"
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
		page, _ := p.srv.Sessions(Filter{})
		return len(page) == 1 && page[0].Attachment == Attached.String() && page[0].NotParked == keptUnsettled.String()
	})
	p.on("NOOP", nil)
	p.clock.forward(parkAgain)
	p.parked()
	done(c)
}

func TestByeIsSaidOnce(t *testing.T) {
	goes := func(c *imaptest.BackendConn, _ imaptest.Command) error {
		must(t, c.Send("* BYE maintenance"))
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
		c.Expect("* BYE maintenance")
		c.ExpectEOF()
		p.ended(ReasonBackendBye)
	})
	t.Run("owing", func(t *testing.T) {
		p, c := owedOne(t, scriptedCaps)
		p.on("FETCH", goes)
		c.Write("g FETCH 1 (UID)")
		c.Expect("* BYE maintenance")
		c.ExpectEOF()
		p.ended(ReasonBackendBye)
	})
}
