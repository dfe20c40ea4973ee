package proxy

import "imapproxy/proxy/session"

// DetachAt makes the sessions at a backend (its ID) give up their connections to it, since the backend is
// paused. Their users stay there. Each session is parked at its next safe point, as LetGo does it. DetachAt
// doesn't wait, and is called again while the pause lasts, for sessions that have logged in or couldn't be
// parked. It returns the users of sessions that still have connections.
func (s *Server) DetachAt(backend string) (attached map[string]bool) {
	attached = map[string]bool{}
	s.reg.Each(func(c *session.Session) {
		if !c.LoggedIn() || c.Backend() != backend || c.Away() {
			return
		}
		switch c.Attachment() {
		case session.Attached, session.CatchingUp:
			c.LetGo(false)
			attached[c.User()] = true
		case session.Parking:
			attached[c.User()] = true
		}
	})
	return attached
}

// GuestsAt counts the sessions that have a connection to another user's mail at a backend (its ID): they have a mailbox there selected, or ask for one. DetachAt leaves them
// alone, since none of them could find that mailbox as its client counts it on another connection.
func (s *Server) GuestsAt(backend string) (n int) {
	s.reg.Each(func(c *session.Session) {
		if c.GuestAt(backend) {
			n++
		}
	})
	return n
}
