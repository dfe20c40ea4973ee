// Package admin is the proxy's HTTP API on an address of its own: health,
// metrics, backends and sessions, as JSON and as a small HTML page, and actions of
// operators. Paths below /v1/cluster are answered by all proxies of the service. It passes /v1/events on to
// package proxy/park/events. docs/admin.md is its manual. The types in types.go are its answers;
// Client, which the command line uses, reads them.
//
// Imports internal/fair, internal/peers, proxy, routing and telemetry. Imported by
// cmd/imapproxy and internal/app.
package admin

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"imapproxy/internal/peers"
	"imapproxy/proxy"
	"imapproxy/routing"
	"imapproxy/telemetry"
)

// Bounds of the resources that callers can use.
const (
	maxConns       = 64  // without a token, and as many with one
	maxEventConns  = 256 // if events come to the same address: more than are read at a time
	maxHeaderBytes = 16 << 10
	maxBodyBytes   = 1 << 10 // no request needs one
	headerTimeout  = 5 * time.Second
	readTimeout    = 10 * time.Second
	writeTimeout   = 30 * time.Second
	idleTimeout    = time.Minute
	shutdownTime   = 5 * time.Second // for requests in progress
)

// Proxy has the methods of proxy.Server that the API uses.
type Proxy interface {
	Status() proxy.Status
	Sessions(proxy.Filter) (page []proxy.SessionInfo, next string)
}

// Router has the methods of routing.Router that the API uses.
type Router interface {
	Ready() bool
	LastGood() time.Time
	FromSaved() bool
	Backends() []routing.BackendStatus
}

// Options are the settings of a Server. Address, Proxy and Router are required.
type Options struct {
	Address string // host:port
	// Listener is a socket that was bound to Address elsewhere; nil: Listen binds it.
	Listener *net.TCPListener
	// Token is the token that callers must send (Authorization: Bearer); "" means that none is required,
	// which is allowed on loopback only.
	Token telemetry.Secret
	// TLS has the certificate; nil: the API uses no TLS.
	TLS *tls.Config
	// ID is this process's own, by which it knows itself among its peers; Name returns what people
	// call it, nil: its hostname. Fleet is the other proxies, nil: this one is alone. PeerToken returns the token that
	// they send, besides Token; nil, or "": none.
	ID        string
	Name      func() string
	Fleet     Fleet
	PeerToken func() telemetry.Secret
	Digest    func() string // of the settings; nil: unknown
	// Agreement returns this proxy's part in what the proxies agree on, and how it goes on where it is isolated. nil: they don't agree with each other.
	Agreement func() (a Agreement, isolated string)
	// Remove takes a dead proxy out of it. nil: there's no /v1/proxies/remove.
	Remove  func(ctx context.Context, id string) error
	Proxy   Proxy
	Router  Router
	Metrics http.Handler    // nil: there's no /metrics
	Events  http.Handler    // nil: there's no /v1/events. It asks for a token of its own.
	Parking func() *Parking // nil, or returns it: parking is off
	// Shortages returns the resources of its own that the proxy has run out of; nil: unknown.
	Shortages func() []Shortage
	// Room returns how many connections the proxy has to a backend, and their bound; nil: unknown.
	Room func(backend string) (connections, bound int)
	// Leaving returns the older processes of this proxy; nil: there are none.
	Leaving func() []Leaving
	Reload  func() *Reload // nil, or returns it: there was no reload
	// User returns the data about a user, without the sessions; Flush removes cached data. nil: there's no
	// /v1/user, no /v1/flush.
	User  func(ctx context.Context, user string) User
	Flush func(user string) FlushAnswer
	// Hints takes what another proxy has sent on of push events; nil: there's no /v1/hints.
	Hints func([]peers.Hint)
	// Kick ends sessions; nil: there's no /v1/kick.
	Kick func(context.Context, proxy.Kick) proxy.Kicked
	// Mover moves users; nil: the proxies don't agree with each other, and the verbs are refused.
	Mover Mover
	// Pauser pauses backends; nil: the verbs are refused.
	Pauser Pauser
	Log    *slog.Logger     // nil: nothing is logged
	Now    func() time.Time // nil: time.Now
}

