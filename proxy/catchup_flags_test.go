package proxy

import (
	"strings"
	"testing"

	"imapproxy/internal/imaptest"
)

// While a client is owed EXPUNGE, a command's answer lists the mailbox's flags, and a keyword that was listed before isn't among them
// (Dovecot lists keywords that were only asked for on one of its connections). Before the client hears of a message with that keyword it is told the keyword
// again (RFC 9051 §7.3.1).
func TestFlagsThatAreListedWhileExpungeIsOwedCount(t *testing.T) {
	p := newScripted(t, scriptedCaps, 4)
	p.set(func() { p.keyword = "kw1" })
	p.on("SEARCH", func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		return c.Send("* SEARCH", `* FLAGS (\Seen \Flagged \Deleted kw3)`, cmd.Tag()+" OK done")
	})
	c := p.idle("SELECT INBOX")
	done(c)
	p.expunge(2)
	c.Write("s SEARCH KEYWORD kw3") // during which EXPUNGE may not be told
	c.Expect("* SEARCH")
	c.Expect(`* FLAGS (\Seen \Flagged \Deleted kw3)`)
	c.Expect("s OK {*}")
	c.Write("n NOOP")
	c.Expect("* 2 EXPUNGE")
	c.Expect("n OK {*}")
	p.idles(c)
	p.deliver()
	p.hint()
	c.Expect("* 4 EXISTS")
	if r := c.Read(); !strings.HasPrefix(r.Text, "* FLAGS (") || !strings.Contains(r.Text, "kw1") {
		t.Errorf("the client is told %q, and not the flags of the mailbox", r.Text)
	}
	done(c)
}
