package session

import (
	"crypto/rand"
	"log/slog"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"

	"imapproxy/proxy/conn"
	"imapproxy/proxy/track"
	"imapproxy/proxy/upstream"
	"imapproxy/proxy/wire"
	"imapproxy/routing"
	"imapproxy/telemetry"
)

// Attachment says whether a session has a backend connection, or is about to get or lose one.
type Attachment uint32

// The attachment is None before login, then Attached. An idle session goes through Parking to Parked and comes
// back through Resuming, sometimes through CatchingUp (docs/parking.md).
const (
	None Attachment = iota
	Attached
	Parking
	Parked
	Resuming
	CatchingUp // attached, but the client isn't told yet of expunged messages
	Ended
)

var attachmentNames = [...]string{"none", "attached", "parking", "parked", "resuming", "catching_up", "ended"}

func (a Attachment) String() string { return attachmentNames[a] }

// Session is one client connection, from accept to its last byte. Its phases are in phase.go. Its fields are
// grouped by which goroutines may read and write them.
type Session struct {
	// Never changed after accept; any goroutine may read them.
	id      string
	env     *Env
	lis     *Listener
	client  *conn.Conn     // read and written by the phase that runs, interrupted under control.mu
	addr    netip.AddrPort // the client's own address, from the PROXY header if there was one
	local   netip.AddrPort // the address that the client connected to
	started time.Time

	// Written before login by phasePrelogin; never changed once loggedIn is true. A goroutine that has seen
	// loggedIn may read them.
	//
	// set holds the settings as of the session's last login attempt. After login it only decides whether the
	// session can be parked, and with which hub and pool; everything else comes from settings().
	set      *Settings
	user     string
	cred     *credential        // has a lock of its own
	link     *trace.SpanContext // the login's trace; nil if traces are off
	proxyTTL int
	caps     *backendCaps
	loggedIn atomic.Bool

	// pick is the user's backend. Login sets it; repick (moved.go) replaces it while the session has no
	// backend connection.
	pick atomic.Pointer[routing.Pick]

	// Owned by the phase that runs.
	*relaying // nil while parked

	// Written by the phase that runs, under control.mu; any goroutine may read it.
	backend atomic.Pointer[upstream.Conn] // nil while parked

	// Guarded by locks of their own (docs/locking.md).
	control  control
	inFlight track.InFlight
	out      clientOut
	park     parkState

	// Atomic; any goroutine may read them.
	attachment atomic.Uint32          // written only by show
	endedAs    atomic.Uint32          // the attachment before Ended; written only by show
	ending     atomic.Pointer[Reason] // written once
	endedAt    atomic.Int64           // when ending was set, Unix ns; written once
	aborted    atomic.Bool            // the connections are closed without lingering and without close_notify; set once, by abort
	halfClosed atomic.Bool            // the client has shut its sending side; this and the fields below, except leaving, are written by the phase that runs
	reusing    atomic.Bool            // the session ends, and its backend connection goes to the pool
	secure     atomic.Bool            // under TLS
	leaving    atomic.Bool            // the session is to give up its backend connection at the next safe point (letgo.go)
	lastSeen   atomic.Int64           // when a byte last came from either side, Unix ns
	lastHeard  atomic.Int64           // when a byte last came from the client, Unix ns
	bytesIn    atomic.Int64           // from the client to the backend
	bytesOut   atomic.Int64
	commands   atomic.Int64
	blockedFor atomic.Int64 // how long writes to the client have taken, ns
}

// relaying holds the state that a session has only while it has a backend connection.
type relaying struct {
	greeting []byte // tells the client that it is logged in; nil once the client was told
	up       commandFlow
	down     responseFlow
}

// relays makes a new relaying, with both streams at the start of a unit.
func (s *Session) relays() {
	s.relaying = &relaying{up: commandFlow{s: s}, down: responseFlow{s: s, scan: wire.Scanner{Direction: wire.Responses}}}
}

// log returns the session's logger. It is made anew for each line: few lines are written, and each of many
// sessions would keep one in memory.
func (s *Session) log() *slog.Logger {
	if s.link == nil {
		return s.about(s.env.Telemetry.SessionLogger(s.id, ""))
	}
	return s.about(s.env.Telemetry.SessionLogger(s.id, s.link.TraceID().String()))
}

func (s *Session) about(l *slog.Logger) *slog.Logger {
	pick := s.picked()
	if pick == nil {
		return l.With("client", s.addr.String())
	}
	return l.With("user", s.user, "backend", pick.Backend.Shown())
}

// trace returns the login's trace context, which the traces of commands, parks and resumes link to.
func (s *Session) trace() trace.SpanContext {
	if s.link == nil {
		return trace.SpanContext{}
	}
	return *s.link
}

// settings returns the current settings, since a reload applies to logged-in sessions too. With the settings
// of its login, a session would still log in to backends with a master password that has been changed.
func (s *Session) settings() *Settings { return s.env.Settings() }

