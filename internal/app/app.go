package app

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"imapproxy/internal/admin"
	"imapproxy/internal/config"
	"imapproxy/internal/handover"
	"imapproxy/internal/task"
	"imapproxy/internal/wiring"
	"imapproxy/proxy"
	"imapproxy/proxy/auth"
	"imapproxy/proxy/park"
	"imapproxy/proxy/park/view"
	"imapproxy/proxy/upstream"
	"imapproxy/routing"
	"imapproxy/routing/discovery"
	"imapproxy/routing/pair"
	"imapproxy/telemetry"
)

// telemetryFlush bounds the last export of traces and metrics.
const telemetryFlush = 5 * time.Second

// Options are the settings of an App that aren't in its configuration. File or Config is required;
// the other fields have a usable zero value.
type Options struct {
	// File is the configuration's file. Open reads it, and each Reload again.
	File string
	// Config is used instead of a file. Such an App can't be reloaded.
	Config *config.Config

	// Version is sent to clients in ID, and is in telemetry.
	Version string
	// Logs receives the log if the configuration names no file for it; nil: standard error.
	Logs io.Writer
	// Certificate is for listeners with TLS for which the configuration has no certificate.
	Certificate *proxy.Certificate
	// Sockets are listening sockets that systemd has bound; nil: none.
	Sockets *handover.Sockets
	// Trial is for how long a successor serves beside the old process before that one stops to accept; 0: a second.
	Trial time.Duration
	// Restart starts a successor of this process, as `imapproxy upgrade` asks for it, and returns how to wait for its end. nil: it can't be done.
	Restart func() (pid int, wait func() error, err error)
	// Notify tells the service manager a state in the form of sd_notify; nil: there is no service manager.
	Notify func(state string) error

	// Now is the clock of all parts; nil: time.Now.
	Now func() time.Time
	// Park has settings of parking for tests.
	Park ParkOptions
}

// ParkOptions are times that the configuration doesn't have, or for which it has a larger minimum, and an
// injected fault. 0: the configuration's value, or the default.
type ParkOptions struct {
	SweepEvery, PollEvery, NotifyRenewEvery time.Duration // see park.HubOptions
	ResumeWithin, ResumeTry                 time.Duration // see proxy.ParkOptions
	// Plant changes the result of a resync before parked sessions are told; see park.HubOptions.
	Plant func(mailbox string, s *view.State) *view.State
}

// An App is one proxy, from Open to Close.
type App struct {
	opts     Options
	instance string    // an id of this process
	started  time.Time // when it began
	level    *slog.LevelVar
	tel      *telemetry.Telemetry

	router   *routing.Router
	room     *upstream.Room           // counts the connections to backends
	findings *upstream.MasterFindings // results about the backends' master logins
	parking  *parking
	server   *proxy.Server
	cluster  *cluster
	// agreement is how the proxies agree on where users are; nil: this one decides alone.
	agreement *agreement
	// beside is for processes of this proxy that serve at the same time during an upgrade.
	beside *beside
	admin  *admin.Server // nil where it is off
	events *admin.Server // nil if events come to admin, or are off

	ready   chan struct{}   // closed when the first set of backends has been applied
	reloads chan chan error // Reload's requests; Run answers each one that it receives
	ending  chan struct{}   // closed when no more requests are received
	end     func()          // closes ending, once
	over    context.Context // ends when the App stops to serve: Run's ctx has ended, or stop was called
	stop    func()          // ends Run

	pauseNews chan struct{} // pauses of backends have changed

	lastReload atomic.Pointer[admin.Reload] // nil: there was none
	asked      *discovery.RegisterOptions   // the entry in Consul with which alone has asked; nil: there is none
	registered atomic.Pointer[string]       // the id in Consul; nil: it isn't registered
	digest     atomic.Pointer[string]       // of the settings (config.Digest)

	// ---- What follows belongs to the goroutine of Open, Run and Close.

	cfg     *config.Config // the current settings; those that need a restart are those of the start
	sources []auth.Source
	source  discovery.Source  // of the backends
	files   [32]byte          // wiring.FleetFiles at the time when source and registration read them
	secrets [32]byte          // wiring.AuthFiles, as sources have read them
	sockets *handover.Sockets // bound elsewhere, and not yet taken
	bound   bool              // the listeners are bound
	ran     bool
	closed  bool

	watching     *task.Task // source.Run
	pausing      *task.Task // keepPauses
	registration *task.Task // nil where it is off
	serving      *task.Task // server.Serve
	answering    *task.Task // admin.Serve
	listening    *task.Task // events.Serve
}

