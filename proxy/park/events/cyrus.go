package events

import (
	"net/url"
	"strings"
)

// cyrusNotices maps an event of Cyrus's notify_external. Its "uri" names the
// mailbox as an administrator sees it, for any actor ("user" is the actor):
//
//	imap://localhost/user/user01/Entw%C3%BCrfe;UIDVALIDITY=1795402398/;UID=1
//	imap://localhost/user.user01.Entw%C3%BCrfe;UIDVALIDITY=1795402398
//
// The octets are UTF-8, percent-encoded (RFC 5092 §2); the separator is the server's. The notice is for the
// owner of a personal mailbox; the event doesn't tell with which users the mailbox is shared.
func cyrusNotices(event, uri string, old *cyrusString) []notice {
	switch {
	case event == "MailboxSubscribe", event == "MailboxUnSubscribe", event == "MailboxUnsubscribe",
		event == "Login", event == "Logout", strings.HasPrefix(event, "Quota"):
		return nil // the event changes no mailbox
	}
	notices := cyrusMailbox(uri)
	if old != nil && *old != "" {
		notices = append(notices, cyrusMailbox(string(*old))...)
	}
	if event == "MailboxRename" {
		// Mailboxes below it are renamed too, without events of their own.
		for i := range notices {
			notices[i].mailbox = ""
		}
	}
	return notices
}

// cyrusMailbox returns every (user, mailbox) that a URI can mean. The client's name of the mailbox depends on
// altnamespace ("P1", or "INBOX/P1"), and the owner on virtdomains ("user/u/P1@d" is P1 of u@d, or "P1@d" of
// u); the URI shows neither. A superfluous hint costs nothing, since no session is parked on a mailbox that
// doesn't exist. So all readings are returned, and nothing has to be configured.
func cyrusMailbox(uri string) []notice {
	path, ok := cyrusPath(uri)
	if !ok {
		return nil
	}
	sep, rest := "/", ""
	if rest, ok = strings.CutPrefix(path, "user/"); !ok {
		if rest, ok = strings.CutPrefix(path, "user."); !ok {
			return nil // a shared or deleted mailbox, which isn't a user's personal one
		}
		sep = "."
	}
	rawOwner, rawName, below := strings.Cut(rest, sep)
	owner, err := url.PathUnescape(rawOwner)
	if err != nil || owner == "" {
		return nil
	}
	name, err := url.PathUnescape(rawName)
	if err != nil || (below && name == "") {
		return []notice{{user: cyrusUser(owner, sep)}}
	}
	notices := cyrusReadings(nil, cyrusUser(owner, sep), name, sep)
	// The domain may follow the mailbox name: user/user01/P1@example.org
	if at := strings.LastIndexByte(name, '@'); at > 0 {
		notices = cyrusReadings(notices, cyrusUser(owner, sep)+name[at:], name[:at], sep)
	}
	return notices
}

// cyrusUser returns an owner's name: if the separator is a dot, a dot in the name is written as "^".
func cyrusUser(owner, sep string) string {
	if sep == "." {
		return strings.ReplaceAll(owner, "^", ".")
	}
	return owner
}

// cyrusReadings appends the names that the owner's clients may have for a mailbox below the INBOX.
func cyrusReadings(notices []notice, owner, name, sep string) []notice {
	if name == "" {
		return append(notices, notice{owner, "INBOX"})
	}
	short, long := eventMailbox(name), eventMailbox("INBOX"+sep+name)
	if short == "" || long == "" {
		return append(notices, notice{user: owner})
	}
	return append(notices, notice{owner, short}, notice{owner, long})
}

// cyrusPath returns the mailbox name in a URI, its parts still encoded.
func cyrusPath(uri string) (string, bool) {
	const scheme = "imap://"
	if len(uri) < len(scheme) || !strings.EqualFold(uri[:len(scheme)], scheme) {
		return "", false
	}
	_, path, ok := strings.Cut(uri[len(scheme):], "/")
	if !ok {
		return "", false
	}
	// ;UIDVALIDITY= and all that follows; a semicolon in the name is encoded
	if i := strings.IndexAny(path, ";?"); i >= 0 {
		path = path[:i]
	}
	return path, path != ""
}
