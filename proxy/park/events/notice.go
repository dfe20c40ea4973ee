package events

import (
	"encoding/json"
	"strings"
	"unicode"
	"unicode/utf8"

	"imapproxy/proxy/park/view"
)

// Bounds on names, in octets. A longer mailbox name is taken for 'all'.
const (
	maxUserName    = 512
	maxMailboxName = 1024
)

// A notice is one user's part of an event, its names as the backend wrote them
// but for the encoding: mailboxes are UTF-8.
type notice struct {
	user    string // not yet canonical
	mailbox string // canonical; "" = all of the user's mailboxes
}

// cyrusString is a string, or anything else, which is then as good as absent.
type cyrusString string

func (s *cyrusString) UnmarshalJSON(b []byte) error {
	var v string
	if json.Unmarshal(b, &v) == nil {
		*s = cyrusString(v)
	}
	return nil
}

// eventMailbox is the canonical form of a UTF-8 name in an event, "" if it can't be
// told.
func eventMailbox(name string) string {
	// U+FFFD is what JSON decoding leaves of octets that weren't UTF-8. A control character
	// in a name is no user's intention.
	if len(name) > maxMailboxName || strings.ContainsFunc(name, func(r rune) bool { return r == utf8.RuneError || unicode.IsControl(r) }) {
		return ""
	}
	name, err := view.CanonicalMailbox(name)
	if err != nil {
		return ""
	}
	return name
}
