package session

import (
	"time"

	"imapproxy/internal/clock"
)

// LookAfter ends a session whose time is over, and asks an idle one to park. The sweep calls it.
func (s *Session) LookAfter(now time.Time, idle time.Duration) {
	if !s.loggedIn.Load() {
		return // before login the deadline of the context applies
	}
	quiet := now.Sub(clock.At(s.lastSeen.Load()))
	switch {
	case s.Reason() != "":
		if now.Sub(clock.At(s.endedAt.Load())) > 2*lingerFor {
			s.abort() // the session was ended, but its owner is stuck
		}
	case quiet > idle:
		s.Terminate(ReasonIdle)
	case s.halfClosed.Load() && quiet > orphanFor && s.out.atBoundary():
		s.Terminate(ReasonClientClosed)
	default:
		s.noticeBackend()
		s.reassure(now)
		if s.Visiting() {
			s.noticeVisitStall(now)
		} else {
			s.noticeStall(now)
		}
		s.askToPark(now)
		s.askToBeDormant(now)
		s.keepalive(now)
		s.noticeExpiry(now)
		s.noticeMove()
	}
}
