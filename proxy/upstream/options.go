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

// Bounds of a backend's responses before its login is done. A real backend sends a greeting, two capability
// lists and a line of text: under 3 KB.
const (
	maxLine    = 8 << 10  // octets of one line
	maxLiteral = 4 << 10  // octets of one literal
	maxTotal   = 64 << 10 // octets of all responses from the greeting to the hand-over
)

// Options are the settings of a Dialer. The zero value is usable.
type Options struct {
	// Hostname is the proxy's name, sent to backends in ID (x-proxy-host) so that their logs name the proxy.
	// Empty: not sent.
	Hostname string

	// ConnectTimeout bounds the TCP connect, name resolution included.
	// Zero: DefaultConnectTimeout.
	ConnectTimeout time.Duration

	// LoginTimeout bounds the rest, up to the login's OK and the capabilities: TLS, greeting, ID, login. The
	// verification at the first use of a master login may take the same time again. Zero:
	// DefaultLoginTimeout.
	LoginTimeout time.Duration

	// TLS is the base of the backends' TLS configurations (nil: Go's defaults with TLS 1.2 at least).
	// ServerName is replaced for each backend, and a session cache is added.
	TLS *tls.Config

	// CAFile has the certificate authorities in PEM by which backends are verified. New reads it once. Empty:
	// those of TLS, otherwise the system's.
	CAFile string

	// SourceAddresses are the local addresses of connections, used in turn. Empty: the system chooses. They
	// have no effect if Dialer is set.
	SourceAddresses []netip.Addr

	// CleartextMaster allows master logins to another machine without TLS. Otherwise they are refused: an
	// eavesdropper on one could read every mailbox.
	CleartextMaster bool

	// Dialer opens TCP connections; it must return a *net.TCPConn. nil: a
	// net.Dialer.
	Dialer func(ctx context.Context, network, address string) (net.Conn, error)

	// Room counts the Dialer's connections, and closes warm ones at backends that are full. nil: a new one,
	// which closes none.
	Room *Room

	// MasterFindings has results about master logins from an earlier Dialer. nil: none.
	MasterFindings *MasterFindings

	// SlowAfter is how long a backend may be silent before it counts as full. Zero: DefaultSlowAfter.
	SlowAfter time.Duration

	// Claims is asked before each connection for a user. nil: this proxy decides alone where users are.
	Claims Claims
	// Overdue says that this proxy may have lost the connections for users, since it was stopped: nothing is sent on them then. nil: never.
	Overdue func() bool

	// Telemetry may be nil.
	Telemetry *telemetry.Telemetry

	// Now is the clock for durations. nil: time.Now.
	Now func() time.Time
}
