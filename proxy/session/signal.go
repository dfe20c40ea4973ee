package session

import (
	"imapproxy/internal/clock"
	"imapproxy/proxy/conn"
	"imapproxy/proxy/upstream"
)

// A goroutine that doesn't own a session (the sweep, the hub, a reload, an admin request, another session) can
// do two things to it: Signal asks the owner for something, Terminate ends the session. Both return at once
// and neither writes nor closes a connection: they interrupt the owner's wait, and the owner does the work.

// Signal asks the owner for g. It returns true if the phase that runs takes g and g wasn't pending. Of the
// signals that wake a parked session, only the first is kept.
func (s *Session) Signal(g Signal) bool {
	s.control.mu.Lock()
	defer s.control.mu.Unlock()
	return s.signalLocked(g)
}

func (s *Session) signalLocked(g Signal) bool {
	c := &s.control
	same := g
	if g&sigWake != 0 {
		same = sigWake
	}
	if s.Reason() != "" || phases[c.phase].takes&g == 0 || c.pending&same != 0 {
		return false
	}
	c.pending |= g
	s.interruptLocked(conn.Reads)
	return true
}

// takeSignals returns and clears the pending signals; the owner of a parked session calls it. interrupted says
// that a read of the client was interrupted.
func (s *Session) takeSignals(interrupted bool) Signal {
	c := &s.control
	c.mu.Lock()
	defer c.mu.Unlock()
	g := c.pending
	c.pending = 0
	if (g != 0 || interrupted) && s.Reason() == "" {
		s.client.Rearm(conn.Reads)
	}
	return g
}

// pausing says whether the relay is asked to stop, for parking, to be dormant, or since its backend connection is lost.
func (s *Session) pausing() bool {
	s.control.mu.Lock()
	defer s.control.mu.Unlock()
	return s.control.pending&(SigPause|SigDormant|sigLost|sigVisit) != 0 && s.Reason() == ""
}

// losing says whether the relay is asked to stop since the backend connection is lost.
func (s *Session) losing() bool {
	s.control.mu.Lock()
	defer s.control.mu.Unlock()
	return s.control.pending&sigLost != 0 && s.Reason() == ""
}

// visiting says whether the relay is asked to stop since the next command is about a shared mailbox.
func (s *Session) visiting() bool {
	s.control.mu.Lock()
	defer s.control.mu.Unlock()
	return s.control.pending&sigVisit != 0 && s.Reason() == ""
}

// Terminate ends the session with a reason. It interrupts the owner at the end of the response that is being
// written; the owner then tells the client, if IMAP has words for the reason. Only the first call has an
// effect.
func (s *Session) Terminate(r Reason) {
	now := clock.Of(s.env.Now())
	s.endedAt.CompareAndSwap(0, now)
	if !s.setReason(r) {
		return
	}
	s.show(Ended)
	s.inFlight.Stop()
	s.abandon()
	if r.cuts() {
		s.abort()
		return
	}
	s.out.setLast([]byte(r.Bye()))
}

// Abort ends the session with a reason and sends nothing more.
func (s *Session) Abort(r Reason) {
	s.setReason(r)
	s.abort()
}

// abort ends a session and sends nothing more: reads, writes and waits for a free place return at once, and
// the owner closes the connections. The caller has set a reason before.
func (s *Session) abort() {
	s.aborted.Store(true)
	s.inFlight.Stop()
	s.abandon()
	s.control.mu.Lock()
	defer s.control.mu.Unlock()
	s.interruptLocked(conn.Both)
	s.interruptBackendLocked()
}

// hangUp interrupts the owner of a session that ends, unless phaseEnd already runs. It may be called from
// within either side's Pump.
func (s *Session) hangUp() {
	s.control.mu.Lock()
	defer s.control.mu.Unlock()
	if s.control.phase != phaseEnd {
		s.interruptLocked(conn.Reads)
		s.interruptBackendLocked()
	}
}

// interruptLocked interrupts the goroutine or the poller that waits for the client.
func (s *Session) interruptLocked(sides conn.Sides) {
	s.client.Interrupt(sides)
	if p := s.control.phase; p == phaseParked || p == phaseDormant {
		s.env.Poller.Wake(s.client)
	}
}

func (s *Session) interruptBackendLocked() {
	if b := s.backend.Load(); b != nil {
		b.Interrupt(conn.Both)
	}
	for _, g := range s.control.guests {
		g.conn.Interrupt(conn.Both)
	}
}

// onBackend calls f with the session's backend connection, if it has one. Goroutines that don't own the session use
// the connection only so: once its owner has given it back, the handle can't be used. f doesn't wait.
func (s *Session) onBackend(f func(*upstream.Conn)) {
	s.control.mu.Lock()
	defer s.control.mu.Unlock()
	if b := s.backend.Load(); b != nil {
		f(b)
	}
}

// rested clears the interruptions that have stopped both of the relay's readers, or have woken a dormant session. It returns
// the signals that are pending, and false if the session ends.
func (s *Session) rested() (asked Signal, goesOn bool) {
	s.control.mu.Lock()
	defer s.control.mu.Unlock()
	if s.Reason() != "" {
		return 0, false
	}
	s.client.Rearm(conn.Reads)
	s.backend.Load().Rearm(conn.Both)
	return s.control.pending, true
}
