package proxy

import (
	"io"
	"strings"
	"sync/atomic"
	"testing"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/session"
)

// closing has the backend answer nothing to the n-th CLOSE, after does was called. Before it, a CLOSE ends the connection. It returns a
// function that waits for the n-th CLOSE, takes the connection away and expects that the client is told NO.
func (p *scripted) closing(n int, does func()) (cut func(*imaptest.Client)) {
	reached := make(chan struct{})
	var count atomic.Int32
	p.on("CLOSE", func(b *imaptest.BackendConn, cmd imaptest.Command) error {
		switch i := int(count.Add(1)); {
		case i < n:
			return io.EOF
		case i > n:
			return b.Send(cmd.Tag() + " OK closed")
		}
		does()
		close(reached)
		return b.StallForever()
	})
	return func(c *imaptest.Client) {
		p.t.Helper()
		<-reached
		p.srv.LetGo("alice", true)
		c.Expect("x NO [UNAVAILABLE]{*}")
	}
}

// hears is the numbers that NOOP tells of messages that have gone, and the last number of messages.
func hears(c *imaptest.Client) string {
	var told []string
	for _, r := range c.MustOK("NOOP").Untagged {
		if r.Word(2) == "EXPUNGE" || r.Word(2) == "EXISTS" {
			told = append(told, r.Text)
		}
	}
	return strings.Join(told, "|")
}

// A client whose CLOSE is answered NO, since its connection was lost before the backend's answer, counts the messages that it
// counted before: it is told which of them have gone, whether the session was parked before or has recovered.
func TestAClientWhoseCloseIsCutCountsWhatItCounted(t *testing.T) {
	const all = "* 4 EXPUNGE|* 3 EXPUNGE|* 2 EXPUNGE|* 1 EXPUNGE"
	parked := func(p *scripted, n int, does func()) *imaptest.Client {
		c := p.idle("SELECT INBOX")
		done(c)
		cut := p.closing(n, does)
		c.Write("x CLOSE")
		cut(c)
		return c
	}
	emptied := func(p *scripted) {
		p.change(func() { p.uids = nil })
	}
	for name, c := range map[string]struct {
		run  func(p *scripted) *imaptest.Client
		want string
	}{
		"parked, and it was done": {func(p *scripted) *imaptest.Client { return parked(p, 1, func() { emptied(p) }) }, all},
		"parked, and it wasn't":   {func(p *scripted) *imaptest.Client { return parked(p, 1, func() {}) }, ""},
		"parked, and lost twice":  {func(p *scripted) *imaptest.Client { return parked(p, 2, func() { emptied(p) }) }, all},
		"parked, one has gone and one has come": {func(p *scripted) *imaptest.Client {
			return parked(p, 1, func() { p.expunge(2); p.deliver() })
		}, "* 2 EXPUNGE|* 4 EXISTS"},
		"parked, and missed something": {func(p *scripted) *imaptest.Client {
			c := p.idle("SELECT INBOX")
			done(c)
			p.expunge(2)
			p.deliver()
			cut := p.closing(1, func() {})
			c.Write("x CLOSE")
			cut(c)
			return c
		}, "* 2 EXPUNGE|* 4 EXISTS"},
		"lost twice": {func(p *scripted) *imaptest.Client {
			c := p.stays("SELECT INBOX")
			cut := p.closing(2, func() { emptied(p) })
			c.Write("x CLOSE")
			cut(c)
			return c
		}, all},
		"owed EXPUNGE": {func(p *scripted) *imaptest.Client {
			c := p.idle("SELECT INBOX")
			done(c)
			p.expunge(2)
			p.on("FETCH", func(b *imaptest.BackendConn, cmd imaptest.Command) error {
				return b.Send("* 4 EXISTS", "* 2 FETCH (UID 3)", cmd.Tag()+" OK done")
			})
			c.Write("f FETCH 3 (UID)")
			c.Expect("* 5 EXISTS")
			c.Expect("* 3 FETCH (UID 3)")
			c.Expect("f OK done")
			cut := p.closing(1, func() {})
			p.deliver()
			c.Write("x CLOSE")
			cut(c)
			return c
		}, "* 2 EXPUNGE"},
		"behind DONE": {func(p *scripted) *imaptest.Client {
			c := p.idle("SELECT INBOX")
			p.expunge(2)
			cut := p.closing(1, func() {})
			c.Write("DONE", "x CLOSE")
			c.Expect("i OK {*}")
			cut(c)
			return c
		}, "* 2 EXPUNGE"},
		"refused, and lost later": {func(p *scripted) *imaptest.Client {
			c := p.idle("SELECT INBOX")
			done(c)
			p.on("CLOSE", func(b *imaptest.BackendConn, cmd imaptest.Command) error { return b.Send(cmd.Tag() + " NO not now") })
			c.Write("x CLOSE")
			c.Expect("x NO not now")
			p.expunge(2)
			p.lose()
			return c
		}, "* 2 EXPUNGE"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newScripted(t, scriptedCaps, 4)
			k := c.run(p)
			if got := hears(k); got != c.want {
				t.Errorf("the client was told %q, not %q", got, c.want)
			}
			if got := hears(k); got != "" {
				t.Errorf("later it was told %q", got)
			}
		})
	}
}

// What a client is told by a command that is translated for it is told once, if the connection is lost later. The command comes
// right behind another one, and its literal has to be asked for.
func TestWhatATranslatedCommandTellsIsToldOnce(t *testing.T) {
	p := newScripted(t, scriptedCaps, 4)
	c := p.idle("SELECT INBOX")
	done(c)
	p.deliver()
	p.on("FETCH", func(b *imaptest.BackendConn, cmd imaptest.Command) error { return b.Send(cmd.Tag() + " OK done") })
	p.on("UID SEARCH", func(b *imaptest.BackendConn, cmd imaptest.Command) error {
		if !strings.Contains(cmd.Text, "SUBJECT") {
			return p.answer(b, cmd)
		}
		if at := p.srv.Status().Attachments[session.CatchingUp.String()]; at != 1 {
			t.Error("the command isn't translated")
		}
		p.expunge(2)
		return b.Send("* SEARCH", "* 2 EXPUNGE", cmd.Tag()+" OK done")
	})
	c.Write("f FETCH 1 (ENVELOPE)", "u UID SEARCH SUBJECT {1}")
	c.Expect("* 5 EXISTS")
	c.Expect("f OK done")
	c.Expect("+ OK")
	c.Write("x")
	c.Expect("* SEARCH")
	c.Expect("* 2 EXPUNGE")
	c.Expect("u OK done")
	c.MustOK("CHECK")
	p.lose()
	if got := hears(c); got != "" {
		t.Errorf("the client was told %q", got)
	}
}