// Open reads the configuration, creates all parts and binds all addresses. No client is served
// before Run. On error Open releases everything. Mistakes in the configuration are
// config.Errors; an error in the use of a setting names its file and line as well.
func Open(ctx context.Context, o Options) (*App, error) {
	cfg, warnings, err := o.load()
	if err != nil {
		return nil, err
	}
	a := &App{
		opts: o, cfg: cfg, level: &slog.LevelVar{}, instance: strings.ToLower(rand.Text()[:16]), started: time.Now(),
		ready: make(chan struct{}), reloads: make(chan chan error), ending: make(chan struct{}), pauseNews: make(chan struct{}, 1),
	}
	if a.sockets = o.Sockets; a.sockets == nil {
		a.sockets = &handover.Sockets{}
	}
	a.over, a.stop = context.WithCancel(context.Background())
	a.end = sync.OnceFunc(func() { close(a.ending) })
	if err := a.open(ctx); err != nil {
		_ = a.Close() // no client was served
		return nil, o.located(err)
	}
	a.warn(warnings)
	return a, nil
}

// load reads the configuration.
func (o Options) load() (*config.Config, []config.Warning, error) {
	switch {
	case o.Config != nil:
		return o.Config, nil, nil
	case o.File != "":
		return config.Load(o.File)
	}
	return nil, nil, errors.New("app: no configuration")
}

// located adds to an error the line of the setting that it is about.
func (o Options) located(err error) error {
	if o.File == "" {
		return err
	}
	return wiring.Located(o.File, err)
}

// open makes the parts. If it fails, Close frees those that it has made.
func (a *App) open(ctx context.Context) (err error) {
	a.level.Set(wiring.LogLevel(a.cfg))
	t := wiring.Telemetry(a.cfg, a.level, a.opts.Logs)
	t.Version, t.Now = a.opts.Version, a.opts.Now
	if a.tel, err = telemetry.Start(ctx, t); err != nil {
		a.tel = nil
		var file *fs.PathError
		if errors.As(err, &file) {
			err = wiring.About("telemetry.log.file", file)
		}
		return err
	}
	routes, err := wiring.Routing(a.cfg, a.tel)
	if err != nil {
		return err
	}
	routes.Now = a.opts.Now
	if a.cluster, err = newCluster(a.cfg, a.tel); err != nil {
		return err
	}
	a.beside = newBeside(a.cfg)
	if wiring.Agrees(a.cfg) {
		a.agreement = newAgreement(a.cluster.id)
		routes.Agreement = a.agreement
	} else if a.beside != nil {
		a.beside.table = pair.New(pair.Options{})
		routes.Beside = a.beside
	}
	if a.router, err = routing.New(routes); err != nil {
		return err
	}
	room := wiring.Room(a.cfg)
	room.Now = a.opts.Now
	a.room, a.findings = upstream.NewRoom(room), upstream.NewMasterFindings()
	a.files = wiring.FleetFiles(a.cfg) // before they are read
	if a.source, err = wiring.Source(a.cfg, a.tel, a.room); err != nil {
		return err
	}
	a.secrets = wiring.AuthFiles(a.cfg) // before they are read
	if a.sources, err = wiring.Sources(a.cfg, a.tel.Log); err != nil {
		return err
	}
	if a.parking, err = newParking(a.cfg, a.tel, a.room, a.cluster.outbox, a.beside, a.opts); err != nil {
		return err
	}
	options, err := a.proxyOptions(a.cfg, a.sources, a.source)
	if err != nil {
		return err
	}
	if err = a.takeOver(ctx); err != nil {
		return err
	}
	options.Listen = a.listen
	if a.server, err = proxy.New(options); err != nil {
		return err
	}
	a.digest.Store(new(config.Digest(a.cfg)))
	if a.admin, err = a.openAdmin(); err != nil {
		return err
	}
	if a.events, err = a.openEvents(); err != nil {
		return err
	}
	if err = a.openAgreement(); err != nil {
		return err
	}
	if err = a.alone(ctx); err != nil {
		return err
	}
	if err = a.server.Listen(ctx); err != nil {
		a.withdraw()
		return err
	}
	a.bound = true
	a.leftOver()
	return a.awaitSuccessor()
}

