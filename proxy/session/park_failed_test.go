package session

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"imapproxy/proxy/imapclient"
	"imapproxy/proxy/park"
	"imapproxy/proxy/park/resync"
	"imapproxy/proxy/track"
	"imapproxy/proxy/upstream"
)

func TestAFailedParkHasAReason(t *testing.T) {
	for _, c := range []struct {
		err     error
		why     track.Blocker
		failure bool
	}{
		{resync.ErrTooMany, track.BlockerTooBig, false},
		{fmt.Errorf("INBOX: %w", resync.ErrTooMany), track.BlockerTooBig, false},
		{resync.ErrNoModSeq, track.BlockerNoModSeq, false},
		{errNoModSeqs, track.BlockerNoQResync, false},
		{fmt.Errorf("%w: UID SEARCH isn't answered", resync.ErrUnsettled), track.BlockerUnsettled, false},
		{resync.ErrName, track.BlockerName, false},
		{&upstream.Refused{}, track.BlockerCredentials, true},
		{&upstream.Unavailable{Stage: upstream.StageDial, Err: errors.New("connection refused")}, track.BlockerUnavailable, true},
		{&imapclient.Refusal{Verb: "EXAMINE", Status: "NO", Code: "NOPERM"}, track.BlockerRefused, true},
		{resync.ErrNotEnabled, track.BlockerRefused, true},
		{context.DeadlineExceeded, track.BlockerSlow, true},
		{park.ErrTooSlow, track.BlockerSlow, true},
		{park.ErrLost, track.BlockerNoWatch, true},
		{park.ErrHubClosed, track.BlockerNoWatch, true},
		{errors.New("what nobody has thought of"), track.BlockerFailed, true},
	} {
		if why, failure := blockerOf(c.err); why != c.why || failure != c.failure {
			t.Errorf("%v: %v, a failure: %v; want %v, %v", c.err, why, failure, c.why, c.failure)
		}
	}
}

func TestAFailedParkIsTriedAgainLaterEachTime(t *testing.T) {
	var pauses []time.Duration
	for n := uint8(1); n < 8; n++ {
		pauses = append(pauses, parkPause(n))
	}
	want := []time.Duration{10 * time.Second, 20 * time.Second, 40 * time.Second, 80 * time.Second, 160 * time.Second, 5 * time.Minute, 5 * time.Minute}
	if !slices.Equal(pauses, want) || parkPause(101) != 5*time.Minute {
		t.Errorf("%v, and %v at last", pauses, parkPause(101))
	}
}
