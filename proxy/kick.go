package proxy

import (
	"context"
	"sync"
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
// ends. It doesn't lock the user: their next login is checked as usual. A login in progress
// isn't a session yet, and its password may have been accepted before the kick: if Kick ends all of
// the user's sessions, that login ends when it becomes one.
func (s *Server) Kick(ctx context.Context, k Kick) Kicked {
	var out Kicked
	if k.Session == "" {
		now := s.now()
		s.kicks.note(k.User, now, now.Add(-s.set.Load().Limits.PreloginTimeout))
	}
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

// kicks remembers when users were kicked, for as long as a login that had begun before may take.
// The zero value is usable.
type kicks struct {
	mu   sync.Mutex // guards what follows
	last map[string]time.Time
}

// note remembers a kick, and forgets those of before old.
func (k *kicks) note(user string, now, old time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for other, at := range k.last {
		if at.Before(old) {
			delete(k.last, other)
		}
	}
	if k.last == nil {
		k.last = map[string]time.Time{}
	}
	k.last[user] = now
}

// since says whether a user was kicked at a time or later.
func (k *kicks) since(user string, t time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	at, ok := k.last[user]
	return ok && !at.Before(t)
}
