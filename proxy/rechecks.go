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

// noticeSources has all sessions looked at where a source has changed. The sweep calls it.
func (s *Server) noticeSources() {
	v := auth.Version(s.set.Load().Sources)
	if s.sourcesSeen.Swap(v) != v {
		s.recheckSoon()
	}
}

// recheckSoon has all sessions looked at.
func (s *Server) recheckSoon() {
	select {
	case s.rechecks <- struct{}{}:
	default: // a round that hasn't begun
	}
}

// recheckSessions looks at the sessions when a source has changed, and every Options.Recheck.
// Few are hashed for at a time, in the name of their clients' networks: logins go on meanwhile.
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

// recheckEvery is how often sessions that don't come back are asked about: where each resume asks
// there is no time to go by, and it is the default.
func (o Options) recheckEvery() time.Duration {
	return max(cmp.Or(o.Recheck, session.DefaultRecheck), time.Second)
}
