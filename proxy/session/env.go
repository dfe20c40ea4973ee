package session

import (
	"context"
	"crypto/tls"
	"net/netip"
	"sync/atomic"
	"time"

	"imapproxy/internal/fair"
	"imapproxy/proxy/auth"
	"imapproxy/proxy/conn"
	"imapproxy/proxy/track"
	"imapproxy/proxy/upstream"
	"imapproxy/routing"
	"imapproxy/telemetry"
)

// Env is what a proxy's sessions share, and all that they know of the server that they belong to. Any
// goroutine may use its members. A test fills in those that it needs.
type Env struct {
	Now      func() time.Time
	Settings func() *Settings // those of now: a reload replaces them

	Telemetry *telemetry.Telemetry
	Buffers   *conn.Pool        // lent to the readers of connections
	Names     track.NameBuffers // lent to commands that name a mailbox
	Texts     track.Texts       // lent to long commands
	Poller    *conn.Poller      // waits for the clients of parked sessions

	Registry     *Registry     // the sessions
	Places       *Places       // of clients before their login
	Queues       *Queues       // of logins, resumes and large differences
	Capabilities *Capabilities // of the backends
	Probes       Probes        // of the backends, too

	Draining func() bool       // no session begins any more
	Overdue  func() bool       // this proxy may have lost its backend connections to another one; nil: never
	Recheck  func()            // has all sessions' credentials looked at soon
	Gone     func()            // called once for each session, when it is gone
	Bug      func(what string) // called for what can't happen
}

// Probes find out whether backends can be reached, without a user.
type Probes interface {
	// Probe connects to a backend. Callers at the same time may share one connection.
	Probe(ctx context.Context, target upstream.Target) error
	// Failed reports a failure that speaks against a backend, and has it probed until it is back.
	Failed(backend string, err error)
}

// Settings are what a reload can change of a proxy's sessions. What stays as it was at a session's login
// is whether it can be parked, since what that needs is followed from the login on (Session.set); all else
// is looked up when it is needed (Session.settings).
type Settings struct {
	Hostname string // in greetings
	Version  string // in ID

	Names   auth.Names
	Sources []auth.Source
	Recheck time.Duration // for how long a source's answer counts

	Dialer            *upstream.Dialer
	Login             upstream.Auth // how to log in to backends
	BackendTLS        string        // where discovery doesn't say
	BackendServerName string        // the same

	Router    *routing.Router
	Placement func(ctx context.Context, user string) (backend string, ok bool, err error)

	Limits Limits
	Park   ParkOptions
}

// TargetOf is how a backend is reached.
func (s *Settings) TargetOf(b *routing.Backend) upstream.Target {
	t := upstream.Target{ID: b.ID, Name: b.Shown(), Address: b.Address, TLS: b.TLS, ServerName: b.ServerName}
	if t.TLS == "" {
		t.TLS = s.BackendTLS
	}
	if t.ServerName == "" {
		t.ServerName = s.BackendServerName
	}
	return t
}

// Ways of TLS of a listener.
const (
	TLSImplicit = "implicit" // RFC 8314 §3
	TLSStartTLS = "starttls" // RFC 9051 §6.2.1
	TLSNone     = "none"
)

// Listener is where a session's client has connected.
type Listener struct {
	Name string
	TLS  string // TLSImplicit, TLSStartTLS or TLSNone
	set  atomic.Pointer[ListenerSettings]
}

// ListenerSettings are what a reload can change of a listener.
type ListenerSettings struct {
	TLS            *tls.Config    // nil without TLS
	CleartextFrom  []netip.Prefix // whence passwords may come without TLS
	TrustedProxies []netip.Prefix // whose x-proxy-ttl is believed
}

// NewListener makes a listener for sessions.
func NewListener(name, tls string, set ListenerSettings) *Listener {
	l := &Listener{Name: name, TLS: tls}
	l.Set(set)
	return l
}

// Set replaces the settings.
func (l *Listener) Set(set ListenerSettings) { l.set.Store(&set) }

// Settings are those of now.
func (l *Listener) Settings() *ListenerSettings { return l.set.Load() }

// mayLogin says whether passwords of a client may come in the clear.
func (l *Listener) mayLogin(client netip.Addr) bool {
	return fair.In(l.Settings().CleartextFrom, client)
}

// trusts says whether a client is a proxy whose x-proxy-ttl is believed.
func (l *Listener) trusts(client netip.Addr) bool {
	return fair.In(l.Settings().TrustedProxies, client)
}
