package events

import (
	"encoding/json"
	"errors"

	"imapproxy/proxy/park"
)

// A Format is one of the forms in which backends send events.
type Format string

// The formats, which parseEvent distinguishes by their fields. docs/push-events.md shows each.
const (
	FormatOwn   Format = "own"   // contrib/dovecot/push.lua, and other senders
	FormatCyrus Format = "cyrus" // Cyrus's notify_external
	FormatOX    Format = "ox"    // Dovecot's OX driver
)

// errNotAnEvent is the error for a body in none of the formats.
var errNotAnEvent = errors.New("not an event: neither user nor uri in it")

// eventBody has the fields of all formats that the proxy uses. It doesn't read others (UIDs, subjects,
// mod-sequences): an event is a hint, not data.
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

// parseEvent parses one event of any format. It may return no notices, if the event doesn't concern a
// personal mailbox. If a part of the event can't be understood, the notice is for all mailboxes of the user.
// An error means that not even the user is known.
func parseEvent(body []byte) (Format, []notice, error) {
	var e eventBody
	err := json.Unmarshal(body, &e)
	var wrongType *json.UnmarshalTypeError
	switch {
	case errors.As(err, &wrongType):
		// The other fields have been decoded. The field of the wrong type isn't understood.
		if e.User == "" {
			return "", nil, errNotAnEvent
		}
		return FormatOwn, []notice{{user: e.User}}, nil
	case err != nil:
		// The decoder's error quotes the body, which may contain anything.
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

// ownNotices returns the notices of {"user": …, "events": [{"mailbox": …}, …]}. An entry without a mailbox,
// and an event without entries, mean all mailboxes.
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
