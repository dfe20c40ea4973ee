package proxy

import (
	"context"
	"net"
	"slices"
	"time"

	"imapproxy/proxy/conn"
	"imapproxy/proxy/session"
)

// A server leaves when a successor has its listening sockets: it accepts no more clients, and goes on serving its
// sessions for a time that may be hours.

// Pause stops accepting. The sockets stay open, since they may be another process's as well, and since Resume may
// have to accept again. It returns at once; a client that was accepted before is served.
func (s *Server) Pause() {
	s.leaving.Store(true)
	s.accepts.shut()
	for _, l := range s.listeners {
		conn.StopAccepting(l.tcp)
	}
}

// Resume accepts again.
func (s *Server) Resume() {
	for _, l := range s.listeners {
		conn.AcceptAgain(l.tcp)
	}
	s.leaving.Store(false)
	s.accepts.open()
}

// Sockets calls f with each listener that is bound, and its address in the configuration.
func (s *Server) Sockets(f func(name, address string, l *net.TCPListener)) {
	for _, l := range s.listeners {
		if l.tcp != nil {
			f(l.opts.Name, l.opts.Address, l.tcp)
		}
	}
}

// leaveLook is how often Leave looks for sessions that may end.
const leaveLook = time.Second

// Leave ends the sessions within a time, and returns when none is left, or when ctx ends. Pause comes before it. The
// sessions end at even intervals over four fifths of the time, so that their clients don't all reconnect at once: the
// ones that have been idle for longest first, and each when no command of its is under way. Those that are busy
// all the time end after that. Then clients that don't log in are cut off.
func (s *Server) Leave(ctx context.Context, within time.Duration) {
	begun := s.now()
	ends := pace{begun: begun, within: within * 4 / 5, done: 1} // the first one ends after an interval, too
	tick := time.NewTicker(min(leaveLook, max(within/50, 10*time.Millisecond)))
	defer tick.Stop()
	for s.reg.Total() > 0 {
		now := s.now()
		ends.of = ends.done + int(s.reg.LoggedIn()) // some end by themselves
		late := !now.Before(begun.Add(ends.within))
		if !late && ends.wait(now) <= 0 {
			for _, c := range s.idlest() {
				c.Terminate(session.ReasonHandover)
				if ends.step(); ends.wait(now) > 0 {
					break
				}
			}
		}
		if late {
			s.lastOnes(!now.Before(begun.Add(within)))
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// lastOnes ends all sessions, also the busy ones: when their commands are done, or at once.
func (s *Server) lastOnes(now bool) {
	s.reg.Each(func(c *session.Session) {
		switch {
		case now:
			c.Abort(session.ReasonHandover)
		case c.LoggedIn() && c.Reason() == "" && !c.Busy():
			c.Terminate(session.ReasonHandover)
		}
	})
}

// idlest returns the sessions that may end now, the one first that has been silent for longest.
func (s *Server) idlest() (idle []*session.Session) {
	s.reg.Each(func(c *session.Session) {
		if c.LoggedIn() && c.Reason() == "" && !c.Busy() {
			idle = append(idle, c)
		}
	})
	slices.SortFunc(idle, func(a, b *session.Session) int { return a.LastHeard().Compare(b.LastHeard()) })
	return idle
}
