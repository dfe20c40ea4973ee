package proxy

import (
	"context"
	"time"

	"imapproxy/proxy/session"
)

// Kick says whose sessions an operator ends.
type Kick struct {
	User    string // canonical name; required
	Session string // only the one with this id; "": all of the user's
	// Forget closes the user's warm connections too, and with them forgets the credentials that
	// the backend would otherwise not be asked about for a while.
	Forget bool
}

// Kicked is what came of it.
type Kicked struct {
	Sessions []string // ids of those that were told to end
	Left     int      // how many of them weren't gone yet when ctx ended
	Warm     int      // connections that were forgotten
}

// Kick ends sessions with BYE, attached and parked ones, and waits for them to be gone until ctx
// ends. It doesn't lock the user: their next login is checked as usual. A login in progress
// isn't a session yet, and its password may have been accepted before the kick: if Kick ends all of
// the user's sessions, that login ends when it becomes one.
func (s *Server) Kick(ctx context.Context, k Kick) Kicked {
	var out Kicked
	if k.Session == "" {
		now := s.now()
		s.reg.NoteKick(k.User, now, now.Add(-s.set.Load().Limits.PreloginTimeout))
	}
	told := map[*session.Session]bool{}
	for _, c := range s.reg.OfUser(k.User) {
		if (k.Session == "" || c.ID() == k.Session) && c.Reason() == "" {
			c.Terminate(session.ReasonKicked)
			told[c] = true
			out.Sessions = append(out.Sessions, c.ID())
		}
	}
	pool := s.set.Load().Park.Pool
	forget := func() {
		if k.Forget && pool != nil {
			out.Warm += pool.ForgetUser(k.User)
		}
	}
	forget()
	tick := time.NewTicker(kickPoll)
	defer tick.Stop()
	for {
		out.Left = 0
		for _, c := range s.reg.OfUser(k.User) {
			if told[c] {
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
	forget() // a session's watch goes to the pool as it ends
	return out
}

// kickPoll is how often Kick looks whether sessions are gone.
const kickPoll = 10 * time.Millisecond
