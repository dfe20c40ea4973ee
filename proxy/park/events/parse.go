package events

import (
	"encoding/json"
	"errors"

	"imapproxy/proxy/park"
)

// A Format is one of the forms in which backends say what happened.
type Format string

// The formats, told apart by their fields. docs/push-events.md shows each.
const (
	FormatOwn   Format = "own"   // contrib/dovecot/push.lua, and other senders
	FormatCyrus Format = "cyrus" // Cyrus's notify_external
	FormatOX    Format = "ox"    // Dovecot's OX driver
)

// errNotAnEvent is a body in none of the formats.
var errNotAnEvent = errors.New("not an event: neither user nor uri in it")

// eventBody has every field of every format that matters here. All else in
// an event (UIDs, subjects, mod-sequences) is never read: an event is
// a hint, not data.
type eventBody struct {
	User   string       `json:"user"`
	Events []ownEvent   `json:"events"`
	Event  string       `json:"event"`  // OX, Cyrus
	Folder *string      `json:"folder"` // OX
	URI    *string      `json:"uri"`    // Cyrus
	Old    *cyrusString `json:"oldMailboxID"`
}

type ownEvent struct {
	Mailbox string `json:"mailbox"`
}

// parseEvent reads one event of any format. Its notices may be none: an event
// that concerns no personal mailbox. A part that can't be understood widens
// the notice to all of the user's mailboxes; an error means that not even the
// user is known.
func parseEvent(body []byte) (Format, []notice, error) {
	var e eventBody
	err := json.Unmarshal(body, &e)
	var wrongType *json.UnmarshalTypeError
	switch {
	case errors.As(err, &wrongType):
		// The rest has been read. What has the wrong type isn't understood.
		if e.User == "" {
			return "", nil, errNotAnEvent
		}
		return FormatOwn, []notice{{user: e.User}}, nil
	case err != nil:
		// The decoder's error quotes what it read, which may be anything.
		return "", nil, errors.New("not JSON")
	case e.URI != nil:
		return FormatCyrus, cyrusNotices(e.Event, *e.URI, e.Old), nil
	case e.User == "":
		return "", nil, errNotAnEvent
	case e.Folder != nil:
		return FormatOX, []notice{{e.User, eventMailbox(*e.Folder)}}, nil
	}
	return FormatOwn, ownNotices(e), nil
}

// ownNotices are those of {"user": …, "events": [{"mailbox": …}, …]}: an entry
// without a mailbox, and an event without entries, stand for all mailboxes.
func ownNotices(e eventBody) []notice {
	if len(e.Events) == 0 {
		return []notice{{user: e.User}}
	}
	seen := make(map[string]bool, min(len(e.Events), park.DefaultMaxMailboxesPerUser))
	var notices []notice
	for _, one := range e.Events {
		m := eventMailbox(one.Mailbox)
		if m == "" || len(notices) == park.DefaultMaxMailboxesPerUser {
			return []notice{{user: e.User}}
		}
		if !seen[m] {
			seen[m] = true
			notices = append(notices, notice{e.User, m})
		}
	}
	return notices
}
