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
// The octets are UTF-8, percent-encoded (RFC 5092 §2), the separator is the
// server's. The notice is for the owner, whose personal mailbox it is;
// the event doesn't say with which users it is shared.
func cyrusNotices(event, uri string, old *cyrusString) []notice {
	switch {
	case event == "MailboxSubscribe", event == "MailboxUnSubscribe", event == "MailboxUnsubscribe",
		event == "Login", event == "Logout", strings.HasPrefix(event, "Quota"):
		return nil // no mailbox looks different after it
	}
	notices := cyrusMailbox(uri)
	if old != nil && *old != "" {
		notices = append(notices, cyrusMailbox(string(*old))...)
	}
	if event == "MailboxRename" {
		// Mailboxes below it are renamed too, with no event of their own.
		for i := range notices {
			notices[i].mailbox = ""
		}
	}
	return notices
}

// cyrusMailbox gives every (user, mailbox) that a URI can mean. What a client
// calls the mailbox depends on altnamespace ("P1", or "INBOX/P1"), and whose it is on
// virtdomains ("user/u/P1@d" is u@d's P1, or u's "P1@d"), neither of which the URI tells. A hint
// too many costs nothing, since no session is parked on a mailbox that doesn't
// exist; so all readings are given and nothing needs configuring.
func cyrusMailbox(uri string) []notice {
	path, ok := cyrusPath(uri)
	if !ok {
		return nil
	}
	sep, rest := "/", ""
	if rest, ok = strings.CutPrefix(path, "user/"); !ok {
		if rest, ok = strings.CutPrefix(path, "user."); !ok {
			return nil // a shared mailbox, or a deleted one: no user's personal one
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
	// The domain stands behind it all: user/user01/P1@example.org
	if at := strings.LastIndexByte(name, '@'); at > 0 {
		notices = cyrusReadings(notices, cyrusUser(owner, sep)+name[at:], name[:at], sep)
	}
	return notices
}

// cyrusUser is an owner's name: where dots separate, a dot in it is a "^".
func cyrusUser(owner, sep string) string {
	if sep == "." {
		return strings.ReplaceAll(owner, "^", ".")
	}
	return owner
}

// cyrusReadings appends what the owner may call the mailbox below their INBOX.
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

// cyrusPath is the mailbox's name in a URI, its parts still encoded.
func cyrusPath(uri string) (string, bool) {
	const scheme = "imap://"
	if len(uri) < len(scheme) || !strings.EqualFold(uri[:len(scheme)], scheme) {
		return "", false
	}
	_, path, ok := strings.Cut(uri[len(scheme):], "/")
	if !ok {
		return "", false
	}
	// ;UIDVALIDITY= and all that follows; a semicolon of the name's is encoded
	if i := strings.IndexAny(path, ";?"); i >= 0 {
		path = path[:i]
	}
	return path, path != ""
}
