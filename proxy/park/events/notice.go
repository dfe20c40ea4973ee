package events

import (
	"encoding/json"
	"strings"
	"unicode"
	"unicode/utf8"

	"imapproxy/proxy/park/view"
)

// Bounds of names, in octets. An event with a longer mailbox name counts for all mailboxes.
const (
	maxUserName    = 512
	maxMailboxName = 1024
)

// A notice is the part of an event that concerns one user. Names are as the backend wrote them, except that
// mailboxes are in UTF-8.
type notice struct {
	user    string // not yet canonical
	mailbox string // canonical; "" = all of the user's mailboxes
}

// cyrusString is a string; a value of another type is ignored.
type cyrusString string

func (s *cyrusString) UnmarshalJSON(b []byte) error {
	var v string
	if json.Unmarshal(b, &v) == nil {
		*s = cyrusString(v)
	}
	return nil
}

// eventMailbox returns the canonical form of a UTF-8 name in an event, "" if there is none.
func eventMailbox(name string) string {
	// JSON decoding replaces octets that aren't UTF-8 by U+FFFD. Users don't create names with control
	// characters.
	if len(name) > maxMailboxName || strings.ContainsFunc(name, func(r rune) bool { return r == utf8.RuneError || unicode.IsControl(r) }) {
		return ""
	}
	name, err := view.CanonicalMailbox(name)
	if err != nil {
		return ""
	}
	return name
}
