package app

import (
	"log/slog"

	"imapproxy/internal/admin"
	"imapproxy/proxy"
	"imapproxy/proxy/park"
	"imapproxy/proxy/upstream"
)

// AdminAddr returns the address of the admin API, "" if it is off.
func (a *App) AdminAddr() string { return addr(a.admin) }

// EventsAddr returns the address for push events: their own, or the admin API's; "" if push events are off.
func (a *App) EventsAddr() string {
	switch {
	case a.parking.events == nil:
		return ""
	case a.events == nil:
		return addr(a.admin)
	}
	return addr(a.events)
}

// Addrs returns the listeners' bound addresses by name; they are known after Open.
func (a *App) Addrs() map[string]string { return a.server.Addrs() }

func addr(s *admin.Server) string {
	if s == nil {
		return ""
	}
	return s.Addr().String()
}

// Server returns the proxy's server, for callers that look at single sessions.
func (a *App) Server() *proxy.Server { return a.server }

// Hub returns the hub, which watches the mailboxes of parked sessions.
func (a *App) Hub() *park.Hub { return a.parking.hub }

// Pool returns the pool of warm backend connections.
func (a *App) Pool() *upstream.Pool { return a.parking.pool }

// Log returns the App's log.
func (a *App) Log() *slog.Logger { return a.tel.Log }

// Ready returns a channel that closes when the first set of backends is known. From then on
// logins find their backends.
func (a *App) Ready() <-chan struct{} { return a.ready }
