package proxy

import (
	"context"
	"time"
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
// ends. It locks nobody out: the user's next login is judged as any. A login that is under way
// isn't a session yet.
func (s *Server) Kick(ctx context.Context, k Kick) Kicked {
	var out Kicked
	told := map[*Session]bool{}
	for _, c := range s.reg.ofUser(k.User) {
		if (k.Session == "" || c.id == k.Session) && c.reason() == "" {
			c.terminate(ReasonKicked)
			told[c] = true
			out.Sessions = append(out.Sessions, c.id)
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
		for _, c := range s.reg.ofUser(k.User) {
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
