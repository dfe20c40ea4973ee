package app

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/coreos/go-systemd/v22/daemon"

	"imapproxy/internal/config"
	"imapproxy/internal/task"
	"imapproxy/internal/wiring"
	"imapproxy/proxy/upstream"
	"imapproxy/routing"
	"imapproxy/routing/discovery"
)

// Run serves until ctx ends, or until it can't continue. Then it
// drains the sessions and stops all that it has started before it returns. Call it once.
func (a *App) Run(ctx context.Context) error {
	if a.ran || a.closed {
		return errors.New("app: Run after Run or Close")
	}
	a.ran = true
	defer context.AfterFunc(ctx, a.stop)()
	ctx = a.over
	log := a.tel.Log
	if err := a.begin(ctx); err != nil {
		a.end()
		return errors.Join(err, a.finish())
	}
	log.Info("serving", "version", a.opts.Version, "config", a.opts.File, "hostname", a.cfg.Hostname, "admin", a.AdminAddr())
	a.notify(daemon.SdNotifyReady, "serving")
	a.serve(ctx)
	a.end()
	a.stop()
	a.beside.stopOlder()
	a.notify(daemon.SdNotifyStopping, "draining")
	err := a.finish()
	if err == nil {
		log.Info("stopped")
	}
	return err
}

// serve handles reloads until the end.
func (a *App) serve(ctx context.Context) {
	log := a.tel.Log
	for {
		select {
		case answer := <-a.reloads:
			answer <- a.reload()
		case step := <-a.beside.next():
			step()
		case <-a.beside.over():
			log.Info("the last session has ended; the successor serves on")
			return
		case <-a.serving.Done():
			// Serve returns by itself only if it can't continue.
			log.Error("serving ended", "error", a.serving.Stop())
			return
		case <-ctx.Done():
			log.Info("stopping", "drain", a.cfg.Shutdown.Drain)
			return
		}
	}
}

// begin starts all parts. Where another process of this proxy serves, it takes over; on error that one serves on.
func (a *App) begin(ctx context.Context) error {
	a.beginBehind()
	if a.beside.succeeds() {
		if err := a.succeed(ctx); err != nil {
			return err
		}
	} else {
		a.beginServing()
	}
	a.beginPublic()
	a.beginBeside()
	return nil
}

// beginBehind starts parking, discovery and the agreement: what serves no client.
func (a *App) beginBehind() {
	a.parking.begin()
	a.cluster.begin(a.cfg, a.tel)
	a.watch()
	a.pausing = task.Start(a.keepPauses)
	a.agreement.begin(a.router)
}

// beginServing starts the listeners.
func (a *App) beginServing() {
	a.serving = task.Start(a.server.Serve)
	for name, address := range a.server.Addrs() {
		a.tel.Log.Info("listening", "listener", name, "address", address)
	}
}

// beginPublic starts what only one process of a proxy has: registration, the admin API, push events.
func (a *App) beginPublic() {
	a.register()
	if a.admin != nil {
		a.answering = task.Start(a.admin.Serve)
	}
	if a.events != nil {
		a.listening = task.Start(a.events.Serve)
	}
}

// finish drains the sessions and ends what begin has started. Registration ends first, so that no more
// clients are sent here.
func (a *App) finish() error {
	err := errors.Join(a.registration.Stop(), a.endLeaving())
	err = errors.Join(err, a.unbind(), a.serving.Stop(), a.pausing.Stop())
	a.parking.end()
	err = errors.Join(err, a.endAgreement())
	return errors.Join(err, a.listening.Stop(), a.answering.Stop(), a.cluster.end(), a.watching.Stop())
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

// maxWarned bounds the number of addresses in the set of those about which a warning was logged.
const maxWarned = 4096

// alone returns an error if another proxy lives under the service under which this proxy is to be
// registered, or starts at the same time and was first, and the two don't agree on where users are. An
// earlier process of this proxy doesn't count. If Consul doesn't answer, the proxy serves: a restart while
// Consul is away must not fail.
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
	if id, err := discovery.RegistrationID(o.Service, o.Port); err == nil { // otherwise Register says what is wrong
		o.ID = id
	}
	o.Instance, o.Started, o.Version, o.Agreed = a.instance, a.started, a.opts.Version, a.agreement != nil
	return o, nil
}
