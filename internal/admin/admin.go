// Package admin is the proxy's HTTP API on an address of its own: health,
// metrics, backends and sessions, as JSON and as a small HTML page, and actions of
// operators. Paths below /v1/cluster are answered by all proxies of the service. It passes /v1/events on to
// package proxy/park/events. docs/admin.md is its manual. The types in types.go are its answers;
// Client, which the command line uses, reads them.
//
// Imports docs, internal/fair, internal/peers, proxy, routing and telemetry. Imported by
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
)

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