// proxyOptions is the server's part of a configuration.
func (a *App) proxyOptions(c *config.Config, sources []auth.Source, source discovery.Source) (proxy.Options, error) {
	o := wiring.Proxy(c, a.opts.Certificate)
	o.Version, o.Now = a.opts.Version, a.opts.Now
	o.Sources, o.Router, o.Telemetry = sources, a.router, a.tel
	o.Park = a.parking.server(c, a.opts.Park)
	var err error
	dial := wiring.Upstream(c, a.tel)
	dial.Room, dial.MasterFindings, dial.Now = a.room, a.findings, a.opts.Now
	if a.beside != nil && a.agreement == nil {
		dial.Claims = besideClaims{a.beside}
	}
	if a.agreement != nil {
		dial.Claims, dial.Overdue, o.Overdue = connClaims{a.agreement}, a.agreement.Overdue, a.agreement.Overdue
	}
	if err = wiring.CheckSourceAddresses(c); err != nil {
		return o, err
	}
	if o.Dialer, err = upstream.New(dial); err != nil {
		return o, err
	}
	if o.Login, err = wiring.Login(c); err != nil {
		return o, wiring.About("backend_login.password_file", err)
	}
	// With shared storage any backend can serve a user, so logins must not wait for Consul: only separate
	// storage needs the placement of each user.
	if placements, ok := source.(discovery.PlacementSource); ok && c.Routing.Storage == routing.Separate.String() {
		o.Placement = placements.Placement
		if writer, ok := source.(discovery.PlacementWriter); ok {
			o.Place = writer.Place
		}
	}
	return o, nil
}

// Close frees what Open opened. Call it after Run has returned, or without Run. A second call does nothing.
func (a *App) Close() error {
	a.end()
	a.stop()
	if a.closed {
		return nil
	}
	a.closed = true
	a.beside.close()
	var err error
	if !a.ran {
		err = a.unbind()
	}
	wiring.CloseSources(a.sources)
	if a.tel != nil {
		ctx, cancel := context.WithTimeout(context.Background(), telemetryFlush)
		defer cancel()
		_ = a.tel.Shutdown(ctx) // it may fail because an endpoint is down
	}
	return err
}

// unbind releases the addresses of parts that haven't run: it serves each part with an ended context, so that
// the part ends at once.
func (a *App) unbind() error {
	a.sockets.Close()
	over, cancel := context.WithCancel(context.Background())
	cancel()
	var errs []error
	if a.events != nil && a.listening == nil {
		errs = append(errs, a.events.Serve(over))
	}
	if a.admin != nil && a.answering == nil {
		errs = append(errs, a.admin.Serve(over))
	}
	if a.bound && a.serving == nil {
		errs = append(errs, a.server.Serve(over))
	}
	return errors.Join(errs...)
}

// Ready returns a channel that closes when the first set of backends is known. From then on
// logins find their backends.
func (a *App) Ready() <-chan struct{} { return a.ready }

// Addrs returns the listeners' bound addresses by name; they are known after Open.
func (a *App) Addrs() map[string]string { return a.server.Addrs() }

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

func addr(s *admin.Server) string {
	if s == nil {
		return ""
	}
	return s.Addr().String()
}

// Log returns the App's log.
func (a *App) Log() *slog.Logger { return a.tel.Log }

// Server returns the proxy's server, for callers that look at single sessions.
func (a *App) Server() *proxy.Server { return a.server }

// Hub returns the hub, which watches the mailboxes of parked sessions.
func (a *App) Hub() *park.Hub { return a.parking.hub }

// Pool returns the pool of warm backend connections.
func (a *App) Pool() *upstream.Pool { return a.parking.pool }

// warn logs the warnings about a configuration.
func (a *App) warn(warnings []config.Warning) {
	for _, w := range warnings {
		a.tel.Log.Warn("configuration", "at", w.At(), "what", w.What, "instead", w.Instead)
	}
}

// notify tells the service manager. text is what systemctl status shows.
func (a *App) notify(state, text string) {
	if a.opts.Notify == nil {
		return
	}
	if state != "" {
		state += "\n"
	}
	if err := a.opts.Notify(state + "STATUS=" + text); err != nil {
		a.tel.Log.Warn("the state can't be reported to systemd", "error", err)
	}
}