// auth returns the credentials for another login to the backend.
func (s *Session) auth() upstream.Auth {
	a := s.settings().Login
	a.User = s.user
	var given bool
	a.Password, given = s.cred.forBackend()
	if s.cred.asUser || given {
		a.Mode = upstream.ModeUser
	}
	return a
}

// picked returns the user's backend as the session knows it; nil before login.
func (s *Session) picked() *routing.Pick { return s.pick.Load() }

// target returns the picked backend with its current address from discovery.
func (s *Session) target() upstream.Target { return s.targetOf(s.picked().Current()) }

// New makes the session of a client connection that the registry has admitted. Live serves it. addr is the
// client's address, local the address that it connected to.
func New(env *Env, lis *Listener, client *conn.Conn, addr, local netip.AddrPort) *Session {
	s := &Session{id: newID(), env: env, set: env.Settings(), lis: lis, client: client, addr: addr, local: local, started: env.Now()}
	s.seen(s.started)
	env.Registry.add(s)
	env.Telemetry.SessionOpened(lis.Name, lis.TLS == TLSImplicit)
	return s
}

// ID returns the session's id.
func (s *Session) ID() string { return s.id }

// User returns the canonical name of the session's user. It may be called once LoggedIn returns true.
func (s *Session) User() string { return s.user }

// Backend returns the id of the session's backend. It may be called once LoggedIn returns true.
func (s *Session) Backend() string { return s.picked().Backend.ID }

// Client returns the client's own address.
func (s *Session) Client() netip.AddrPort { return s.addr }

// LoggedIn says whether the client has logged in.
func (s *Session) LoggedIn() bool { return s.loggedIn.Load() }

// Attachment returns the session's attachment.
func (s *Session) Attachment() Attachment { return Attachment(s.attachment.Load()) }

// Busy says whether a command other than IDLE is in progress.
func (s *Session) Busy() bool { return s.inFlight.Busy() }

// newID makes a session id: 16 random characters that can't be guessed and don't look alike.
func newID() string { return strings.ToLower(rand.Text()[:16]) }

// show sets the attachment and reports the change to metrics, log and admin page. Ended is never replaced.
func (s *Session) show(to Attachment) {
	from := Attachment(s.attachment.Load())
	for ; from != to && from != Ended; from = Attachment(s.attachment.Load()) {
		if to == Ended { // stored first: a reader that sees Ended reads endedAs at once
			s.endedAs.Store(uint32(from))
		}
		if s.attachment.CompareAndSwap(uint32(from), uint32(to)) {
			break
		}
	}
	if from == to || from == Ended { // the phase that parks or resumes the session meanwhile learns of the end from Reason
		return
	}
	s.env.Registry.moved(s, from, to)
}

// seen records that a byte came from the client or the backend.
func (s *Session) seen(now time.Time) { s.lastSeen.Store(now.UnixNano()) }

// took counts bytes sent to the backend.
func (s *Session) took(n int64) {
	s.bytesIn.Add(n)
	s.env.Telemetry.AddBytes(telemetry.In, n)
}

// blocked returns how long writes to the client have taken so far.
func (s *Session) blocked() time.Duration { return time.Duration(s.blockedFor.Load()) }

// setReason records why the session ends. Only the first reason is kept; setReason says whether r is it.
func (s *Session) setReason(r Reason) bool { return s.ending.CompareAndSwap(nil, &r) }

// Reason returns why the session ends, "" while it goes on.
func (s *Session) Reason() Reason {
	if r := s.ending.Load(); r != nil {
		return *r
	}
	return ""
}

// answered is called for each tagged response before it is written to the client.
func (s *Session) answered(h wire.ResponseHead, now time.Time) {
	c, ok := s.inFlight.Answered(h)
	if !ok {
		return
	}
	s.commands.Add(1)
	s.hint(c.Changes)
	s.tryToLeave(now) // the session may leave its backend after this response
	var out int64
	if s.relaying != nil { // relaying is nil if DONE was answered without a backend
		out, s.down.pushed = s.down.pushed, 0
	}
	s.tell(&c, h.Status, out, now)
}

// tell reports a finished command to telemetry.
func (s *Session) tell(c *track.Command, status wire.Status, out int64, now time.Time) {
	t := telemetry.Command{
		Session: s.id, Login: s.trace(), User: s.user, Backend: s.picked().Backend.Shown(),
		Verb: c.Verb, Status: status.String(),
		Start: c.Start, Sent: c.Sent, End: now, BytesIn: c.In, BytesOut: out,
	}
	if !c.Sent.IsZero() {
		t.BackendWait = max(0, now.Sub(c.Sent)-(s.blocked()-c.Blocked))
	}
	s.env.Telemetry.Command(t)
}

// intercepted logs a command that the proxy answered itself.
func (s *Session) intercepted(v wire.Verb) {
	s.log().Debug("a command that the proxy takes over", "command", v.String())
}
