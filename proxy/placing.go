package proxy

import (
	"context"
	"errors"
	"slices"
	"time"

	"imapproxy/proxy/auth"
	"imapproxy/proxy/auth/authpolicy"
	"imapproxy/proxy/session"
)

// ErrNoPlace is the error of Place where the settings have no placements that can be changed.
var ErrNoPlace = errors.New("placements can't be changed here")

// Place changes a placement that PlacementOf tells of, if it is still from.
func (s *Server) Place(ctx context.Context, user, from, to string) error {
	place := s.set.Load().Place
	if place == nil {
		return ErrNoPlace
	}
	return place(ctx, user, from, to)
}

// Places says whether Place can change placements.
func (s *Server) Places() bool { return s.set.Load().Place != nil }

// PlacedBy is the placement that a source of credentials has for a user, and the source's name; it comes before PlacementOf's. "": none has, or
// none that can say so without the user's password.
func (s *Server) PlacedBy(user string) (placement, source string) {
	for _, one := range s.set.Load().Sources {
		p, ok := one.(auth.Placer)
		if !ok {
			continue
		}
		if placement, known := p.Placed(user); known {
			return placement, one.Name()
		}
	}
	return "", ""
}

// End ends, with a BYE, the sessions of a user that have connections to a backend (its ID), since their time
// to leave it is over. It doesn't wait, and returns how many sessions it ends.
func (s *Server) End(user, backend string) (n int) {
	for _, c := range s.reg.OfUser(user) {
		if at := c.Attachment(); c.Backend() == backend && at != session.Parked && at != session.Ended && c.Reason() == "" {
			c.Terminate(session.ReasonMoved)
			n++
		}
	}
	for _, c := range s.reg.GuestsOf(user) {
		c.Terminate(session.ReasonMoved)
	}
	return n
}

// SessionsAt counts the sessions of a backend or of a user.
type SessionsAt struct {
	// Attachments counts them by the state of their backend connection.
	Attachments map[string]int
	// Held counts those that aren't parked, by the reason.
	Held map[string]int
}

// SessionsOn returns the counts of several backends, by the backends' IDs.
func (s *Server) SessionsOn(backends ...string) map[string]SessionsAt {
	all := make(map[string]SessionsAt, len(backends))
	for _, id := range backends {
		all[id] = SessionsAt{make(map[string]int), make(map[string]int)}
	}
	s.reg.Each(func(c *session.Session) {
		if c.LoggedIn() {
			if at, ok := all[c.Backend()]; ok {
				at.count(c)
			}
		}
	})
	return all
}

// EachSeen calls f for the logged-in sessions that have read or written something since a time, with the name of their backend.
func (s *Server) EachSeen(since time.Time, f func(session, user, backend string)) {
	s.reg.Each(func(c *session.Session) {
		if c.LoggedIn() && !c.LastSeen().Before(since) {
			f(c.ID(), c.User(), c.BackendName())
		}
	})
}

// SessionsOf returns the counts of a user.
func (s *Server) SessionsOf(user string) SessionsAt {
	all := SessionsAt{make(map[string]int), make(map[string]int)}
	for _, c := range s.reg.OfUser(user) {
		all.count(c)
	}
	return all
}

// Lacks returns the capabilities that clients of a user were told and that a backend (its ID) is known to lack, sorted.
func (s *Server) Lacks(user, backend string) []string {
	var all []string
	for _, c := range s.reg.OfUser(user) {
		if c.LoggedIn() {
			all = append(all, c.Lacks(backend)...)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func (a SessionsAt) count(c *session.Session) {
	at := c.Attachment()
	a.Attachments[at.String()]++
	if at != session.Attached {
		return // nothing holds it, and most are parked
	}
	if i := c.Info(); i.NotParked != "" {
		a.Held[i.NotParked]++
	}
}

// Policy is how well the policy server answers; the zero State where there is none.
func (s *Server) Policy() authpolicy.State { return s.set.Load().Policy.State() }
