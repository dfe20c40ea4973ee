package main

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"reflect"
	"sync/atomic"
	"time"

	"imapproxy/internal/admin"
	"imapproxy/internal/config"
	"imapproxy/proxy"
	"imapproxy/proxy/auth"
	"imapproxy/proxy/upstream"
	"imapproxy/routing"
	"imapproxy/routing/discovery"
	"imapproxy/telemetry"
)

// telemetryFlush bounds the last export of traces and metrics.
const telemetryFlush = 5 * time.Second

// instanceOptions are what an instance is made of.
type instanceOptions struct {
	Config *config.Config
	Logs   io.Writer
	// Certificate is for listeners that the configuration gives none (dev only).
	Certificate *proxy.Certificate
}

// instance is one running proxy: all the rooms, wired. Its methods are called from
// one goroutine, in this order: open, begin, any number of reloads, end.
type instance struct {
	opts  instanceOptions
	cfg   *config.Config // what holds; its restart settings are those of the start
	level *slog.LevelVar
	tel   *telemetry.Telemetry

	router  *routing.Router
	sources []auth.Source
	source  discovery.Source // of the backends
	room    *upstream.Room   // counts the connections to backends
	parking *parking
	server  *proxy.Server
	admin   *admin.Server // nil where it is off
	events  *admin.Server // nil where events come to admin, or none

	lastReload atomic.Pointer[admin.Reload] // nil: there was none

	learnt chan struct{} // closed when the first set of backends has been applied

	watching     *task // source.Run
	registration *task // nil where it is off
	serving      *task // server.Serve
	answering    *task // admin.Serve
	listening    *task // events.Serve
}

// open makes all rooms and binds all addresses. Nobody is served yet. On error
// nothing is left behind.
func open(ctx context.Context, o instanceOptions) (_ *instance, err error) {
	i := &instance{opts: o, cfg: o.Config, level: &slog.LevelVar{}, learnt: make(chan struct{})}
	i.level.Set(logLevel(o.Config))
	if i.tel, err = telemetry.Start(ctx, telemetryOptions(o.Config, i.level, o.Logs)); err != nil {
		var file *fs.PathError
		if errors.As(err, &file) {
			err = about("telemetry.log.file", file)
		}
		return nil, err
	}
	defer func() {
		if err != nil {
			over, cancel := context.WithCancel(ctx)
			cancel()
			for _, bound := range []*admin.Server{i.admin, i.events} {
				if bound != nil { // Serve with a context that is over unbinds it
					_ = bound.Serve(over)
				}
			}
			closeSources(i.sources)
			i.flush()
		}
	}()
	routes, err := routingOptions(o.Config, i.tel)
	if err != nil {
		return nil, err
	}
	if i.router, err = routing.New(routes); err != nil {
		return nil, err
	}
	i.room = upstream.NewRoom(roomOptions(o.Config))
	if i.source, err = newSource(o.Config, i.tel, i.room); err != nil {
		return nil, err
	}
	if i.sources, err = newSources(o.Config, i.tel.Log); err != nil {
		return nil, err
	}
	if i.parking, err = newParking(o.Config, i.tel, i.room); err != nil {
		return nil, err
	}
	options, err := i.proxyOptions(o.Config, i.sources, i.source)
	if err != nil {
		return nil, err
	}
	if i.server, err = proxy.New(options); err != nil {
		return nil, err
	}
	if i.admin, err = i.openAdmin(); err != nil {
		return nil, err
	}
	if i.events, err = i.openEvents(); err != nil {
		return nil, err
	}
	if err = i.server.Listen(ctx); err != nil {
		return nil, err
	}
	return i, nil
}

// proxyOptions is the server's part of a configuration.
func (i *instance) proxyOptions(c *config.Config, sources []auth.Source, source discovery.Source) (proxy.Options, error) {
	o := proxyOptions(c, i.opts.Certificate)
	o.Sources, o.Router, o.Telemetry = sources, i.router, i.tel
	o.Park = parkOptions(c, i.parking)
	var err error
	dial := upstreamOptions(c, i.tel)
	dial.Room = i.room
	if _, err = upstream.NewSources(dial.SourceAddresses); err != nil {
		return o, about("backend_defaults.source_addresses", err)
	}
	if o.Dialer, err = upstream.New(dial); err != nil {
		return o, err
	}
	if o.Login, err = backendLogin(c); err != nil {
		return o, about("backend_login.password_file", err)
	}
	// Where any backend will do, logins must not wait for Consul: only separate
	// storage needs the placement of each user.
	if placements, ok := source.(discovery.PlacementSource); ok && c.Routing.Storage == routing.Separate.String() {
		o.Placement = placements.Placement
	}
	return o, nil
}

// begin starts what runs: parking, discovery, registration, the admin API, the
// listeners.
func (i *instance) begin() {
	i.parking.begin()
	i.watch()
	i.register()
	if i.admin != nil {
		i.answering = start(i.admin.Serve)
	}
	if i.events != nil {
		i.listening = start(i.events.Serve)
	}
	i.serving = start(i.server.Serve)
	for name, address := range i.server.Addrs() {
		i.tel.Log.Info("listening", "listener", name, "address", address)
	}
}

// watch follows the source of backends.
func (i *instance) watch() {
	cfg, source, first := i.cfg, i.source, i.learnt
	select {
	case <-first:
		first = nil // a reload
	default:
	}
	keeper, _ := source.(discovery.Keeper)
	warned := map[string]bool{} // addresses
	i.watching = start(func(ctx context.Context) error {
		return source.Run(ctx, func(s routing.Snapshot) { // from one goroutine
			if whole := i.router.Apply(s); whole && keeper != nil {
				keeper.Keep(s)
			}
			fleet := i.router.Backends()
			i.parking.forget(fleet)
			i.warnOfCleartext(cfg, fleet, warned)
			if first != nil {
				close(first)
				first = nil
			}
		})
	})
}

