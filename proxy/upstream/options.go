package upstream

import (
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
	// an eavesdropper on one would have every mailbox.
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

	// Claims is asked before each connection for a user. nil: this proxy decides alone where users are.
	Claims Claims

	// Telemetry may be nil.
	Telemetry *telemetry.Telemetry

	// Now is the clock that durations are measured with. nil: time.Now.
	Now func() time.Time
}
