package shared

import (
	"bytes"
	"strings"
)

// MaxName bounds the name of a mailbox below the namespace, and a pattern of LIST.
const MaxName = 1024

// Space is the namespace. The zero value has no mailboxes.
type Space struct {
	// Prefix begins the names of all its mailboxes. Its last octet is the separator of the hierarchy: "shared/".
	Prefix string
}

// On says whether there is a namespace.
func (n Space) On() bool { return n.Prefix != "" }

// Separator is the hierarchy's.
func (n Space) Separator() byte { return n.Prefix[len(n.Prefix)-1] }

// Root is the name above all owners: the prefix without the separator.
func (n Space) Root() string { return n.Prefix[:len(n.Prefix)-1] }

// Split returns the parts of a name that is in the namespace. box is "" for the owner's own level, owner is ""
// for the root.
func (n Space) Split(name string) (owner, box string, in bool) {
	if name == n.Root() {
		return "", "", true
	}
	rest, in := strings.CutPrefix(name, n.Prefix)
	if !in {
		return "", "", false
	}
	owner, box, _ = strings.Cut(rest, n.Prefix[len(n.Prefix)-1:])
	if strings.EqualFold(box, "INBOX") { // RFC 9051 §5.1: INBOX in any case
		box = "INBOX"
	}
	return owner, box, true
}

// Join is the name in the namespace of an owner's mailbox.
func (n Space) Join(owner, box string) string {
	if box == "" {
		return n.Prefix + owner
	}
	return n.Prefix + owner + n.Prefix[len(n.Prefix)-1:] + box
}

// CanOwn says whether the mailboxes of a user with this name can be reached: the name is one level of the
// hierarchy and means the same in each encoding of names.
func (n Space) CanOwn(user string) bool {
	if user == "" || len(user) > 255 || strings.IndexByte(user, n.Separator()) >= 0 {
		return false
	}
	for i := 0; i < len(user); i++ {
		if c := user[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`*%"\&(){]`, c) >= 0 {
			return false
		}
	}
	return true
}

// begins says whether an argument, as it stands in a command, is a name in the namespace or may be one: a
// literal's content isn't looked at.
func (n Space) begins(b []byte) bool {
	if len(b) > 0 && b[0] == '"' {
		b = b[1:]
	}
	if len(b) > 0 && (b[0] == '{' || b[0] == '~') {
		return true
	}
	root := n.Root()
	if !bytes.HasPrefix(b, []byte(root)) {
		return false
	}
	b = b[len(root):]
	return len(b) == 0 || b[0] == n.Separator() || b[0] == ' ' || b[0] == '"' || b[0] == '\r' || b[0] == '\n' || b[0] == ')'
}
