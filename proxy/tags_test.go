package proxy

import (
	"cmp"
	"strings"
	"testing"

	"imapproxy/internal/imaptest"
	"imapproxy/proxy/session"
)

// untaggable is a backend that answers what it finds no tag in, as servers do,
// with an untagged BAD.
func untaggable(t *testing.T) *lab {
	bad := func(c *imaptest.BackendConn, cmd imaptest.Command) error {
		if strings.HasPrefix(cmd.Text, "z ") {
			return c.Send(cmd.Tag() + " OK done")
		}
		return c.Send("* BAD Invalid tag")
	}
	return politeWith(t, commands{"NOOP": bad, "*": bad}, labOptions{})
}

// oddHeads are lines after login without a recognisable tag and command.
var oddHeads = []string{"* NOOP", "+ NOOP", "a+b NOOP", "%( NOOP", "NOOP", " NOOP", "a ", "a  NOOP", "\xff NOOP", "\x00\x00 NOOP"}

// tagOnly are those of oddHeads that have a tag, by which they are answered.
var tagOnly = map[string]string{"NOOP": "NOOP", "a ": "a", "a  NOOP": "a"}

func TestLinesWithoutATagNeverFillTheFlight(t *testing.T) {
	l := untaggable(t)
	c := l.login("alice")
	for _, line := range oddHeads {
		for range mostInFlight/len(oddHeads) + 1 {
			c.Write(line)
			c.Expect(cmp.Or(tagOnly[line], "*") + " BAD {*}")
		}
	}
	if n := l.sessionOf("alice").InFlight; n != 0 {
		t.Errorf("%d commands wait for answers", n)
	}
	if a := c.CmdTag("z", "NOOP"); !a.OK() || len(a.Untagged) > 0 {
		t.Error(a)
	}
}

func TestAClientThatSaysOnlyLinesWithoutATagIsForgottenWhenItCloses(t *testing.T) {
	l := untaggable(t)
	for _, line := range oddHeads[:2] {
		c := l.login("alice")
		must(t, c.SendRaw(strings.Repeat(line+"\r\n", mostInFlight+1)))
		must(t, c.CloseWrite())
		_, err := readAll(t, c)
		must(t, err)
		must(t, c.Conn.Close())
		l.backends[0].WaitOpen(0)
	}
	l.ended(session.ReasonClientClosed)
}

func TestACommandThatIsRefusedForItsTagIsNotCarriedOut(t *testing.T) {
	l := politeWith(t, nil, labOptions{})
	c := l.login("alice")
	must(t, c.SendRaw("a1 NOOP\r\n"+strings.Repeat("t", longestTag+1)+" DELETE work\r\na2 DELETE more\r\n"))
	got, err := readAll(t, c)
	if err != nil || !strings.HasSuffix(got, "* BYE [CLIENTBUG] Protocol error\r\n") {
		t.Errorf("%q %v", got, err)
	}
	must(t, c.Conn.Close())
	l.ended(session.ReasonClientProtocol)
	l.backends[0].WaitOpen(0)
	for _, cmd := range l.backends[0].Commands() {
		if strings.Contains(cmd.Text, "DELETE") {
			t.Errorf("the backend was sent %q", cmd.Text)
		}
	}
}
