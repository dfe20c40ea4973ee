package session

import (
	"sync"

	"imapproxy/proxy/conn"
	"imapproxy/telemetry"
)

// A goroutine that isn't a session's owner (the sweep, the hub, a reload, an operator's request,
// another session) can do two things to the session: signal asks its owner for something,
// Terminate ends it. Both return at once and neither writes nor closes: they interrupt what the
// owner waits for, and the owner does the rest.

// Signal is what a session's owner is asked for. Signals are bits: several may be pending.
type Signal uint8

const (
	SigPause     Signal = 1 << iota // the relay is to rest at the next boundary: the session may be parked
	SigTell                         // parkState.state is to be told to a parked client in IDLE
	SigAlive                        // a parked client in IDLE is to hear that the proxy is there
	SigLostWatch                    // a parked session is to come back: nothing says any more when to look
	SigOff                          // the same: parking was switched off
	SigDoubt                        // the same: its credential has been refused to another client
	sigLost                         // the relay is to rest: the backend connection is lost

	sigWake = SigLostWatch | SigOff | SigDoubt
)

// wake names the reason for which a parked session comes back though its client says nothing.
func (g Signal) wake() string {
	switch g & sigWake {
	case SigLostWatch:
		return telemetry.WakeLostWatch
	case SigOff:
		return telemetry.WakeOff
	}
	return telemetry.WakeDoubt
}

// control is what a session shares with the goroutines that signal or terminate it.
type control struct {
	// mu guards what follows, and the change of Session.backend: who interrupts a connection
	// holds it, so that the connection is this session's. Nothing waits under it.
	mu      sync.Mutex
	phase   phase
	pending Signal
}

// Signal asks for something, and says whether that is news to the owner: the phase that runs
// takes it, and it isn't pending. Of the signals that wake a parked session the first counts.
func (s *Session) Signal(g Signal) bool {
	c := &s.control
	c.mu.Lock()
	defer c.mu.Unlock()
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

// takeSignals returns what is pending, for the owner of a parked session. interrupted says that
// a read of the client was interrupted.
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

// pausing says whether the relay is asked to rest, for whatever reason.
func (s *Session) pausing() bool {
	s.control.mu.Lock()
	defer s.control.mu.Unlock()
	return s.control.pending&(SigPause|sigLost) != 0 && s.Reason() == ""
}

// losing says whether the relay rests since the backend connection is lost.
func (s *Session) losing() bool {
	s.control.mu.Lock()
	defer s.control.mu.Unlock()
	return s.control.pending&sigLost != 0 && s.Reason() == ""
}

// Terminate ends the session for a reason: at the end of the response that is being written the
// owner is interrupted, and tells the client, where IMAP has words for it. Only the first call counts.
func (s *Session) Terminate(r Reason) {
	now := s.env.Now().UnixNano()
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

// Abort ends the session for a reason, and without another byte.
func (s *Session) Abort(r Reason) {
	s.setReason(r)
	s.abort()
}

// abort ends a session without another byte: whoever reads, writes or waits for room returns now,
// and the owner closes. A reason was given before.
func (s *Session) abort() {
	s.aborted.Store(true)
	s.inFlight.Stop()
	s.abandon()
	s.control.mu.Lock()
	defer s.control.mu.Unlock()
	s.interruptLocked(conn.Both)
	s.interruptBackendLocked()
}

// hangUp interrupts the owner of a session that ends; the end itself isn't interrupted. It may be
// called from within either side's Pump.
func (s *Session) hangUp() {
	s.control.mu.Lock()
	defer s.control.mu.Unlock()
	if s.control.phase != phaseEnd {
		s.interruptLocked(conn.Reads)
		s.interruptBackendLocked()
	}
}

// interruptLocked interrupts who waits for the client.
func (s *Session) interruptLocked(sides conn.Sides) {
	s.client.Interrupt(sides)
	if s.control.phase == phaseParked {
		s.env.Poller.Wake(s.client)
	}
}

func (s *Session) interruptBackendLocked() {
	if b := s.backend.Load(); b != nil {
		b.Interrupt(conn.Both)
	}
}

// rested takes back the interruptions that have brought both of the relay's readers to rest,
// and says whether the session goes on.
func (s *Session) rested() bool {
	s.control.mu.Lock()
	defer s.control.mu.Unlock()
	if s.Reason() != "" {
		return false
	}
	s.client.Rearm(conn.Reads)
	s.backend.Load().Rearm(conn.Both)
	return true
}
