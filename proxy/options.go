package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"imapproxy/proxy/auth"
	"imapproxy/proxy/upstream"
	"imapproxy/routing"
	"imapproxy/telemetry"
)

// Ways of TLS of a listener.
const (
	TLSImplicit = "implicit" // RFC 8314 §3
	TLSStartTLS = "starttls" // RFC 9051 §6.2.1
	TLSNone     = "none"
)

// Options are a Server's. What Reload can't change is said there.
type Options struct {
	// Hostname is the proxy's name in greetings.
	Hostname string
	// Version is told to clients in ID.
	Version   string
	Listeners []ListenerOptions

	Names   auth.Names
	Sources []auth.Source // owned by the caller
	// Recheck is how long a source's word, or the backend's, is taken for who is logged in
	// (recheck.go). 0: 5 min; negative: not at all, each resume asks.
	Recheck time.Duration

	// Dialer logs in to backends; Login says how: its Mode, and under mode
	// master MasterUser and MasterPassword. BackendTLS is for backends that
	// discovery says nothing about.
	Dialer     *upstream.Dialer
	Login      upstream.Auth
	BackendTLS string
	// BackendServerName is what certificates of backends must be valid for,
	// where discovery doesn't say; empty: the host of the backend's address.
	BackendServerName string

	Router *routing.Router
	// Placement names the backend of a user if the credentials don't; nil:
	// there are no such placements. An error is NO [UNAVAILABLE].
	Placement func(ctx context.Context, user string) (backend string, ok bool, err error)

	Limits    Limits
	Park      ParkOptions
	Telemetry *telemetry.Telemetry // nil: nothing is recorded
	// Drain is how long sessions may go on when the server stops.
	Drain time.Duration

	Now func() time.Time // nil: time.Now
}

// ListenerOptions are one listener's.
type ListenerOptions struct {
	Name    string
	Address string // host:port
	TLS     string // TLSImplicit, TLSStartTLS or TLSNone
	// Certificates are chosen by SNI; the first is for clients that send none.
	Certificates []Certificate
	MinVersion   uint16 // tls.VersionTLS12 (also 0) or tls.VersionTLS13
	// CleartextFrom are the networks from which passwords may come without TLS.
	CleartextFrom []netip.Prefix
	// TrustedProxies are the networks of IMAP proxies whose ID x-proxy-ttl is believed; from
	// elsewhere it only counts where it is less than the default.
	TrustedProxies []netip.Prefix
	// ProxyTrusted are the networks whose connections begin with a PROXY
	// header (v1 or v2); from elsewhere none is accepted. Empty: from nowhere.
	ProxyTrusted []netip.Prefix
}

// Certificate is one certificate: files that are read again when they change,
// or, where KeyPEM is set, what stands here.
type Certificate struct {
	CertFile, KeyFile string
	CertPEM, KeyPEM   []byte
}

// Limits bound what clients may have. Zero is no limit for counts, and the
// default for times.
type Limits struct {
	Connections      int           // sessions that have logged in
	Prelogin         int           // connections that haven't; the oldest of the busiest network goes
	Descriptors      int           // files that the process may have open: some are kept for other than clients
	PerIP            int           // from one address (IPv6: one /64)
	PerUser          int           // sessions of one user
	UnprovedLogins   int           // logins at a time at one backend that is to prove their passwords; 0: 32
	PreloginTimeout  time.Duration // from accept to the end of the login; 0: 60 s
	IdleTimeout      time.Duration // nothing said either way; 0: 31 min; RFC 9051 §5.4 asks for at least 30
	AuthFailureDelay time.Duration // before NO [AUTHENTICATIONFAILED]; 0: 2 s, negative: none
}

// Defaults of Limits.
const (
	DefaultPreloginTimeout  = time.Minute
	DefaultIdleTimeout      = 31 * time.Minute
	DefaultAuthFailureDelay = 2 * time.Second
	DefaultDrain            = 30 * time.Second
)

// withDefaults fills in what was left zero, or says what is wrong.
func (o Options) withDefaults() (Options, error) {
	if o.Router == nil || o.Dialer == nil {
		return o, errors.New("proxy: a router and a dialer are needed")
	}
	if len(o.Sources) == 0 {
		return o, errors.New("proxy: no source of credentials")
	}
	for _, l := range o.Listeners {
		switch l.TLS {
		case TLSImplicit, TLSStartTLS:
			if len(l.Certificates) == 0 {
				return o, fmt.Errorf("proxy: listener %q: TLS without a certificate", l.Name)
			}
		case TLSNone:
		default:
			return o, fmt.Errorf("proxy: listener %q: tls is %q, say implicit, starttls or none", l.Name, l.TLS)
		}
	}
	if o.Hostname == "" {
		o.Hostname = "localhost"
	}
	if o.Telemetry == nil {
		o.Telemetry = telemetry.Discard()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	l := &o.Limits
	l.PreloginTimeout = orDefault(l.PreloginTimeout, DefaultPreloginTimeout)
	l.IdleTimeout = orDefault(l.IdleTimeout, DefaultIdleTimeout)
	l.AuthFailureDelay = orDefault(l.AuthFailureDelay, DefaultAuthFailureDelay)
	o.Drain = orDefault(o.Drain, DefaultDrain)
	o.Recheck = orDefault(o.Recheck, DefaultRecheck)
	return o, nil
}

// orDefault is d, the default where it is 0, and 0 where it is negative.
func orDefault(d, def time.Duration) time.Duration {
	switch {
	case d == 0:
		return def
	case d < 0:
		return 0
	}
	return d
}
