package session

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"time"

	"imapproxy/proxy/conn"
	"imapproxy/telemetry"
)

// A session is a chain of phases. The phase that runs is the session's only owner: it owns both connections
// and the fields of Session under "Owned by the phase that runs". It returns the next phase. Only this file
// starts a session's goroutine, changes its phase and closes the session.
//
//	prelogin → relay → detach → parked → resume → relay
//	             ↑        ↓                  ↓       ↑
//	             └────────┘              catch-up ───┘
//
//	relay → shared → relay
//	relay, detach, catch-up → recover → resume, or parked if the client is in IDLE
//	relay → dormant → relay, or detach, recover
//
// Each phase may also be followed by end.

// phase is one stage of a session's life.
type phase uint8

const (
	// phasePrelogin greets the client and answers its commands until the client has logged in (login.go,
	// login_authenticate.go, login_attach.go). The session gets its backend connection in the last step.
	phasePrelogin phase = iota
	// phaseRelay relays IMAP between client and backend (relay.go). Two goroutines own one direction each;
	// both have stopped when the phase ends.
	phaseRelay
	// phaseDormant waits while both client and backend are silent (dormant.go). The session has both connections
	// and no goroutine: conn.Poller owns it.
	phaseDormant
	// phaseDetach finds which messages the client counts, and returns the backend connection to the pool
	// (park_detach.go).
	phaseDetach
	// phaseParked serves the client without a backend (park_serve.go). While the session waits, it has no
	// goroutine and conn.Poller owns it.
	phaseParked
	// phaseResume gets a backend connection and tells the client what changed while it was parked (resume.go).
	phaseResume
	// phaseCatchUp relays one command at a time and translates message numbers, as long as the client can't be
	// told of expunged messages (catchup.go).
	phaseCatchUp
	// phaseRecover finds which messages the client counts after the backend connection was lost (recover.go).
	phaseRecover
	// phaseShared serves commands about mailboxes of other users, one at a time (shared.go).
	phaseShared
	// phaseEnd sends the last line, closes the connections, and removes the session from the registry and the
	// counters. It is the last phase.
	phaseEnd

	// phaseAway is not a phase: it says that the poller owns the session and will run it again. A phase
	// that has returned it must not touch the session any more.
	phaseAway
)

// Signal is a request to a session's owner. Signals are bits: several may be pending.
type Signal uint16

const (
	SigPause     Signal = 1 << iota // the relay is to stop at the next boundary, so that the session can be parked
	SigTell                         // a parked client in IDLE is to be told of parkState.state
	SigAlive                        // a parked client in IDLE is to be sent a "Still here" line
	SigLostWatch                    // a parked session is to be resumed: its mailbox isn't watched any more
	SigOff                          // a parked session is to be resumed: parking was switched off
	SigDoubt                        // a parked session is to be resumed: a backend refused its credential to another client
	SigDormant                      // the relay is to stop if nothing is in progress, so that the session needs no goroutines
	SigExpires                      // a parked session is to be resumed: the token that it logs in with at its backend expires soon
	sigLost                         // the owner is to give up the backend connection, which is lost
	sigVisit                        // the relay is to stop: the next command is about a shared mailbox

	sigWake = SigLostWatch | SigOff | SigDoubt | SigExpires
)

// wake names, for telemetry, why a parked session is resumed although its client has sent nothing.
func (g Signal) wake() string {
	switch g & sigWake {
	case SigLostWatch:
		return telemetry.WakeLostWatch
	case SigOff:
		return telemetry.WakeOff
	case SigExpires:
		return telemetry.WakeExpires
	}
	return telemetry.WakeDoubt
}

