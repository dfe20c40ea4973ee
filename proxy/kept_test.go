package proxy

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"imapproxy/proxy/imapclient"
	"imapproxy/proxy/park"
	"imapproxy/proxy/park/resync"
	"imapproxy/proxy/upstream"
)

func TestAFailedParkHasAReason(t *testing.T) {
	for _, c := range []struct {
		err     error
		why     kept
		failure bool
	}{
		{resync.ErrTooMany, keptTooBig, false},
		{fmt.Errorf("INBOX: %w", resync.ErrTooMany), keptTooBig, false},
		{resync.ErrNoModSeq, keptNoModSeq, false},
		{errNoModSeqs, keptNoQResync, false},
		{fmt.Errorf("%w: UID SEARCH isn't answered", resync.ErrUnsettled), keptUnsettled, false},
		{resync.ErrName, keptName, false},
		{&upstream.Refused{}, keptCredentials, true},
		{&upstream.Unavailable{Stage: upstream.StageDial, Err: errors.New("connection refused")}, keptUnavailable, true},
		{&imapclient.Refusal{Verb: "EXAMINE", Status: "NO", Code: "NOPERM"}, keptRefused, true},
		{resync.ErrNotEnabled, keptRefused, true},
		{context.DeadlineExceeded, keptSlow, true},
		{park.ErrTooSlow, keptSlow, true},
		{park.ErrLost, keptNoWatch, true},
		{park.ErrHubClosed, keptNoWatch, true},
		{errors.New("what nobody has thought of"), keptFailed, true},
	} {
		if why, failure := keptBy(c.err); why != c.why || failure != c.failure {
			t.Errorf("%v: %v, a failure: %v; want %v, %v", c.err, why, failure, c.why, c.failure)
		}
	}
}
