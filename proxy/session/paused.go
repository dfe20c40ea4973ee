package session

import (
	"time"
)

// While a backend is paused (routing.Pause) nothing new is sent to it. Attached sessions are parked at their
// next safe point (LetGo), as those that leave a backend, but their users stay. Sessions without a connection,
// and logins, wait until the pause ends.

// pausedOut waits while the session's backend is paused, and returns for how long it did. While waits returns
// true a client that waits for an answer is sent "Still here" lines. The session has no connection.
func (s *Session) pausedOut(heard *time.Time, waits func() bool) (waited time.Duration) {
	var began time.Time
	for s.Reason() == "" {
		left, changed, paused := s.settings().Router.Paused(s.picked().Backend.ID)
		if !paused {
			break
		}
		if began.IsZero() {
			began = time.Now()
		}
		ctx, cancel := s.within(min(left+time.Millisecond, stillEvery))
		select {
		case <-changed:
		case <-ctx.Done():
		}
		cancel()
		if s.Reason() == "" && waits() {
			s.stillHere(heard)
		}
	}
	if began.IsZero() {
		return 0
	}
	return time.Since(began)
}

// pausedForWatch says whether the hub may make no connection for the session's user now: their backend is
// paused, and no session of theirs is still attached there. One that is may need a watch of its mailbox, or a
// resync, before it can be parked.
func (s *Session) pausedForWatch() bool {
	backend := s.picked().Backend.ID
	if _, _, paused := s.settings().Router.Paused(backend); !paused {
		return false
	}
	for _, c := range s.env.Registry.OfUser(s.user) {
		if at := c.Attachment(); c.Backend() == backend && (at == Attached || at == Parking || at == CatchingUp) {
			return false
		}
	}
	return true
}
