package session

import (
	"context"
	"fmt"

	"imapproxy/proxy/conn"
)

// A session's life is a chain of phases. While one runs, it alone owns the session: both
// connections, and all fields of Session's section "of the phase that runs". It returns what
// follows it. Nothing but this file starts a session's goroutine, changes its phase or closes it.
//
//	prelogin → relay → detach → parked → resume → relay
//	             ↑        ↓                  ↓       ↑
//	             └────────┘              catch-up ───┘
//
//	relay, detach, catch-up → recover → resume, or parked where the client idles
//
// and from each of them to end.

// phase is a stretch of a session's life.
type phase uint8

const (
	// phasePrelogin greets the client and answers it until it has logged in (login.go,
	// login_authenticate.go, login_attach.go). It has no backend connection until its last step.
	phasePrelogin phase = iota
	// phaseRelay carries IMAP between client and backend (relay.go). Two goroutines own one
	// direction each, and come to rest together.
	phaseRelay
	// phaseDetach learns what the client counts, and gives the backend connection away
	// (park_detach.go).
	phaseDetach
	// phaseParked serves the client without a backend (park_serve.go). While there is nothing to do it
	// has no goroutine: the poller owns the session (conn.Poller).
	phaseParked
	// phaseResume gets a backend connection and tells the client what it has missed (resume.go).
	phaseResume
	// phaseCatchUp relays one command at a time, with message numbers translated, while the
	// client can't be told of messages that are gone (catchup.go).
	phaseCatchUp
	// phaseRecover finds what the client counts after its backend connection was lost (recover.go).
	phaseRecover
	// phaseEnd says the last line, closes, and takes the session out of all that counts it. Nothing
	// follows it.
	phaseEnd

	// phaseAway is no phase: a parked session is with the poller, which runs it again. Whoever has
	// returned it owns nothing any more.
	phaseAway
)

// phases says of each phase what people see meanwhile, what may follow it, and which signals
// its owner takes.
var phases = [...]struct {
	name   string
	shown  Attachment
	before []phase
	takes  Signal
}{
	phasePrelogin: {"prelogin", None, []phase{phaseRelay, phaseEnd}, 0},
	phaseRelay:    {"relay", Attached, []phase{phaseRelay, phaseDetach, phaseRecover, phaseEnd}, SigPause | sigLost},
	phaseDetach:   {"detach", Parking, []phase{phaseRelay, phaseParked, phaseRecover, phaseEnd}, 0},
	phaseParked:   {"parked", Parked, []phase{phaseResume, phaseEnd}, SigTell | SigAlive | sigWake},
	phaseResume:   {"resume", Resuming, []phase{phaseRelay, phaseCatchUp, phaseEnd}, 0},
	phaseCatchUp:  {"catch-up", CatchingUp, []phase{phaseRelay, phaseRecover, phaseEnd}, sigLost},
	phaseRecover:  {"recover", Resuming, []phase{phaseResume, phaseParked, phaseEnd}, 0},
	phaseEnd:      {"end", Ended, nil, 0},
}

func (p phase) String() string { return phases[p].name }

// mayPrecede says whether next may follow p.
func (p phase) mayPrecede(next phase) bool {
	for _, q := range phases[p].before {
		if q == next {
			return true
		}
	}
	return false
}

// Live is a session's life, from its first phase on, in the goroutine of accept. ctx ends the first
// phase.
func (s *Session) Live(ctx context.Context) { s.follow(s.prelogin(ctx)) }

// follow goes from one phase to the next, in a goroutine that nothing has used before: a stack
// that has grown would stay with an idle session.
func (s *Session) follow(next phase) {
	if next != phaseAway {
		s.change(next)
		go s.run(next)
	}
}

func (s *Session) run(p phase) {
	switch p {
	case phaseRelay:
		s.follow(s.relay())
	case phaseDetach:
		s.follow(s.detach())
	case phaseParked:
		s.watch()
		s.follow(s.parked(false))
	case phaseResume:
		s.follow(s.resume())
	case phaseCatchUp:
		s.follow(s.catchUp())
	case phaseRecover:
		s.follow(s.recover())
	case phaseEnd:
		s.close()
	}
}

// wakeHandler is a parked session as conn.Poller sees it.
type wakeHandler struct{ s *Session }

// Wake implements conn.Handler.
func (z wakeHandler) Wake() { z.s.follow(z.s.parked(true)) }

// beside runs the other direction of a relay, and says when that is done.
func (s *Session) beside(f func()) (done <-chan struct{}) {
	c := make(chan struct{})
	go func() { // ends with f, which the relay waits for
		defer close(c)
		f()
	}()
	return c
}

// change makes next the phase that runs. What was signalled to the one before is void: the next
// phase sees to it or it has no meaning any more.
func (s *Session) change(next phase) {
	c := &s.control
	c.mu.Lock()
	before := c.phase
	c.phase, c.pending = next, 0
	switch {
	case next == phaseEnd && !s.aborted.Load():
		s.client.Rearm(conn.Both)
	case next != phaseEnd && s.Reason() == "":
		s.client.Rearm(conn.Reads)
	}
	c.mu.Unlock()
	if !before.mayPrecede(next) {
		s.env.Bug(fmt.Sprintf("session %s: %s follows %s", s.id, next, before))
	}
	s.show(phases[next].shown)
}

// close ends the session for good: the last line, both connections, and all that counts it.
func (s *Session) close() {
	in := s.loggedIn.Load() // else login.go has said what there was to say
	if in {
		s.lastWords()
	}
	if s.aborted.Load() {
		_ = s.client.Abort()
	} else {
		_ = s.client.Close()
	}
	if in {
		s.account()
	}
	s.deregister()
}

// deregister takes the session out of all that counts it.
func (s *Session) deregister() {
	r := s.env.Registry
	r.exit(s)
	r.remove(s)
	r.leave(s.addr.Addr())
	at := s.Attachment()
	if at == Ended {
		at = Attachment(s.endedAs.Load())
	}
	s.env.Telemetry.SessionClosed(string(s.Reason()), at.String(), s.env.Now().Sub(s.started))
	s.env.Gone()
}
