package session

import (
	"context"
	"errors"
	"time"

	"imapproxy/proxy/imapclient"
	"imapproxy/proxy/park"
	"imapproxy/proxy/park/resync"
	"imapproxy/proxy/track"
	"imapproxy/proxy/upstream"
)

// errNoModSeqs: the client counts mod-sequences, which a comparison can't give.
var errNoModSeqs = errors.New("a client of CONDSTORE on a backend without QRESYNC")

// blockerOf is why an attempt to park came to nothing. failure is false where that
// is in the nature of the mailbox or the client, and nobody's fault.
func blockerOf(err error) (k track.Blocker, failure bool) {
	var refused *upstream.Refused
	var down *upstream.Unavailable
	var refusal *imapclient.Refusal
	switch {
	case errors.Is(err, errNoModSeqs):
		return track.BlockerNoQResync, false
	case errors.Is(err, resync.ErrTooMany):
		return track.BlockerTooBig, false
	case errors.Is(err, resync.ErrNoModSeq):
		return track.BlockerNoModSeq, false
	case errors.Is(err, resync.ErrUnsettled):
		return track.BlockerUnsettled, false
	case errors.Is(err, resync.ErrName):
		return track.BlockerName, false
	case errors.As(err, &refused):
		return track.BlockerCredentials, true
	case errors.As(err, &refusal), errors.Is(err, resync.ErrNotEnabled):
		return track.BlockerRefused, true
	case errors.As(err, &down):
		return track.BlockerUnavailable, true
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, park.ErrTooSlow):
		return track.BlockerSlow, true
	case errors.Is(err, park.ErrLost), errors.Is(err, park.ErrHubClosed):
		return track.BlockerNoWatch, true
	}
	return track.BlockerFailed, true
}

// A park that came to nothing is tried again after parkAgain, twice as late each
// time up to parkAgainAtMost: what was in its way may be gone in a moment (a backend
// that restarts), or never (a mailbox that is too big).
const (
	parkAgain       = 10 * time.Second
	parkAgainAtMost = 5 * time.Minute
)

// parkPause is how long a session is left alone after so many failures in a row.
func parkPause(failures uint8) time.Duration {
	return min(parkAgain<<min(failures-1, 10), parkAgainAtMost)
}
