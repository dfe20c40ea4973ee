package proxy

import (
	"strings"
	"testing"

	"imapproxy/internal/imaptest"
)

func TestACapabilityListIsRewrittenWhateverStandsBeforeIt(t *testing.T) {
	// Upper-casing such a tag as if it were UTF-8 makes it three times as long.
	for _, tag := range []string{"\xff\xff", strings.Repeat("\xff", 60), strings.Repeat("ı", 60), "CAPABILITY", "*"} {
		l := politeWith(t, commands{"XSAY": func(c *imaptest.BackendConn, cmd imaptest.Command) error {
			return c.SendRaw(tag + " OK [CAPABILITY IMAP4rev1 STARTTLS X AUTH=PLAIN] ok\r\n" + cmd.Tag() + " OK done\r\n")
		}}, labOptions{})
		c := l.login("alice")
		c.Write("a1 XSAY")
		if got, want := c.Read().Text, tag+" OK [CAPABILITY IMAP4rev1 X] ok"; got != want {
			t.Errorf("\n got  %q\n want %q", got, want)
		}
		c.Expect("a1 OK done")
		l.stop()
	}
}
