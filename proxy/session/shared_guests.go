package session

import (
	"slices"

	"imapproxy/proxy/conn"
	"imapproxy/proxy/upstream"
	"imapproxy/routing"
)

// visits records a connection to an owner's backend, so that the session's end interrupts it.
func (s *Session) visits(c *upstream.Conn, pick *routing.Pick) {
	s.control.mu.Lock()
	defer s.control.mu.Unlock()
	s.control.guests = append(s.control.guests, guest{c, pick})
	if s.Reason() != "" {
		c.Interrupt(conn.Both)
	}
}

// visited undoes visits.
func (s *Session) visited(c *upstream.Conn) {
	s.control.mu.Lock()
	defer s.control.mu.Unlock()
	s.control.guests = slices.DeleteFunc(s.control.guests, func(g guest) bool { return g.conn == c })
	if len(s.control.guests) == 0 {
		s.control.guests = nil
	}
}

// guestMoved says whether the owner of a mailbox that the session uses was sent to another backend. The sweep asks.
func (s *Session) guestMoved() bool {
	s.control.mu.Lock()
	defer s.control.mu.Unlock()
	for _, g := range s.control.guests {
		select {
		case <-g.pick.Void():
			return true
		default:
		}
	}
	return false
}

// Away says whether the session has no connection to its user's backend, since its client idles in another user's mailbox (restHome).
func (s *Session) Away() bool { return s.backend.Load() == nil && s.Visiting() }

// Visiting says whether the session uses a mailbox of another user.
func (s *Session) Visiting() bool {
	s.control.mu.Lock()
	defer s.control.mu.Unlock()
	return s.control.phase == phaseShared
}
