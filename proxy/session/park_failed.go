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

// errNoModSeqs says that the client counts mod-sequences, which a comparison can't give.
var errNoModSeqs = errors.New("a client of CONDSTORE on a backend without QRESYNC")

// blockerOf returns why an attempt to park failed. failure is false if the mailbox or the client can't be
// parked by its nature and no component is at fault.
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

// After a failed attempt to park, the next one comes after parkAgain; each further pause is twice as long, up
// to parkAgainAtMost. The obstacle may go away soon (a backend that restarts) or never (a mailbox that is too
// big).
const (
	parkAgain       = 10 * time.Second
	parkAgainAtMost = 5 * time.Minute
)

// parkPause returns the pause after so many failed attempts in a row.
func parkPause(failures uint8) time.Duration {
	return min(parkAgain<<min(failures-1, 10), parkAgainAtMost)
}
