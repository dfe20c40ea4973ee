package session

import (
	"errors"

	"imapproxy/proxy/park/resync"
	"imapproxy/proxy/park/view"
)

// whyViewLost names, for metrics and the log, why the view of a session that ends with ReasonViewLost wasn't found. The names are a
// label's values, so they aren't renamed.
func whyViewLost(err error) string {
	for _, c := range []struct {
		err  error
		name string
	}{
		{view.ErrNoHistory, "no_history"},
		{view.ErrHistory, "history"},
		{view.ErrAdded, "added"},
		{view.ErrContradicts, "contradiction"},
		{view.ErrNotFollowed, "not_followed"},
		{view.ErrNoUIDNext, "no_uidnext"},
		{errNotFollowed, "mod_sequences"},
		{view.ErrGap, "mod_sequences"},
		{resync.ErrNoModSeq, "mod_sequences"},
		{view.ErrNoFlags, "flags"},
		{resync.ErrTooMany, "too_many"},
	} {
		if errors.Is(err, c.err) {
			return c.name
		}
	}
	return "other"
}

// byModSeqs says whether the client uses mod-sequences and the backend has no QRESYNC: then the session is never parked, and what the
// client has missed is found on a connection of its own alone.
func (s *Session) byModSeqs() bool {
	return s.park.sub != nil && s.compares() && s.inFlight.Client.Dialect != view.Plain
}
