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

// Attachment is where a session's backend connection stands.
type Attachment uint32

// None before login, then attached; an idle session goes through parking to parked
// and comes back through resuming, and sometimes catching up (docs/parking.md).
const (
	None Attachment = iota
	Attached
	Parking
	Parked
	Resuming
	CatchingUp // attached, and the client isn't told yet of messages that are gone
	Ended
)

var attachmentNames = [...]string{"none", "attached", "parking", "parked", "resuming", "catching_up", "ended"}

func (a Attachment) String() string { return attachmentNames[a] }

// Session is one client connection, from accept to its last byte. phase.go has its life. Its fields
// stand in sections by who may read and write them.
type Session struct {
	// Never changed after accept: any goroutine reads them.
	id      string
	env     *Env
	lis     *Listener
	client  *conn.Conn     // read and written by the phase that runs, interrupted under control.mu
	addr    netip.AddrPort // the client's own, from the PROXY header if there was one
	local   netip.AddrPort // where it connected to
	started time.Time

	// Written before login, by its phase; never changed once loggedIn is true, and read by any
	// goroutine that has seen that.
	//
	// set are the settings as they were at the session's last login attempt. After it they say
	// only whether the session can be parked, and by which hub and pool; settings has the rest.
	set      *Settings
	user     string
	cred     *credential        // locks itself
	link     *trace.SpanContext // the login's trace; nil where traces are off
	proxyTTL int
	caps     *backendCaps
	loggedIn atomic.Bool

	// Where the user is. It is set at the login; repick (moved.go) replaces it while the session has no backend connection.
	pick atomic.Pointer[routing.Pick]

	// Of the phase that runs.
	*relaying // nil while parked

	// Written by the phase that runs, under control.mu; read by any goroutine.
	backend atomic.Pointer[upstream.Conn] // nil while parked

	// Guarded by locks of their own (docs/locking.md).
	control  control
	inFlight track.InFlight
	out      clientOut
	park     parkState

	// Atomic: any goroutine reads them.
	attachment atomic.Uint32          // written by show alone
	endedAs    atomic.Uint32          // the attachment before Ended; the same
	ending     atomic.Pointer[Reason] // written once
	endedAt    atomic.Int64           // when ending was set, Unix ns; written once
	aborted    atomic.Bool            // nobody lingers, and no farewell of TLS's either; written once, by sever
	halfClosed atomic.Bool            // the client has shut its sending side; the rest is written by the phase that runs
	reusing    atomic.Bool            // the session ends, and its connection is to serve another
	secure     atomic.Bool            // under TLS
	leaving    atomic.Bool            // the session is to give its backend connection up at the next safe point (letgo.go)
	lastSeen   atomic.Int64           // when a byte last came either way, Unix ns
	lastHeard  atomic.Int64           // when one last came from the client
	bytesIn    atomic.Int64           // from the client to the backend
	bytesOut   atomic.Int64
	commands   atomic.Int64
	blockedFor atomic.Int64 // ns that writes to the client have taken
}

// relaying is what a session needs besides, as long as it has a backend connection.
type relaying struct {
	greeting []byte // tells the client that it is logged in; nil when it has heard that
	up       commandFlow
	down     responseFlow
}

// relays makes it, with both streams at the start of a unit.
func (s *Session) relays() {
	s.relaying = &relaying{up: commandFlow{s: s}, down: responseFlow{s: s, scan: wire.Scanner{Direction: wire.Responses}}}
}

// log is the session's logger. It is made for each line, as few are written and many
// sessions would hold one.
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

// trace is what commands, parks and resumes link to.
func (s *Session) trace() trace.SpanContext {
	if s.link == nil {
		return trace.SpanContext{}
	}
	return *s.link
}

// settings are those of now: what a reload has changed holds for sessions that are logged
// in, too. A session that used its login's would go on showing backends a master password
// that was changed since.
func (s *Session) settings() *Settings { return s.env.Settings() }

// auth is how to log in to the backend again.
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

