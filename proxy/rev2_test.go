package proxy

import (
	"strings"
	"testing"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/park"
)

// A client of IMAP4rev2 is parked: it is told of changes without RECENT, its SELECT is said again as it said it,
// in UTF-8, on a connection that has IMAP4rev2 enabled, and what it searches for by numbers of before
// comes as ESEARCH (RFC 9051 appendix E).
func TestAClientOfRev2IsParked(t *testing.T) {
	p := newScripted(t, "IMAP4rev2 IMAP4rev1 LITERAL+ CONDSTORE QRESYNC", 3)
	p.on("SEARCH", func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		return c.Send(`* ESEARCH (TAG "`+cmd.Tag()+`") ALL 1:2`, cmd.Tag()+" OK done")
	})
	c := p.idle("ENABLE IMAP4rev2", "SELECT \"R&D/Gr\xc3\xbcn\"")
	p.deliver()
	p.hub.Hint(park.Hint{User: "alice", Source: park.HintPush})
	c.Expect("* 4 EXISTS")
	done(c)
	p.expunge(1)
	p.expunge(2)
	c.Write("s SEARCH SEEN")
	c.Expect(`* ESEARCH (TAG "s") ALL 3:4`)
	c.Expect("s OK {*}")
	if a := c.MustOK("NOOP"); !strings.Contains(a.String(), "* 2 EXPUNGE") || !strings.Contains(a.String(), "* 1 EXPUNGE") {
		t.Errorf("%v", a)
	}
	again := p.said("SELECT")
	if n := len(again); n != 2 || !strings.Contains(again[1], "\"R&D/Gr\xc3\xbcn\"") {
		t.Errorf("selected by %q", again)
	}
	for _, line := range p.said("EXAMINE") {
		if !strings.Contains(line, `"R&-D/Gr&APw-n"`) {
			t.Errorf("looked at by %q", line)
		}
	}
}
