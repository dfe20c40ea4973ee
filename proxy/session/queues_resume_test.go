package session

import (
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"imapproxy/proxy/imapclient"
	"imapproxy/proxy/upstream"
)

// The first session that reaches a backend again brings those along that wait for their next attempt.
func TestASessionThatReachesItsBackendBringsOthersAlong(t *testing.T) {
	r := newResumes(ParkOptions{})
	reached := *r.reached.Load()
	done := make(chan struct{})
	go func() { // ends with the pause
		defer close(done)
		r.pause(t.Context(), 24*time.Hour, reached)
	}()
	r.reaches()
	<-done
	r.pause(t.Context(), 24*time.Hour, reached) // as if it had come while the attempt was made
	if later := *r.reached.Load(); later == reached {
		t.Error("later pauses end at once")
	}
}

// A session that the backend refuses isn't brought along: else it would ask again each time that another one succeeds.
func TestASessionThatIsRefusedIsntBroughtAlong(t *testing.T) {
	reached := *newEvent()
	for name, c := range map[string]struct {
		err  error
		wait bool
	}{
		"no answer":                {&upstream.Unavailable{Err: errors.New("connection refused")}, true},
		"the connection is lost":   {&imapclient.Broken{Err: io.EOF}, true},
		"too many connections":     {&upstream.Unavailable{Code: "LIMIT", Text: "Maximum number of connections exceeded"}, false},
		"a wrong password":         {&upstream.Refused{}, false},
		"the mailbox can't be had": {fmt.Errorf("attempt: %w", &imapclient.Refusal{Verb: "SELECT"}), false},
	} {
		if got := since(c.err, reached); (got != nil) != c.wait {
			t.Errorf("%s: it waits for others: %v, want %v", name, got != nil, c.wait)
		}
	}
}

func TestTheMoreSessionsRecoverTheLongerTheyPause(t *testing.T) {
	for sessions, want := range map[int64]time.Duration{0: recoverPause, 1: recoverPause, 50: time.Second, 10_000: maxRecoverPause} {
		if got := longestPause(sessions); got != want {
			t.Errorf("%d sessions: %v, want %v", sessions, got, want)
		}
	}
}
