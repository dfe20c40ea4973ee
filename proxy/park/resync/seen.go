package resync

import (
	"context"
	"errors"
	"fmt"

	"imapproxy/proxy/imapclient"
	"imapproxy/proxy/park/view"
)

// See finds what a mailbox shows to a client that had it selected on a connection that was lost (view.Tally). at is what the
// client was told of it at its SELECT. by says whether the backend is asked what has vanished since.
//
// The EXAMINE names no known UIDs: with `1:n` nothing is said of messages that came after the client's SELECT and are gone
// (RFC 7162 §3.2.5.2). Where the client's SELECT showed no mod-sequence (Dovecot shows none of a mailbox that has never had a message), all that ever vanished
// is asked for: that is enough, too.
func See(ctx context.Context, c *Client, by Strategy, at *view.View) (view.Seen, error) {
	var s view.Seen
	params := ""
	if by == (ByQResync{}) && at.UIDValidity != 0 {
		if err := c.Enable(ctx, "QRESYNC"); err != nil && !errors.Is(err, ErrNotEnabled) {
			return s, err
		}
		params, s.QResync = fmt.Sprintf("(QRESYNC (%d %d))", at.UIDValidity, max(1, at.ModSeq)), true
	}
	var bad error
	vanished := func(u imapclient.Untagged) bool {
		if !u.Is("VANISHED") {
			return u.Is("FETCH")
		}
		_, gone, err := parseVanished(u.Rest)
		if err != nil {
			bad = err
			return true
		}
		s.Vanished = s.Vanished.Union(gone)
		return true
	}
	sel, err := c.Select(ctx, true, at.Mailbox, params, vanished)
	if err != nil {
		return s, err
	}
	if sel.UIDNotSticky {
		return s, fmt.Errorf("%w: UIDNOTSTICKY", ErrUnsettled)
	}
	s.UIDValidity, s.UIDNext, s.ModSeq = sel.UIDValidity, sel.UIDNext, sel.ModSeq
	if s.QResync && (sel.NoModSeq || sel.ModSeq == 0) {
		s.QResync = false
	}
	s.UIDs, err = c.settle(ctx, false, vanished)
	if err == nil && bad != nil {
		err = fmt.Errorf("%w: %w", ErrUnsettled, bad)
	}
	return s, err
}
