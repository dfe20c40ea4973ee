package session

import "time"

// LookAfter ends a session whose time is over, and has it parked where it is idle. The sweep calls it.
func (s *Session) LookAfter(now time.Time, idle time.Duration) {
	if !s.loggedIn.Load() {
		return // before login there is a deadline
	}
	quiet := now.Sub(time.Unix(0, s.lastSeen.Load()))
	switch {
	case s.Reason() != "":
		if now.Sub(time.Unix(0, s.endedAt.Load())) > 2*lingerFor {
			s.abort() // told to go, and stuck
		}
	case quiet > idle:
		s.Terminate(ReasonIdle)
	case s.halfClosed.Load() && quiet > orphanFor && s.out.atBoundary():
		s.Terminate(ReasonClientClosed)
	default:
		s.noticeBackend()
		s.askToPark(now)
		s.keepalive(now)
		s.noticeMove()
	}
}