// phases has, for each phase: its name, the attachment that admin page and metrics show, the phases that may
// follow it, and the signals that its owner takes.
var phases = [...]struct {
	name   string
	shown  Attachment
	before []phase
	takes  Signal
}{
	phasePrelogin: {"prelogin", None, []phase{phaseRelay, phaseEnd}, 0},
	phaseRelay:    {"relay", Attached, []phase{phaseRelay, phaseDormant, phaseDetach, phaseRecover, phaseShared, phaseEnd}, SigPause | SigDormant | sigLost | sigVisit},
	phaseDormant:  {"dormant", Attached, []phase{phaseRelay, phaseDetach, phaseRecover, phaseEnd}, SigPause | sigLost},
	phaseDetach:   {"detach", Parking, []phase{phaseRelay, phaseParked, phaseRecover, phaseEnd}, sigLost},
	phaseParked:   {"parked", Parked, []phase{phaseResume, phaseEnd}, SigTell | SigAlive | sigWake},
	phaseResume:   {"resume", Resuming, []phase{phaseRelay, phaseCatchUp, phaseEnd}, 0},
	phaseCatchUp:  {"catch-up", CatchingUp, []phase{phaseRelay, phaseRecover, phaseEnd}, sigLost},
	phaseRecover:  {"recover", Resuming, []phase{phaseResume, phaseParked, phaseEnd}, 0},
	phaseShared:   {"shared", Attached, []phase{phaseRelay, phaseEnd}, 0},
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

// New makes the session of a client connection that the registry has admitted. Live serves it. addr is the
// client's address, local the address that it connected to.
func New(env *Env, lis *Listener, client *conn.Conn, from Origin) *Session {
	s := &Session{id: newID(), env: env, set: env.Settings(), lis: lis, client: client, peer: from.Addr, addr: from.Addr, local: from.Local, before: from.TLS, started: env.Now()}
	s.secure.Store(from.TLS != nil)
	s.seen(s.started)
	env.Registry.add(s)
	env.Telemetry.SessionOpened(lis.Name, lis.TLS == TLSImplicit || from.TLS != nil)
	return s
}

// newID makes a session id: 16 random characters that can't be guessed and don't look alike.
func newID() string { return strings.ToLower(rand.Text()[:16]) }

// Live runs the session from its first phase on. It is called in the goroutine of accept. ctx ends the first
// phase.
func (s *Session) Live(ctx context.Context) { s.follow(s.prelogin(ctx)) }

// follow starts the next phase in a new goroutine: an old goroutine's stack may have grown, and an idle
// session would keep it.
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
	case phaseDormant:
		s.out.rest(s.countCompressed)
		s.follow(s.dormant())
	case phaseDetach:
		s.follow(s.detach())
	case phaseParked:
		s.out.rest(s.countCompressed)
		s.watch()
		s.follow(s.parked(false))
	case phaseResume:
		s.follow(s.resume())
	case phaseCatchUp:
		s.follow(s.catchUp())
	case phaseRecover:
		s.follow(s.recover())
	case phaseShared:
		s.follow(s.shared())
	case phaseEnd:
		s.close()
	}
}

// wakeHandler is the conn.Handler of a parked session.
type wakeHandler struct{ s *Session }

// Wake implements conn.Handler.
func (z wakeHandler) Wake() { z.s.follow(z.s.parked(true)) }

// dormantHandler is the conn.Handler of a dormant session.
type dormantHandler struct{ s *Session }

// Wake implements conn.Handler.
func (z dormantHandler) Wake() { z.s.follow(z.s.awoken()) }

// beside runs f, the other direction of a relay, in a goroutine. done is closed when f has returned.
func (s *Session) beside(f func()) (done <-chan struct{}) {
	c := make(chan struct{})
	go func() { // ends with f, which the relay waits for
		defer close(c)
		f()
	}()
	return c
}

// later runs f in a goroutine after d, unless the timer is stopped before. The phase that calls it waits for f's end
// before it returns.
func (s *Session) later(d time.Duration, f func()) *time.Timer { return time.AfterFunc(d, f) }

// change makes next the phase that runs. It drops pending signals: either the next phase handles their cause
// itself, or they have no meaning for it. A connection that is lost stays lost: if next takes that signal, it is
// kept, and the reads that it interrupted stay interrupted.
func (s *Session) change(next phase) {
	c := &s.control
	c.mu.Lock()
	before := c.phase
	c.phase, c.pending = next, c.pending&phases[next].takes&sigLost
	switch {
	case c.pending != 0:
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

// close ends the session: it sends the last line, closes both connections, and removes the session from the
// registry and the counters.
func (s *Session) close() {
	in := s.loggedIn.Load() // before login, login.go has sent the last line
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

// deregister removes the session from the registry and the counters.
func (s *Session) deregister() {
	r := s.env.Registry
	r.exit(s)
	r.remove(s)
	r.leave(s.addr.Addr())
	s.env.Telemetry.SessionClosed(string(s.Reason()), s.endedIn().String(), s.env.Now().Sub(s.started))
	s.env.Gone()
}
