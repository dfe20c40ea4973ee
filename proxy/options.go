package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"imapproxy/proxy/auth"
	"imapproxy/proxy/auth/authpolicy"
	"imapproxy/proxy/guessing"
	"imapproxy/proxy/session"
	"imapproxy/proxy/upstream"
	"imapproxy/routing"
	"imapproxy/telemetry"
)

// Options are the settings of a Server. Reload's comment lists those that it can't change.
type Options struct {
	// Hostname is the proxy's name in greetings.
	Hostname string
	// Version is sent to clients in ID.
	Version   string
	Listeners []ListenerOptions

	Names   auth.Names
	Sources []auth.Source      // owned by the caller
	Policy  *authpolicy.Client // is asked whether logins may go on, owned by the caller; nil: there is none
	// Recheck is how long the verdict of a source or the backend counts for logged-in users (rechecks.go). 0:
	// 5 min; negative: each resume verifies the user again.
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
	// BackendSendProxy says whether connections to backends begin with the PROXY header (upstream.ProxyV2), if
	// discovery doesn't say.
	BackendSendProxy string

	// StallAfter is how long a backend may owe a client an answer before the proxy checks whether it hangs
	// (docs/failures.md). 0: 30 s; negative: never.
	StallAfter time.Duration

	Router *routing.Router
	// Placement names the backend of a user if the credentials don't; nil:
	// there are no such placements. An error is NO [UNAVAILABLE].
	Placement func(ctx context.Context, user string) (backend string, ok bool, err error)
	// Place changes such a placement, if it is still from; nil: it can't be changed from here.
	Place func(ctx context.Context, user, from, to string) error

	// RouteFor is how long an answer of Route holds. 0: DefaultRouteFor.
	RouteFor time.Duration

	Limits     session.Limits
	Handshakes guessing.HandshakeRules
	Guessing   guessing.Rules  // their Delay is that of Limits.AuthFailureDelay
	Guard      *guessing.Guard // nil: a new one. Reload doesn't use it
	Park       session.ParkOptions
	Shared     session.SharedOptions // mailboxes shared between users of different backends
	Telemetry  *telemetry.Telemetry  // nil: nothing is recorded
	// Drain is how long sessions may continue when the server stops.
	Drain time.Duration

	// Listen binds a listener's address, or returns a socket that was bound to it elsewhere. nil: the address is bound. Reload doesn't use it.
	Listen func(ctx context.Context, name, address string) (*net.TCPListener, error)

	// Overdue says that this proxy can't trust its backend connections any more, since it may have been stopped for so long that others have
	// moved its users (docs/cluster.md). It is asked at each command boundary and takes no lock. nil: never. Reload can't change it.
	Overdue func() bool

	Now func() time.Time // nil: time.Now
}

// ListenerOptions are the settings of one listener.
type ListenerOptions struct {
	Name    string
	Address string // host:port
	TLS     string // TLSImplicit, TLSStartTLS or TLSNone
	// Certificates are chosen by SNI; the first is for clients that send none.
	Certificates []Certificate
	MinVersion   uint16 // tls.VersionTLS12 (also 0) or tls.VersionTLS13
	CBC          bool   // also the suites of TLS 1.2 with CBC
	// ClientCertificates say by which certificates clients may log in; nil: by none.
	ClientCertificates *ClientCertificates
	// CleartextFrom are the networks from which passwords may come without TLS.
	CleartextFrom []netip.Prefix
	// TrustedProxies are the networks of IMAP proxies and webmail that name the client's address by ID (x-originating-ip), and
	// whose x-proxy-ttl is used; from elsewhere the first is ignored, and the second only counts if it is less than the default.
	TrustedProxies []netip.Prefix
	// TLSFromProxy: a client whose PROXY header says that it uses TLS counts as one with TLS.
	TLSFromProxy bool
	// ProxyTrusted are the networks whose connections begin with a PROXY
	// header (v1 or v2); from elsewhere none is accepted. Empty: from nowhere.
	ProxyTrusted []netip.Prefix
	// Compress offers clients that have logged in COMPRESS=DEFLATE (RFC 4978). CompressHistory is how many of the octets that a client was sent
	// last the compressed text refers to, at most 8,192: each attached session that is compressed holds them.
	Compress        bool
	CompressHistory int
}

// Certificate is one certificate: files that are read again when they change,
// or, if KeyPEM is set, the PEM texts in CertPEM and KeyPEM.
type Certificate struct {
	CertFile, KeyFile string
	CertPEM, KeyPEM   []byte
}

// DefaultDrain is the default of Options.Drain.
const DefaultDrain = 30 * time.Second

// sessions returns the options for sessions.
func (o *Options) sessions() *session.Settings {
	return &session.Settings{
		Hostname: o.Hostname, Version: o.Version, Names: o.Names, Sources: o.Sources, Policy: o.Policy, Recheck: o.Recheck,
		Dialer: o.Dialer, Login: o.Login, BackendTLS: o.BackendTLS, BackendServerName: o.BackendServerName, BackendSendProxy: o.BackendSendProxy, StallAfter: o.StallAfter,
		Router: o.Router, Placement: o.Placement, Limits: o.Limits, Guessing: o.Guessing, Handshakes: o.Handshakes, Park: o.Park, Shared: o.Shared,
	}
}

// withDefaults fills in zero fields, or returns an error.
func (o Options) withDefaults() (Options, error) {
	if o.Router == nil || o.Dialer == nil {
		return o, errors.New("proxy: a router and a dialer are needed")
	}
	if len(o.Sources) == 0 {
		return o, errors.New("proxy: no source of credentials")
	}
	for _, l := range o.Listeners {
		switch l.TLS {
		case session.TLSImplicit, session.TLSStartTLS:
			if len(l.Certificates) == 0 {
				return o, fmt.Errorf("proxy: listener %q: TLS without a certificate", l.Name)
			}
		case session.TLSNone:
		default:
			return o, fmt.Errorf("proxy: listener %q: tls is %q, write implicit, starttls or none", l.Name, l.TLS)
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
	o.Limits = o.Limits.WithDefaults()
	o.Drain = session.OrDefault(o.Drain, DefaultDrain)
	o.Recheck = session.OrDefault(o.Recheck, session.DefaultRecheck)
	return o, nil
}
