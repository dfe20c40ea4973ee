package imaptest

import (
	"strings"
	"testing"
)

// ModelServer, which other tests rely on, tells clients what the standards require, in the order in which it
// happened.
func TestModelServer(t *testing.T) {
	VerifyNoLeaks(t)
	changed := make(chan string, 100)
	s := NewModelServer(t, ModelServerOptions{QResync: true, Changed: func(user, mailbox string) { changed <- user + " " + mailbox }})
	dial := func(enable string) *Client {
		c := Dial(t, s.Addr)
		c.Login("alice", "pw")
		if enable != "" {
			c.MustOK("%s", enable)
		}
		return c
	}
	a, b := dial(""), dial("ENABLE QRESYNC")
	a.MustOK("CREATE box")
	for range 3 {
		a.Literal("APPEND box ", GeneratedMessage(100, 1), "")
	}
	if got := <-changed; got != "alice box" {
		t.Errorf("a hint for %q", got)
	}
	a.MustOK("SELECT box")
	wantTold(t, b.MustOK("SELECT box"), "* 3 EXISTS", "* OK [HIGHESTMODSEQ 4] highest")
	a.MustOK(`STORE 2 +FLAGS (\Deleted)`)
	wantTold(t, b.MustOK("NOOP"), `* 2 FETCH (UID 2 FLAGS (\Deleted) MODSEQ (5))`)
	wantTold(t, a.MustOK("EXPUNGE"), "* 2 EXPUNGE")
	wantTold(t, a.MustOK("STORE 2 +FLAGS (new)"), `* FLAGS (\Answered \Flagged \Deleted \Seen \Draft new)`, "* 2 FETCH (FLAGS (new))")
	for range 20 { // told never, however often it is asked
		for _, r := range b.MustOK("FETCH 1 (UID)").Untagged {
			if r.Word(1) == "VANISHED" {
				t.Fatalf("%s within FETCH", r)
			}
		}
	}
	last := b.MustOK("NOOP")
	wantTold(t, last, "* VANISHED 2")
	if last.Tagged.Code() != "HIGHESTMODSEQ 7" {
		t.Errorf("%s, and everything was told", last.Tagged)
	}
	c := dial("ENABLE QRESYNC")
	told := c.MustOK("SELECT box (QRESYNC (1 4 1:3))")
	wantTold(t, told, "* VANISHED (EARLIER) 2", "* 2 FETCH (UID 3 FLAGS (new) MODSEQ (7))")
}

func wantTold(t *testing.T, a Answer, want ...string) {
	t.Helper()
	var all []string
	for _, r := range a.Untagged {
		all = append(all, r.Text)
	}
	text := strings.Join(all, "\n") + "\n"
	for _, w := range want {
		if !strings.Contains(text, w+"\n") {
			t.Errorf("no %q in\n%s", w, text)
		}
	}
}
