package session

import (
	"strings"
	"testing"
)

// What clients are told before login is what all backends have.
func TestLiteralPlusIsWhatAllBackendsHave(t *testing.T) {
	var all Capabilities
	for _, c := range []struct{ backend, caps, want string }{
		{"b1", "IMAP4rev1 LITERAL+", "LITERAL+"},
		{"b2", "IMAP4rev2", "LITERAL-"},
		{"b3", "IMAP4rev1", ""},
		{"b3", "IMAP4rev1 LITERAL-", "LITERAL-"},
		{"b2", "IMAP4rev1 LITERAL+", "LITERAL-"},
		{"b3", "IMAP4rev1 LITERAL+", "LITERAL+"},
	} {
		all.saw(c.backend, strings.Fields(c.caps))
		if got := all.literals(); got != c.want {
			t.Errorf("after %s has %s: %q, want %q", c.backend, c.caps, got, c.want)
		}
	}
}
