package resync

import (
	"context"
	"fmt"

	"imapproxy/proxy/imapclient"
	"imapproxy/proxy/park/view"
)

// tries is how often a set is requested before the mailbox counts as unsettled: a try fails only if the
// mailbox is changed during it.
const tries = 3

// Snapshot finds the ordered set of the messages that the session's client counts, on the session's own
// connection, after EndIdle. Untagged responses meanwhile are forwarded to the client, and Messages follows
// them.
//
// The set is what the client counts only if it has as many messages as the client was told, and no message
// was added or removed after the answer: Dovecot sends the stale set first and EXPUNGE and EXISTS after it;
// Cyrus sends the new set and holds EXPUNGE back until a NOOP. So Snapshot sends NOOP first, and compares the
// count. After three tries it returns ErrUnsettled, and the session stays attached.
func (c *Client) Snapshot(ctx context.Context) (view.UIDs, error) {
	return c.settle(ctx, false, nil)
}

// SnapshotSelected is Snapshot right behind Select, which has told what NOOP would: the first try needs none.
func (c *Client) SnapshotSelected(ctx context.Context) (view.UIDs, error) {
	return c.settle(ctx, true, nil)
}

// settle is Snapshot, or SnapshotSelected, with onUntagged for the untagged responses other than the search result.
func (c *Client) settle(ctx context.Context, selected bool, onUntagged func(imapclient.Untagged) bool) (view.UIDs, error) {
	for range tries {
		c.tries++
		if !selected {
			if _, err := c.Do(ctx, "NOOP", onUntagged); err != nil {
				return view.UIDs{}, err
			}
		}
		selected = false
		f, shifted, err := c.search(ctx, onUntagged)
		if err != nil {
			return view.UIDs{}, err
		}
		if !shifted && f.count == c.messages && f.uids.Count() == f.count {
			return f.uids, nil
		}
	}
	return view.UIDs{}, ErrUnsettled
}

// search requests all UIDs once. shifted: messages were added or removed after the answer. RFC 9051 §6.4.4,
// or RFC 3501 §6.4.4 if the backend has no ESEARCH.
func (c *Client) search(ctx context.Context, onUntagged func(imapclient.Untagged) bool) (f found, shifted bool, err error) {
	if c.tooLong() {
		return f, false, ErrTooMany
	}
	extended := c.caps.Has("ESEARCH") || c.caps.Has("IMAP4rev2")
	command := "UID SEARCH ALL"
	if extended {
		command = "UID SEARCH RETURN (ALL COUNT) ALL"
	}
	answered, at := false, 0
	var bad error
	_, err = c.Do(ctx, command, func(u imapclient.Untagged) bool {
		switch {
		case extended && u.Is("ESEARCH"):
			got, perr := parseESearch(u.Rest)
			if perr == nil && got.tag != u.During && got.tag != "" {
				return false // the result of another command: a CONTEXT update of the client
			}
			f, bad = got, perr
		case !extended && u.Is("SEARCH"):
			var more view.UIDs // Dovecot and others may split the result
			more, bad = parseSearch(u.Rest)
			f.uids = f.uids.Union(more)
			f.count = f.uids.Count()
		default:
			return onUntagged != nil && onUntagged(u)
		}
		answered, at = true, c.shifts
		return true
	})
	switch {
	case err != nil:
		return f, false, err
	case bad != nil:
		return f, false, fmt.Errorf("%w: UID SEARCH: %w", ErrUnsettled, bad)
	case !answered:
		return f, false, fmt.Errorf("%w: UID SEARCH isn't answered", ErrUnsettled)
	}
	return f, c.shifts != at, nil
}

// tooLong says that the set might not fit into one response: at worst no two UIDs are consecutive, and each
// takes ten digits and a comma. Too long a response would break the connection, which may be a session's.
func (c *Client) tooLong() bool { return int64(c.messages) > int64(c.maxLine-100)/11 }

// SnapshotByFetch is Snapshot for an idle session that isn't in IDLE. It uses `FETCH 1:* (UID)`, whose answer
// can't contain EXPUNGE (RFC 9051 §7.5.1), so that the message numbers in the client's next command keep
// their meaning.
func (c *Client) SnapshotByFetch(ctx context.Context) (view.UIDs, error) {
	if c.messages == 0 {
		return view.UIDs{}, nil // there is no message for 1:*; messages that arrive now are new
	}
	for range tries {
		if c.tooLong() {
			return view.UIDs{}, ErrTooMany
		}
		c.tries++
		uids := make([]uint32, 0, min(c.messages, 1<<16))
		inOrder, shrunk := true, false
		before := c.messages
		_, err := c.Do(ctx, "FETCH 1:* (UID)", func(u imapclient.Untagged) bool {
			switch {
			case u.Is("EXPUNGE"), u.Is("VANISHED"):
				shrunk = true
				return false
			case !u.Is("FETCH"):
				return false
			}
			f, err := parseFetch(u.Rest)
			if err != nil || f.uid == 0 {
				return false // flags that were set meanwhile, which the client must see
			}
			switch n := int(u.Number); {
			case n == len(uids)+1 && n <= int(c.messages) && (n == 1 || f.uid > uids[n-2]):
				uids = append(uids, f.uid)
			case n >= 1 && n <= len(uids) && uids[n-1] == f.uid: // sent again, with flags
			default:
				inOrder = false
			}
			return !f.hasFlags && !f.others
		})
		if err != nil {
			return view.UIDs{}, err
		}
		if shrunk {
			break // the backend violates the protocol
		}
		if inOrder && len(uids) == int(c.messages) && c.messages >= before {
			return view.UIDsOf(uids...), nil
		}
	}
	return view.UIDs{}, ErrUnsettled
}
