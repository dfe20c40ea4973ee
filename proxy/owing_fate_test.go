package proxy

import (
	"strings"
	"testing"
)

// While EXPUNGEs are owed, a command that isn't one is BAD, and a search that asks for updates is
// made without them.
func TestWhileExpungesAreOwedASyntaxErrorIsBad(t *testing.T) {
	p := newScripted(t, scriptedCaps, 5)
	c := p.idle("SELECT INBOX")
	done(c)
	p.expunge(2)
	c.Write("f FETCH 1 FLAGS") // brings the session back, and EXPUNGE may not be told
	for r := c.Read(); r.Tag() != "f"; r = c.Read() {
		if r.Word(2) == "EXPUNGE" {
			t.Fatal("told within FETCH:", r)
		}
	}
	answer := func(command, want string) {
		t.Helper()
		if a := c.Cmd("%s", command); a.Tagged.Status()+a.Tagged.Code() != want {
			t.Errorf("%s: %s", command, a.Tagged)
		}
	}
	answer("FETCH x FLAGS", "BAD")
	answer("FETCH 1:y FLAGS", "BAD")
	answer("SEARCH (1", "BAD")
	answer("SEARCH 1 SUBJECT", "BAD")
	answer("FETCH 2 FLAGS", "NOEXPUNGEISSUED")
	a := c.Cmd("SEARCH RETURN (UPDATE COUNT) 1:3")
	if len(a.Untagged) == 0 || !strings.HasPrefix(a.Untagged[0].Text, `* NO [NOUPDATE "`) {
		t.Errorf("a search with updates: %v", a)
	}
	if said := p.said("SEARCH"); len(said) == 0 || !strings.HasSuffix(said[len(said)-1], "RETURN (COUNT) 1:2") {
		t.Errorf("the backend is asked %q", said)
	}
	answer("STORE 0 FLAGS ()", "BAD") // and what was owed is told before it
}
