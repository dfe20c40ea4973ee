package proxy

import (
	"sync/atomic"
	"testing"
	"time"

	"imapproxy/internal/imaptest"
)

// A client's SELECT shows a HIGHESTMODSEQ, so that nothing else has to find one when it is parked, and the hub's first look fails. Its next SELECT of
// the same mailbox shows none, as that of mox to a client without CONDSTORE. When it is parked again its view gets a bound all the same: without one the client
// can't be told what it missed, and its session ends.
func TestAViewGetsABoundWhereASecondSelectShowsNone(t *testing.T) {
	p := newScripted(t, scriptedCaps, 2, func(o *Options) { o.Park.QuietAfter = time.Nanosecond })
	var hidden, refuses atomic.Bool
	p.hidesModSeq(&hidden)
	p.fetched()
	refuses.Store(true)
	p.on("EXAMINE", func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		if refuses.Load() {
			return c.Send(cmd.Tag() + " NO [UNAVAILABLE] later")
		}
		return p.answer(c, cmd)
	})
	c := p.login("alice")
	c.MustOK("SELECT INBOX")
	p.parked()
	eventually(t, "a look that fails", func() bool { return p.hub.Stats().Failed > 0 })
	c.MustOK("CREATE x") // by the backend: it is resumed
	hidden.Store(true)
	c.MustOK("SELECT INBOX")
	refuses.Store(false)
	p.parked()
	hidden.Store(false)
	p.deliver()
	c.Write("n CREATE y")
	c.Expect("* 3 EXISTS")
	c.Expect("n OK {*}")
}
