package upstream

import (
	"cmp"
	"net/netip"
	"time"

	"imapproxy/proxy/wire"
	"imapproxy/telemetry"
)

// Modes of TLS, the values of Target.TLS.
const (
	TLSNone     = "none"     // in the clear; the same as ""
	TLSStartTLS = "starttls" // RFC 9051 §6.2.1; a backend that doesn't offer it isn't logged in to
	TLSImplicit = "implicit" // RFC 8314 §3
)

// Whether connections begin with the PROXY protocol's header, the values of Target.SendProxy.
const (
	ProxyNone = "none" // the same as ""
	ProxyV2   = "v2"   // version 2, the binary one
)

// Target is a backend to log in to.
type Target struct {
	ID         string // by which its connections are counted and kept
	Name       string // for logs, errors and metrics; "" = ID
	Address    string // host:port
	TLS        string // TLSNone, TLSStartTLS or TLSImplicit
	ServerName string // the name in its certificate; empty: Address's host
	SendProxy  string // ProxyV2: each connection begins with a PROXY header; ProxyNone or "": none does
}

// shown returns its name for logs.
func (t Target) shown() string { return cmp.Or(t.Name, t.ID) }

// Client is the client's connection, as described to the backend in ID and in the PROXY header. Zero fields aren't sent.
type Client struct {
	Addr      netip.AddrPort // the client's address: x-originating-ip, x-originating-port
	LocalAddr netip.AddrPort // the address to which it connected: x-connected-ip, x-connected-port
	SessionID string         // x-session-id
	// ProxyTTL is how many more proxies the login may pass (x-proxy-ttl). The caller decrements it and
	// refuses loops; ≤ 0 is never sent.
	ProxyTTL int
	TLS      *ClientTLS // the client's TLS connection, for the PROXY header; nil: it has none
	Use      Use        // what the connection is for

	// Observe is called at the end of each phase, for the login's trace: PhaseDial, PhaseTLS, PhaseLogin,
	// PhaseVerify. It runs on the caller's goroutine. nil: it isn't called.
	Observe func(phase string, start, end time.Time, err error)

	// Listed is called with the capabilities that the backend lists before the login. It runs on the caller's goroutine. nil: it isn't called.
	Listed func(wire.Caps)

	claim Claim // the claim of the connection that is being made
}

// ClientTLS describes the client's TLS connection, whether the proxy ends it or a load balancer in front.
type ClientTLS struct {
	Version    string // "TLSv1.3", as OpenSSL has it
	Cipher     string
	ServerName string // the name that the client requested (SNI)
	// CommonName is that of a certificate of the client's that was verified. Certificate says that there is one.
	CommonName  string
	Certificate bool
}

// Phases of a login, for Client.Observe.
const (
	PhaseDial   = "dial"          // TCP connect
	PhaseTLS    = "backend_tls"   // handshake, with STARTTLS's exchange; within PhaseLogin
	PhaseLogin  = "backend_login" // from the connect to the login's OK and the capabilities
	PhaseVerify = "verify"        // is the intended user the one logged in?
)

// Login modes, the values of Auth.Mode.
const (
	ModeUser   = "user"   // with the user's own credentials; the same as ""
	ModeMaster = "master" // as the user, with a master user's credentials: SASL PLAIN with authzid
)

// Auth is the user to log in, and the credentials.
type Auth struct {
	Mode           string // ModeUser or ModeMaster
	User           string
	Password       telemetry.Secret // mode user
	Mechanism      string           // mode user: Password is a token, which is sent by OAUTHBEARER or XOAUTH2; "": it is a password
	MasterUser     string           // mode master
	MasterPassword telemetry.Secret
}

// identity returns the parts of SASL PLAIN: authorization identity (empty: the authentication identity's
// own), authentication identity, password.
func (a Auth) identity() (authzid, authcid string, password telemetry.Secret) {
	if a.Mode == ModeMaster {
		return a.User, a.MasterUser, a.MasterPassword
	}
	return "", a.User, a.Password
}
