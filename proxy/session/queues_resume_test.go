package session

import (
	"testing"
	"time"
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

func TestTheMoreSessionsRecoverTheLongerTheyPause(t *testing.T) {
	for sessions, want := range map[int64]time.Duration{0: recoverPause, 1: recoverPause, 50: time.Second, 10_000: maxRecoverPause} {
		if got := longestPause(sessions); got != want {
			t.Errorf("%d sessions: %v, want %v", sessions, got, want)
		}
	}
}