// picked is where the user is, as the session knows it; nil before login.
func (s *Session) picked() *routing.Pick { return s.pick.Load() }

// target is where, as discovery has it now.
func (s *Session) target() upstream.Target { return s.targetOf(s.picked().Current()) }

// New makes a session of a client's connection that the registry has admitted. Live serves it. addr is the client's
// address, local the one that it connected to.
func New(env *Env, lis *Listener, client *conn.Conn, addr, local netip.AddrPort) *Session {
	s := &Session{id: newID(), env: env, set: env.Settings(), lis: lis, client: client, addr: addr, local: local, started: env.Now()}
	s.seen(s.started)
	env.Registry.add(s)
	env.Telemetry.SessionOpened(lis.Name, lis.TLS == TLSImplicit)
	return s
}

// ID is the session's.
func (s *Session) ID() string { return s.id }

// User is whose session it is, canonical. It may be called once LoggedIn says true.
func (s *Session) User() string { return s.user }

// Backend is the id of the backend that the session is on. It may be called once LoggedIn says true.
func (s *Session) Backend() string { return s.picked().Backend.ID }

// Client is the client's own address.
func (s *Session) Client() netip.AddrPort { return s.addr }

// LoggedIn says whether the client has logged in.
func (s *Session) LoggedIn() bool { return s.loggedIn.Load() }

// Attachment says where the backend connection stands.
func (s *Session) Attachment() Attachment { return Attachment(s.attachment.Load()) }

// Busy says whether a command is under way that isn't IDLE.
func (s *Session) Busy() bool { return s.inFlight.Busy() }

// newID makes a session's id: 16 characters, unguessable, without look-alikes.
func newID() string { return strings.ToLower(rand.Text()[:16]) }

// show changes what people see of where a session's backend connection stands: metric, log and
// admin page learn it here. An end stays.
func (s *Session) show(to Attachment) {
	from := Attachment(s.attachment.Load())
	for ; from != to && from != Ended; from = Attachment(s.attachment.Load()) {
		if to == Ended { // before: who sees that it has ended asks at once as what
			s.endedAs.Store(uint32(from))
		}
		if s.attachment.CompareAndSwap(uint32(from), uint32(to)) {
			break
		}
	}
	if from == to || from == Ended { // whoever parks or resumes it meanwhile hears of the end by reason
		return
	}
	s.env.Registry.moved(s, from, to)
}

// seen notes a sign of life.
func (s *Session) seen(now time.Time) { s.lastSeen.Store(now.UnixNano()) }

// took counts bytes on their way to the backend.
func (s *Session) took(n int64) {
	s.bytesIn.Add(n)
	s.env.Telemetry.AddBytes(telemetry.In, n)
}

// blocked is the time that writes to the client have taken so far.
func (s *Session) blocked() time.Duration { return time.Duration(s.blockedFor.Load()) }

// setReason records why the session ends; the first reason stays. It says whether it
// was the first.
func (s *Session) setReason(r Reason) bool { return s.ending.CompareAndSwap(nil, &r) }

// Reason is why the session ends, "" while it doesn't.
func (s *Session) Reason() Reason {
	if r := s.ending.Load(); r != nil {
		return *r
	}
	return ""
}

// answered is called for each tagged response, before it goes to the client.
func (s *Session) answered(h wire.ResponseHead, now time.Time) {
	c, ok := s.inFlight.Answered(h)
	if !ok {
		return
	}
	s.commands.Add(1)
	s.hint(c.Changes)
	s.tryToLeave(now) // behind this response
	var out int64
	if s.relaying != nil { // else it is a DONE that was answered without a backend
		out, s.down.pushed = s.down.pushed, 0
	}
	s.tell(&c, h.Status, out, now)
}

// tell has telemetry count a command that is over.
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

// intercepted counts a command that the proxy answered itself.
func (s *Session) intercepted(v wire.Verb) {
	s.log().Debug("a command that the proxy takes over", "command", v.String())
}
