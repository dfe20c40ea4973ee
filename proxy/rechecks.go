package proxy

import (
	"cmp"
	"context"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"imapproxy/proxy/auth"
	"imapproxy/proxy/session"
)

// noticeSources starts a recheck of all sessions if a source has changed. The sweep calls it.
func (s *Server) noticeSources() {
	v := auth.Version(s.set.Load().Sources)
	if s.sourcesSeen.Swap(v) != v {
		s.recheckSoon()
	}
}

// recheckSoon starts a recheck of all sessions.
func (s *Server) recheckSoon() {
	select {
	case s.rechecks <- struct{}{}:
	default: // a round is pending already
	}
}

// recheckSessions verifies the users of sessions again when a source has changed, and every Options.Recheck.
// Few passwords are hashed at a time, in turn between the clients' networks, so that logins continue
// meanwhile.
func (s *Server) recheckSessions(ctx context.Context) {
	for {
		timer := time.NewTimer(s.set.Load().recheckEvery())
		changed := false
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-s.rechecks:
			changed = true
		case <-timer.C:
		}
		timer.Stop()
		var looking errgroup.Group
		looking.SetLimit(runtime.GOMAXPROCS(0))
		set := s.set.Load().sessions
		s.reg.Each(func(c *session.Session) {
			if ctx.Err() != nil || !c.LoggedIn() || c.Reason() != "" || c.Holds(set, s.now(), changed) {
				return
			}
			looking.Go(func() error { c.Look(ctx); return nil })
		})
		_ = looking.Wait()
	}
}

// recheckEvery returns how often sessions that don't resume are verified again. If each resume verifies the
// user, it is the default.
func (o Options) recheckEvery() time.Duration {
	return max(cmp.Or(o.Recheck, session.DefaultRecheck), time.Second)
}
