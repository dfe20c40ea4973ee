package proxy

import "imapproxy/proxy/session"

// LetGo makes the sessions of a user ("": of all users) give up their backend connections, since the user
// moves to another backend (docs/cluster.md). Each is parked at its next safe point and keeps its client. A
// session that can't be parked now tries again at its next command boundary, and at the next call. abort: the
// connections are closed now, and sessions that can't keep their client end. Logins whose password isn't proved
// are broken off, and ask again. LetGo doesn't wait, and may be
// called again.
func (s *Server) LetGo(user string, abort bool) {
	letGo := func(c *session.Session) {
		if c.LoggedIn() {
			c.LetGo(abort)
		}
	}
	s.reg.LetGo(user)
	if user == "" {
		s.reg.Each(letGo)
		return
	}
	for _, c := range s.reg.OfUser(user) {
		letGo(c)
	}
	for _, c := range s.reg.GuestsOf(user) { // of other users
		c.Terminate(session.ReasonMoved)
	}
}

// Stay takes LetGo back where it isn't needed any more: a move or a pause has ended before its users' sessions could give up their connections.
// It is called when the proxies' fleet or the pauses have changed. LetGo comes again for sessions that are still to leave.
func (s *Server) Stay() {
	s.reg.Each(func(c *session.Session) {
		if c.LoggedIn() {
			c.Stay()
		}
	})
}

// Leaving has the sessions that have to give up their backend connections and haven't yet.
type Leaving struct {
	Sessions int            // at the backend
	Held     map[string]int // by what holds them: a reason that a session isn't parked for; "" it is on its way
}

// Leaving counts the sessions that have to leave a backend (its ID; "" is all), by the reason why they are
// still there.
func (s *Server) Leaving(backend string) Leaving {
	out := Leaving{Held: map[string]int{}}
	s.reg.Each(func(c *session.Session) {
		if !c.LoggedIn() || backend != "" && c.Backend() != backend {
			return
		}
		if why, leaving := c.Leaves(); leaving {
			out.Sessions++
			out.Held[why]++
		}
	})
	return out
}
