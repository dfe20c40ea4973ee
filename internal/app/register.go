package app

import (
	"context"
	"fmt"
	"strings"

	"imapproxy/internal/config"
	"imapproxy/internal/task"
	"imapproxy/internal/wiring"
	"imapproxy/proxy/upstream"
	"imapproxy/routing"
	"imapproxy/routing/discovery"
)

// alone returns an error if another proxy under this proxy's service is alive, or starts at the same time and
// was first, and the two don't agree on where users are. An earlier process of this proxy doesn't count. If
// Consul doesn't answer, the proxy serves: a restart while Consul is away must not fail.
func (a *App) alone(ctx context.Context) error {
	c := a.cfg
	if c.Register == nil || c.Register.AllowOthers || c.Cluster != nil || a.beside.succeeds() {
		return nil
	}
	bound := make(map[string]string)
	for _, l := range c.Listeners {
		bound[l.Name] = l.Address
	}
	o, err := a.registerOptions(bound)
	if err != nil {
		return nil //nolint:nilerr // register logs the error
	}
	if o.Port == 0 { // a free port, which no earlier process had
		o.Port, o.ID = 1, a.instance
	}
	others, err := discovery.Alone(ctx, o)
	switch {
	case err != nil:
		a.tel.Log.Warn("consul doesn't say whether another proxy is alive under this service", "service", o.Service, "error", err)
		return nil
	case len(others) == 0:
		a.asked = &o
		return nil
	}
	return wiring.About("register", &othersError{o.Service, others})
}

// withdraw takes back what alone has entered in Consul, for a proxy that doesn't serve after all.
func (a *App) withdraw() {
	if a.asked != nil {
		discovery.Withdraw(context.Background(), *a.asked)
	}
}

// register registers the proxy in Consul if the settings say so. A failure is logged as a warning.
func (a *App) register() {
	a.registration = nil
	a.registered.Store(nil)
	if a.cfg.Register == nil {
		return
	}
	o, err := a.registerOptions(a.server.Addrs())
	if err != nil {
		a.tel.Log.Warn("not registered in consul", "error", err)
		return
	}
	if o.ID != "" {
		a.registered.Store(&o.ID)
	}
	if a.asked != nil && a.asked.ID != o.ID {
		a.withdraw()
	}
	a.registration = task.Start(func(ctx context.Context) error { return discovery.Register(ctx, o) })
}

// registerOptions returns the entry of this proxy in Consul, with listeners at these addresses.
func (a *App) registerOptions(bound map[string]string) (discovery.RegisterOptions, error) {
	o, err := wiring.Register(a.cfg, bound, a.AdminAddr(), a.tel)
	if err != nil {
		return o, err
	}
	if id, err := discovery.RegistrationID(o.Service, o.Address, o.Port); err == nil { // otherwise Register says what is wrong
		o.ID = id
	}
	o.Instance, o.Started, o.Version, o.Agreed = a.instance, a.started, a.opts.Version, a.agreement != nil
	o.Stopping = a.leaving
	if a.beside != nil {
		o.HandedOver = a.beside.passed.Load
	}
	return o, nil
}

// watch follows the source of backends.
func (a *App) watch() {
	cfg, source, first := a.cfg, a.source, a.ready
	select {
	case <-first:
		first = nil // a reload
	default:
	}
	keeper, _ := source.(discovery.Keeper)
	warned := map[string]bool{}        // addresses
	take := func(s routing.Snapshot) { // one at a time
		if whole := a.router.Apply(s); whole && keeper != nil && a.agreement == nil {
			keeper.Keep(s)
		}
		fleet := a.router.Backends()
		a.parking.forget(fleet)
		a.warnOfCleartext(cfg, fleet, warned)
		if first != nil {
			close(first)
			first = nil
		}
	}
	apply := take
	if a.agreement != nil { // the agreement decides what becomes of an answer
		a.agreement.take.Store(permitted(wiring.Fleet(cfg).Policy, take))
		apply = a.agreement.discovered
	}
	a.watching = task.Start(func(ctx context.Context) error { return source.Run(ctx, apply) })
}

// permitted returns take with a check of each backend's TLS before it: a proxy with other settings may have
// made the fleet.
func permitted(p discovery.TLSPolicy, take func(routing.Snapshot)) *func(routing.Snapshot) {
	f := func(s routing.Snapshot) {
		for i := range s.Backends {
			p.Permit(&s.Backends[i])
		}
		take(s)
	}
	return &f
}

// maxWarned bounds the number of addresses in the set of those about which a warning was logged.
const maxWarned = 4096

// othersError means that another proxy is alive.
type othersError struct {
	service string
	others  []string
}

func (e *othersError) Error() string {
	return fmt.Sprintf("another proxy is alive under the service %q: %s. Proxies that don't agree on where users are would have one user on two backends. "+
		"Write a block cluster on all of them (docs/cluster.md), or allow_others = true here if they serve different users. "+
		"One that was killed counts as alive for another 30 s", e.service, strings.Join(e.others[:min(len(e.others), 5)], ", "))
}

// warnOfCleartext says once of each backend on another machine that passwords go there without TLS.
func (a *App) warnOfCleartext(c *config.Config, fleet []routing.BackendStatus, warned map[string]bool) {
	for _, b := range fleet {
		t := wiring.Target(c, b.Backend)
		if t.TLS != upstream.TLSNone || upstream.Local(t.Address) || warned[t.Address] || len(warned) >= maxWarned {
			continue
		}
		warned[t.Address] = true
		what := "passwords go to this backend without TLS"
		if c.BackendLogin.Mode == upstream.ModeMaster && !c.BackendLogin.Cleartext {
			what = "no user can log in to this backend: the master's password isn't sent to another machine without TLS"
		}
		a.tel.Log.Warn(what, "backend", t.Name, "address", t.Address, "help", "backend_defaults.tls, or Consul's meta tls")
	}
}
