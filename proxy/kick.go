package proxy

import (
	"context"
	"slices"
	"time"

	"imapproxy/proxy/session"
)

// Kick says which sessions an operator ends. One of User, Session and Backend is required; User
// and Session together are the session with this id, if it is the user's.
type Kick struct {
	User    string // canonical name: all sessions of the user
	Session string // the session with this id
	Backend string // its name or id: all sessions there
	// Forget also closes their users' warm connections and drops the cached credentials, so that the backend
	// verifies the next login.
	Forget bool
	DryRun bool // only count
}

// Kicked is the result of a Kick.
type Kicked struct {
	Sessions []string // ids of those that were told to end, maxKickedShown at most
	Count    int      // number of all of them
	Users    int      // to how many users they belong
	Left     int      // how many of them hadn't ended when ctx ended
	Warm     int      // closed warm connections
	// Known: there is the session or the backend that was named. A user needs no session to be known.
	Known bool
}

// maxKickedShown bounds Kicked.Sessions.
const maxKickedShown = 1000

// Kick ends attached and parked sessions with BYE, and waits until they have ended, or until ctx ends. It
// doesn't lock the user: their next login is checked as usual. A login in progress isn't a session yet, and
// its password may have been accepted before the kick: if Kick ends all of the user's sessions, that login
// ends when it becomes one.
func (s *Server) Kick(ctx context.Context, k Kick) Kicked {
	var out Kicked
	if k.User != "" && k.Session == "" && !k.DryRun {
		now := s.now()
		s.reg.NoteKick(k.User, now, now.Add(-s.set.Load().Limits.PreloginTimeout))
	}
	users := map[string]bool{}
	if k.User != "" && k.Session == "" {
		users[k.User] = true
	}
	var told []*session.Session
	meant := s.meant(k)
	switch {
	case k.Backend != "":
		out.Known = len(s.set.Load().Router.Named(k.Backend)) > 0
	case k.Session != "":
		out.Known = len(meant) > 0
	default:
		out.Known = true
	}
	for _, c := range meant {
		if c.Reason() != "" {
			continue
		}
		users[c.User()] = true
		told = append(told, c)
		if len(out.Sessions) < maxKickedShown {
			out.Sessions = append(out.Sessions, c.ID())
		}
	}
	out.Count, out.Users = len(told), len(users)
	if k.DryRun {
		return out
	}
	for _, c := range told {
		c.Terminate(session.ReasonKicked)
	}
	pool := s.set.Load().Park.Pool
	forget := func() {
		if k.Forget && pool != nil {
			for user := range users {
				out.Warm += pool.ForgetUser(user)
			}
		}
	}
	forget()
	tick := time.NewTicker(kickPoll)
	defer tick.Stop()
	for {
		out.Left = 0
		for _, c := range told {
			if s.reg.Has(c) {
				out.Left++
			}
		}
		if out.Left == 0 {
			break
		}
		select {
		case <-tick.C:
			continue
		case <-ctx.Done():
		}
		break
	}
	forget() // the connection of an ended session's watch may go to the pool
	return out
}

// meant returns the sessions that a Kick names.
func (s *Server) meant(k Kick) (all []*session.Session) {
	switch {
	case k.Backend != "":
		ids := s.set.Load().Router.Named(k.Backend)
		s.reg.Each(func(c *session.Session) {
			if c.LoggedIn() && slices.Contains(ids, c.Backend()) && (k.User == "" || k.User == c.User()) {
				all = append(all, c)
			}
		})
	case k.User != "":
		all = s.reg.OfUser(k.User)
	default:
		if c := s.reg.Find(k.Session); c != nil && c.LoggedIn() {
			all = []*session.Session{c}
		}
	}
	if k.Session != "" {
		all = slices.DeleteFunc(all, func(c *session.Session) bool { return c.ID() != k.Session })
	}
	return all
}

// kickPoll is how often Kick checks whether sessions have ended.
const kickPoll = 10 * time.Millisecond

// PlacementOf returns the user's present placement by the settings' Placement; "": none.
func (s *Server) PlacementOf(ctx context.Context, user string) (string, error) {
	placement := s.set.Load().Placement
	if placement == nil {
		return "", nil
	}
	where, _, err := placement(ctx, user)
	return where, err
}

// Failure is a failed login or resume of a user, for operators.
type Failure = session.Failure

// Failures returns the last failures of a user, the latest first.
func (s *Server) Failures(user string) []Failure { return s.reg.Failures(user) }
