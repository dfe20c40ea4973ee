package upstream

import (
	"cmp"
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"time"

	"imapproxy/telemetry"
)

// Defaults of Options, the same as those of config.hcl.
const (
	DefaultConnectTimeout = 3 * time.Second
	DefaultLoginTimeout   = 20 * time.Second
)

// Bounds on what a backend may send before its login is done. A real one sends
// a greeting, two capability lists and a line of text: under 3 KB.
const (
	maxLine    = 8 << 10  // octets of one line
	maxLiteral = 4 << 10  // octets of one literal
	maxTotal   = 64 << 10 // octets of all responses from the greeting to the hand-over
)

// Options are a Dialer's. The zero value is usable.
type Options struct {
	// Hostname is the proxy's own, told to backends in ID (x-proxy-host) so
	// that their logs name the proxy. Empty: not told.
	Hostname string

	// ConnectTimeout bounds the TCP connect, name resolution included.
	// Zero: DefaultConnectTimeout.
	ConnectTimeout time.Duration

	// LoginTimeout bounds all that follows, up to the login's OK and the
	// capabilities: TLS, greeting, ID, login. At first use of a master login
	// its verification takes as long again at most. Zero: DefaultLoginTimeout.
	LoginTimeout time.Duration

	// TLS is what the backends' TLS configurations start from (nil: Go's
	// defaults with TLS 1.2 at least). ServerName is replaced per backend and
	// a session cache is added.
	TLS *tls.Config

	// CAFile holds the certificate authorities in PEM that backends are
	// verified with. It is read once, by New. Empty: those of TLS, else the
	// system's.
	CAFile string

	// SourceAddresses are the local addresses that connections come from, in turn. Empty:
	// the system chooses. Without effect where Dialer is given.
	SourceAddresses []netip.Addr

	// CleartextMaster lets master logins go to another machine without TLS. Else they are refused:
	// whoever reads one has every mailbox.
	CleartextMaster bool

	// Dialer opens TCP connections; it must return a *net.TCPConn. nil: a
	// net.Dialer.
	Dialer func(ctx context.Context, network, address string) (net.Conn, error)

	// Room counts the Dialer's connections, and makes room at backends that have none.
	// nil: one of its own, which closes nothing.
	Room *Room

	// MasterFindings is what was found out about master logins before this Dialer was made.
	// nil: nothing.
	MasterFindings *MasterFindings

	// SlowAfter is how long a backend may be silent before it is taken to have no room.
	// Zero: DefaultSlowAfter.
	SlowAfter time.Duration

	// Telemetry may be nil.
	Telemetry *telemetry.Telemetry

	// Now is the clock that durations are measured with. nil: time.Now.
	Now func() time.Time
}

// Ways of TLS, the values of Target.TLS.
const (
	TLSNone     = "none"     // in the clear; the same as ""
	TLSStartTLS = "starttls" // RFC 9051 §6.2.1; a backend that doesn't offer it isn't logged in to
	TLSImplicit = "implicit" // RFC 8314 §3
)

// Target is a backend to log in to.
type Target struct {
	ID         string // by what its connections are counted and kept
	Name       string // for logs, errors and metrics; "" = ID
	Address    string // host:port
	TLS        string // TLSNone, TLSStartTLS or TLSImplicit
	ServerName string // what its certificate must be valid for; empty: Address's host
}

// shown is its name for people.
func (t Target) shown() string { return cmp.Or(t.Name, t.ID) }

// Client is the client's connection, as the backend is told of it in ID. What
// is zero isn't told.
type Client struct {
	Addr      netip.AddrPort // the client's own: x-originating-ip, x-originating-port
	LocalAddr netip.AddrPort // where it connected to: x-connected-ip, x-connected-port
	SessionID string         // x-session-id
	// ProxyTTL is how many more proxies the login may pass (x-proxy-ttl). The
	// caller counts it down and refuses loops; ≤ 0 is never sent.
	ProxyTTL int

	// Observe is told each phase when it has ended, for the login's trace:
	// PhaseDial, PhaseTLS, PhaseLogin, PhaseVerify. It runs on the caller's
	// goroutine. nil: nobody.
	Observe func(phase string, start, end time.Time, err error)
}

// Phases of a login, told to Client.Observe.
const (
	PhaseDial   = "dial"          // TCP connect
	PhaseTLS    = "backend_tls"   // handshake, with STARTTLS's exchange; lies within PhaseLogin
	PhaseLogin  = "backend_login" // all from the connect to the login's OK and the capabilities
	PhaseVerify = "verify"        // is the intended user the one logged in?
)

// Login modes, the values of Auth.Mode.
const (
	ModeUser   = "user"   // with the user's own credentials; the same as ""
	ModeMaster = "master" // as the user, with a master user's credentials: SASL PLAIN with authzid
)

// Auth is who is to be logged in, and with what.
type Auth struct {
	Mode           string // ModeUser or ModeMaster
	User           string
	Password       telemetry.Secret // mode user
	MasterUser     string           // mode master
	MasterPassword telemetry.Secret
}

// identity gives what SASL PLAIN sends: authorization identity (empty: the
// authentication identity's own), authentication identity, password.
func (a Auth) identity() (authzid, authcid string, password telemetry.Secret) {
	if a.Mode == ModeMaster {
		return a.User, a.MasterUser, a.MasterPassword
	}
	return "", a.User, a.Password
}