// A Server is the API, or an address for events alone.
type Server struct {
	opts     Options
	addr     *net.TCPAddr // resolved, before it's bound
	loopback bool
	ln       net.Listener
	tcp      *net.TCPListener // under ln
	http     *http.Server
}

// ErrNoToken is New's error for an address that isn't on loopback without a token.
var ErrNoToken = errors.New("a token is required off loopback: set admin's token_file, or listen on 127.0.0.1")

// New checks the options; it opens nothing. The error is ErrNoToken, or says
// what is wrong with the address.
func New(o Options) (*Server, error) {
	if o.Proxy == nil || o.Router == nil {
		return nil, errors.New("admin: a proxy and a router are needed")
	}
	s, err := newServer(o)
	if err != nil {
		return nil, fmt.Errorf("admin address %q: %w", o.Address, err)
	}
	if !s.loopback && o.Token == "" {
		return nil, fmt.Errorf("admin address %s: %w", o.Address, ErrNoToken)
	}
	s.http.Handler = s.Handler()
	return s, nil
}

// NewEvents returns a server for only /v1/events and /healthz, on an address of its own. The Events handler
// checks its token itself. Only the options Address, Events and Log are used.
func NewEvents(o Options) (*Server, error) {
	s, err := newServer(o)
	if err != nil {
		return nil, fmt.Errorf("events address %q: %w", o.Address, err)
	}
	mux := http.NewServeMux()
	mux.Handle(eventsPath, proving(o.Events))
	mux.HandleFunc("/healthz", s.healthz)
	s.http.Handler = mux
	return s, nil
}

// newServer resolves the address and sets the bounds for callers.
func newServer(o Options) (*Server, error) {
	addr, err := net.ResolveTCPAddr("tcp", o.Address)
	if err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Server{opts: o, addr: addr, loopback: addr.IP.IsLoopback(), http: &http.Server{
		ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHeaderBytes, ConnContext: withConn,
		ErrorLog: slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug),
	}}, nil
}

// Listen binds the address that New has resolved.
func (s *Server) Listen() error {
	ln := s.opts.Listener
	if ln == nil {
		var err error
		if ln, err = net.ListenTCP("tcp", s.addr); err != nil {
			return fmt.Errorf("admin: %w", err)
		}
	}
	s.tcp = ln
	limit := maxConns
	if s.opts.Events != nil {
		limit = maxEventConns
	}
	s.ln = newListener(ln, limit)
	if s.opts.TLS != nil {
		s.ln = tls.NewListener(s.ln, s.opts.TLS)
	}
	return nil
}

// Socket returns the bound socket, nil before Listen.
func (s *Server) Socket() *net.TCPListener { return s.tcp }

// Addr returns the bound address, nil before Listen.
func (s *Server) Addr() net.Addr {
	if s.ln == nil {
		return nil
	}
	return s.ln.Addr()
}

// Serve answers requests until ctx ends, then waits for requests in progress (5 s at most) and returns nil.
// It calls Listen if that wasn't done.
func (s *Server) Serve(ctx context.Context) error {
	if s.ln == nil {
		if err := s.Listen(); err != nil {
			return err
		}
	}
	ended := make(chan error, 1)
	go func() { ended <- s.http.Serve(s.ln) }() // ends at Shutdown or Close below, where Serve waits for it
	select {
	case err := <-ended:
		return fmt.Errorf("admin: %w", err)
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTime)
	defer cancel()
	if err := s.http.Shutdown(stop); err != nil {
		s.opts.Log.Warn("admin: requests cut off at shutdown", "error", err)
		_ = s.http.Close() // the remaining requests are cut off
	}
	<-ended //nolint:errcheck // http.ErrServerClosed
	return nil
}
