package session

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/netip"
	"sync/atomic"
	"time"

	"imapproxy/internal/fair"
	"imapproxy/proxy/auth"
	"imapproxy/proxy/auth/authpolicy"
	"imapproxy/proxy/guessing"
	"imapproxy/proxy/upstream"
	"imapproxy/routing"
)

// Probes find out, without a user, whether backends can be reached.
type Probes interface {
	// Probe connects to a backend. Callers at the same time may share one connection.
	Probe(ctx context.Context, target upstream.Target) error
	// Failed reports a failure that is charged to a backend, and has the backend probed until it is reachable
	// again.
	Failed(backend string, err error)
}

// Settings are what a reload can change for a proxy's sessions. Only whether a session can be parked stays as
// it was at its login, since the session is followed for that from the login on (Session.set); everything else
// is looked up when it is needed (Session.settings).
type Settings struct {
	Hostname string // in greetings
	Version  string // in ID

	Names   auth.Names
	Sources []auth.Source
	Policy  *authpolicy.Client // is asked whether logins may go on; nil: there is none
	Recheck time.Duration      // how long a source's answer counts

	Dialer            *upstream.Dialer
	Login             upstream.Auth // how to log in to backends
	BackendTLS        string        // if discovery gives none
	BackendServerName string        // if discovery gives none
	BackendSendProxy  string        // if discovery gives none
	// StallAfter is how long a backend may owe an answer before it is checked whether it hangs; 0: the default,
	// negative: it isn't checked.
	StallAfter time.Duration

	Router    *routing.Router
	Placement func(ctx context.Context, user string) (backend string, ok bool, err error)

	Limits     Limits
	Handshakes guessing.HandshakeRules
	Guessing   guessing.Rules // their Delay is that of Limits.AuthFailureDelay
	Park       ParkOptions
	Shared     SharedOptions
}

// TargetOf returns how a backend is reached.
func (s *Settings) TargetOf(b *routing.Backend) upstream.Target {
	t := upstream.Target{ID: b.ID, Name: b.Shown(), Address: b.Address, TLS: b.TLS, ServerName: b.ServerName, SendProxy: b.SendProxy}
	if t.TLS == "" {
		t.TLS = s.BackendTLS
	}
	if t.ServerName == "" {
		t.ServerName = s.BackendServerName
	}
	if t.SendProxy == "" {
		t.SendProxy = s.BackendSendProxy
	}
	return t
}

// How a listener uses TLS.
const (
	TLSImplicit = "implicit" // RFC 8314 §3
	TLSStartTLS = "starttls" // RFC 9051 §6.2.1
	TLSNone     = "none"
)

// Listener is the listener that a session's client has connected to.
type Listener struct {
	Name string
	TLS  string // TLSImplicit, TLSStartTLS or TLSNone
	set  atomic.Pointer[ListenerSettings]
}

// ListenerSettings are what a reload can change for a listener.
type ListenerSettings struct {
	TLS       *tls.Config     // nil without TLS
	EndPoints func() [][]byte // tls-server-end-point of each certificate (RFC 5929 §4); nil without TLS
	// Certified is what a client's certificate names its user; nil: there is no login by certificate.
	Certified      func(sent []*x509.Certificate, at time.Time) (user string, err error)
	CleartextFrom  []netip.Prefix // networks whose clients may send passwords without TLS
	TrustedProxies []netip.Prefix // proxies and webmail whose ID names the client's address, and x-proxy-ttl
	// Compress offers COMPRESS=DEFLATE. CompressHistory is how many of the octets that a client was sent last its compressed stream refers to.
	Compress        bool
	CompressHistory int
}

// NewListener makes a listener for sessions.
func NewListener(name, tls string, set ListenerSettings) *Listener {
	l := &Listener{Name: name, TLS: tls}
	l.Set(set)
	return l
}

// Set replaces the settings.
func (l *Listener) Set(set ListenerSettings) { l.set.Store(&set) }

// Settings returns the current settings.
func (l *Listener) Settings() *ListenerSettings { return l.set.Load() }

// mayLogin says whether a client may send passwords in the clear.
func (l *Listener) mayLogin(client netip.Addr) bool {
	return fair.In(l.Settings().CleartextFrom, client)
}

// trusts says whether a peer is a proxy or webmail that speaks for its clients.
func (l *Listener) trusts(peer netip.Addr) bool {
	return fair.In(l.Settings().TrustedProxies, peer)
}
