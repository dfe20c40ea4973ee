package app

import (
	"time"

	"imapproxy/internal/admin"
	"imapproxy/internal/wiring"
	"imapproxy/telemetry"
)

// openAdmin binds the admin API's address; it returns nil if the API is off.
func (a *App) openAdmin() (*admin.Server, error) {
	c := a.cfg.Admin
	if c.Address == "" {
		return nil, nil
	}
	o := admin.Options{Address: c.Address, Proxy: a.server, Router: a.router, Log: a.tel.Log, Now: a.opts.Now}
	if a.cfg.Telemetry.Metrics.Prometheus {
		o.Metrics = a.tel.MetricsHandler()
	}
	if c.TokenFile != "" {
		var err error
		if o.Token, err = wiring.Secret(c.TokenFile); err != nil {
			return nil, wiring.About("admin.token_file", err)
		}
	}
	if c.ReadTokenFile != "" {
		var err error
		if o.ReadToken, err = wiring.Secret(c.ReadTokenFile); err != nil {
			return nil, wiring.About("admin.read_token_file", err)
		}
	}
	o.ID, o.Fleet, o.PeerToken, o.TLS = a.cluster.id, a.cluster.fleet, a.cluster.peerToken, a.cluster.adminTLS()
	if t := a.opts.VerbToken; t != "" {
		o.PeerToken = func() telemetry.Secret { return t }
	}
	o.Name, o.Digest = a.name, func() string { return a.current.Load().digest }
	o.Parking, o.Reload, o.Kick = a.parking.status, a.lastReload.Load, a.kick
	o.User, o.Flush, o.Hints, o.Route = a.user, a.flush, a.hints, a.route
	if g := a.agreement; g != nil {
		o.Agreement, o.Remove, o.Mover = g.status, a.removeProxy, mover{a}
	}
	o.Config, o.Problems, o.Process = a.config, a.problems, a.process
	o.Past = past{a}
	o.TraceURL = func() string { return a.current.Load().cfg.Telemetry.TraceURL }
	o.Pauser, o.Shortages, o.Leaving = pauser{a}, a.shortages, a.beside.leavingProcesses
	o.LameDuck = a.lameDuck
	o.SessionsOn, o.Lately = a.server.SessionsOn, a.lately
	o.Capabilities = a.server.Capabilities
	o.Room = func(backend string) (connections, bound int) {
		s := a.room.Status(backend)
		return s.Connections, s.Bound
	}
	if a.parking.events != nil && a.cfg.Park.Events.Address == "" {
		o.Events = a.parking.events
	}
	var err error
	if o.Listener, err = a.sockets.Take(adminSocket, c.Address); err != nil {
		return nil, wiring.About("admin.address", err)
	}
	server, err := admin.New(o)
	if err == nil {
		err = server.Listen()
	}
	if err != nil {
		return nil, wiring.About("admin.address", err)
	}
	return server, nil
}

// openEvents binds the address of push events; it returns nil if they have no address of their own.
func (a *App) openEvents() (*admin.Server, error) {
	address := a.cfg.Park.Events.Address
	if a.parking.events == nil || address == "" {
		return nil, nil
	}
	socket, err := a.sockets.Take(eventsSocket, address)
	if err != nil {
		return nil, wiring.About("park.events.address", err)
	}
	server, err := admin.NewEvents(admin.Options{Address: address, Listener: socket, Events: a.parking.events, Log: a.tel.Log})
	if err == nil {
		err = server.Listen()
	}
	if err != nil {
		return nil, wiring.About("park.events.address", err)
	}
	a.tel.Log.Info("push events", "address", server.Addr())
	return server, nil
}

// shortages returns the proxy's shortages for the admin API.
func (a *App) shortages() []admin.Shortage {
	var all []admin.Shortage
	for _, s := range a.tel.Shortages() {
		all = append(all, admin.Shortage{Of: s.Of, At: s.At, Count: s.Count, Last: s.Last, Error: s.Error})
	}
	return all
}

// lately returns what was seen of a backend, by its name, in the last minutes.
func (a *App) lately(name string) admin.BackendLately {
	r := a.tel.Recent(name)
	dial, login, answer := a.tel.RecentTimes(name)
	lasting := func(q telemetry.Quantiles) admin.Lasting {
		return admin.Lasting{Count: q.Count, P50: float64(q.P50) / float64(time.Millisecond), P99: float64(q.P99) / float64(time.Millisecond)}
	}
	return admin.BackendLately{Seconds: int(telemetry.RecentFor / time.Second), Dial: lasting(dial), Login: lasting(login), Answer: lasting(answer),
		Slow: r.Slow, FailedDials: r.FailedDials, FailedLogins: r.FailedLogins, RefusedLogins: r.Refused, Silent: r.GivenUp}
}

// name returns this proxy's id in Consul, or its hostname if it isn't registered.
func (a *App) name() string {
	if c := a.registered.Load(); c != nil {
		return *c
	}
	return a.server.Status().Hostname
}