// warnOfCleartext says once of each backend on another machine that passwords go there without TLS.
func (i *instance) warnOfCleartext(c *config.Config, fleet []routing.BackendStatus, warned map[string]bool) {
	for _, b := range fleet {
		t := target(c, b.Backend)
		if t.TLS != upstream.TLSNone || upstream.Local(t.Address) || warned[t.Address] || len(warned) >= maxWarned {
			continue
		}
		warned[t.Address] = true
		what := "passwords go to this backend without TLS"
		if c.BackendLogin.Mode == upstream.ModeMaster && !c.BackendLogin.Cleartext {
			what = "nobody is let in on this backend: the master's password isn't sent to another machine without TLS"
		}
		i.tel.Log.Warn(what, "backend", t.ID, "address", t.Address, "help", "backend_defaults.tls, or Consul's meta tls")
	}
}

// maxWarned bounds of how many addresses is remembered that they were warned of.
const maxWarned = 4096

// register puts the proxy into Consul, where that is wanted. That it fails is a
// warning, never the end.
func (i *instance) register() {
	i.registration = nil
	if i.cfg.Register == nil {
		return
	}
	o, err := registerOptions(i.cfg, i.server.Addrs(), i.tel)
	if err != nil {
		i.tel.Log.Warn("not registered in consul", "error", err)
		return
	}
	i.registration = start(func(ctx context.Context) error { return discovery.Register(ctx, o) })
}

// reload takes new settings, all or none, but for those that need a restart. What
// can fail is made before anything changes; applying is called when nothing can any more.
func (i *instance) reload(wanted *config.Config, applying func()) (changes []config.Change, err error) {
	next := config.Reloaded(i.cfg, wanted)
	changes = config.Diff(i.cfg, wanted)

	routes, err := routingOptions(next, i.tel)
	if err != nil {
		return nil, err
	}
	secrets, err := eventSecrets(next)
	if err != nil {
		return nil, about("park.events.token_file", err)
	}
	source, newFleet := i.source, false
	if !reflect.DeepEqual(i.cfg.Discovery, next.Discovery) || !reflect.DeepEqual(i.cfg.BackendDefaults, next.BackendDefaults) {
		if source, err = newSource(next, i.tel, i.room); err != nil {
			return nil, err
		}
		newFleet = true
	}
	sources, newAuth := i.sources, false
	if !reflect.DeepEqual(i.cfg.Auth, next.Auth) || names(i.cfg) != names(next) {
		if sources, err = newSources(next, i.tel.Log); err != nil {
			return nil, err
		}
		newAuth = true
	}
	log, err := telemetry.OpenLogFile(next.Telemetry.Log.File)
	err = about("telemetry.log.file", err)
	var options proxy.Options
	if err == nil {
		options, err = i.proxyOptions(next, sources, source)
	}
	if err == nil {
		err = i.server.Reload(options)
	}
	if err != nil {
		_ = log.Close()
		if newAuth {
			closeSources(sources)
		}
		return nil, err
	}

	// The point of no return: from here on nothing can fail but the routing's
	// options, which differ from the running ones only in what config has checked.
	applying()
	before := i.cfg
	i.cfg = next
	i.tel.SwitchLog(log)
	if err := i.router.Reload(routes); err != nil {
		i.tel.Log.Error("routing keeps its old settings", "error", err)
	}
	i.parking.reload(next, secrets, i.tel)
	i.level.Set(logLevel(next))
	i.tel.SetSampling(float64(next.Telemetry.Traces.Sample), none(next.Telemetry.Traces.Slow))
	if newAuth {
		i.sources, sources = sources, i.sources
		closeSources(sources) // logins under way end as they would
	}
	if newFleet {
		_ = i.watching.stop()
		i.source = source
		i.watch()
	}
	if !reflect.DeepEqual(before.Register, next.Register) || next.Register != nil && newFleet {
		_ = i.registration.stop()
		i.register()
	}
	return changes, nil
}

// reopenLog opens the log's file anew: logrotate has moved it away. Where that fails
// the old one is written on.
func (i *instance) reopenLog() {
	file, err := telemetry.OpenLogFile(i.cfg.Telemetry.Log.File)
	if err != nil {
		i.tel.Log.Error("the log's file can't be opened anew, the old one is written on", "setting", "telemetry.log.file", "error", err)
		return
	}
	i.tel.SwitchLog(file)
}

// end drains the sessions and ends everything, in the order in which others could
// notice: first nobody is sent here any more.
func (i *instance) end() error {
	err := i.registration.stop()
	err = errors.Join(err, i.serving.stop())
	i.parking.end()
	err = errors.Join(err, i.listening.stop(), i.answering.stop(), i.watching.stop())
	closeSources(i.sources)
	i.flush()
	return err
}

// flush sends what telemetry still holds, for a while.
func (i *instance) flush() {
	ctx, cancel := context.WithTimeout(context.Background(), telemetryFlush)
	defer cancel()
	_ = i.tel.Shutdown(ctx) // an endpoint that is down is no reason to fail
}

// adminAddress is where the admin API is, "" where it is off.
func (i *instance) adminAddress() string {
	if i.admin == nil {
		return ""
	}
	return i.admin.Addr().String()
}
