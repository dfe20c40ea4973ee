package proxy

import (
	"crypto/tls"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"imapproxy/internal/fair"
	"imapproxy/proxy/session"
	"imapproxy/telemetry"
)

// Server is the proxy as clients see it: its listeners and their sessions.
type Server struct {
	tel      *telemetry.Telemetry
	now      func() time.Time
	env      *session.Env              // shared by the sessions; Serve runs its poller
	reg      *session.Registry         // the sessions; also in env
	refusals *fair.Queue[netip.Prefix] // slots for telling clients that there is no place
	trials   *trials
	accepts  *acceptGate
	routes   routes

	set         atomic.Pointer[settings]
	rechecks    chan struct{} // asks recheckSessions for a round
	proves      chan struct{} // asks proveSharing for a round
	sourcesSeen atomic.Uint64 // auth.Version at the last check
	listeners   []*listener
	started     time.Time

	// sessions counts each session from accept until gone; Serve waits for it.
	sessions sync.WaitGroup
	draining atomic.Bool
	leaving  atomic.Bool // a successor accepts the clients

	sweeping sync.Mutex // held by Sweep, guards swept
	swept    int        // the shard whose parked sessions the next sweep visits

	illegal func(what string) // called at a broken invariant; nil: it is logged
}

// listener accepts on one address.
type listener struct {
	srv  *Server
	opts ListenerOptions // name, address and TLS mode don't change
	set  atomic.Pointer[listenerSettings]
	of   *session.Listener // what its sessions see of it
	tcp  *net.TCPListener
}

// trials probes backends whose last connection failed, so that users' logins needn't find out whether they
// work again; and backends that closed the connection of a login, so that a failure caused by one user's data
// doesn't count against them.
type trials struct {
	srv    *Server
	flight singleflight.Group // by backend
	news   chan struct{}      // a failure was reported, or a suspect

	mu       sync.Mutex          // guards suspects
	suspects map[string]struct{} // backends at which sessions wait for answers (session.Stalls)
}

// settings are the settings that Reload can change.
type settings struct {
	Options
	sessions *session.Settings // the part for sessions
}

// listenerSettings are the settings of a listener that Reload can change.
type listenerSettings struct {
	ListenerOptions
	certs   *certificates // nil without TLS
	clients *clientCerts  // nil: clients aren't asked for a certificate
	tls     *tls.Config
}
