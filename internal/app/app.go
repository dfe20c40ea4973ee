package app

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"time"

	"imapproxy/internal/config"
	"imapproxy/internal/handover"
	"imapproxy/internal/wiring"
	"imapproxy/proxy"
	"imapproxy/proxy/upstream"
	"imapproxy/routing"
	"imapproxy/routing/pair"
	"imapproxy/telemetry"
)

// telemetryFlush bounds the last export of traces and metrics.
const telemetryFlush = 5 * time.Second

// Open reads the configuration, creates all parts and binds all addresses. No client is served
// before Run. On error Open releases everything. Mistakes in the configuration are
// config.Errors; an error in the use of a setting names its file and line as well.
func Open(ctx context.Context, o Options) (*App, error) {
	since := time.Now() // before the files are read
	cfg, warnings, err := o.load()
	if err != nil {
		return nil, err
	}
	a := &App{
		opts: o, cfg: cfg, level: &slog.LevelVar{}, instance: strings.ToLower(rand.Text()[:16]), started: since,
		ready: make(chan struct{}), reloads: make(chan chan error), ending: make(chan struct{}), leaving: make(chan struct{}), pauseNews: make(chan struct{}, 1),
	}
	if a.sockets = o.Sockets; a.sockets == nil {
		a.sockets = &handover.Sockets{}
	}
	a.current.Store(&inForce{cfg: cfg, digest: config.Digest(cfg), since: since})
	a.over, a.stop = context.WithCancel(context.Background())
	a.end = sync.OnceFunc(func() { close(a.ending) })
	if err := a.open(ctx); err != nil {
		_ = a.Close() // no client was served
		return nil, o.located(err)
	}
	a.warn(warnings)
	return a, nil
}

// open makes the parts. If it fails, Close frees those that it has made.
func (a *App) open(ctx context.Context) (err error) {
	a.level.Set(wiring.LogLevel(a.cfg))
	t, err := wiring.Telemetry(a.cfg, a.level, a.opts.Logs)
	if err != nil {
		return err
	}
	t.Version, t.Now, t.Instance = a.opts.Version, a.opts.Now, a.instance
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
	a.tel.SetLeavingGauges(a.beside.leavingGauges)
	if a.opts.Agreement != nil {
		routes.Agreement = a.opts.Agreement.Routing()
	} else if wiring.Agrees(a.cfg) {
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
	if a.source, err = wiring.Source(a.cfg, a.tel, a.room, a.listed); err != nil {
		return err
	}
	a.secrets = wiring.AuthFiles(a.cfg) // before they are read
	if a.sources, err = wiring.Sources(a.cfg, a.tel.Log); err != nil {
		return err
	}
	a.asksBy = wiring.PolicyFiles(a.cfg) // likewise
	if a.policy, err = wiring.Policy(a.cfg, a.tel); err != nil {
		return err
	}
	if a.parking, err = newParking(a.cfg, a.tel, a.room, a.cluster.outbox, a.beside, a.opts); err != nil {
		return err
	}
	options, err := a.proxyOptions(a.cfg, a.sources, a.policy, a.source)
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
	if a.admin, err = a.openAdmin(); err != nil {
		return err
	}
	if a.events, err = a.openEvents(); err != nil {
		return err
	}
	if a.lookups, err = a.openLookups(); err != nil {
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
	a.tel.SetProblemGauge(a.problemGauges)
	a.tel.SetProcessGauges(a.processGauges)
	a.leftOver()
	return a.awaitSuccessor()
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
	_ = a.policy.Close() // it has no error
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
	if a.lookups != nil && a.answered == nil {
		errs = append(errs, a.lookups.Serve(over))
	}
	if a.admin != nil && a.answering == nil {
		errs = append(errs, a.admin.Serve(over))
	}
	if a.bound && a.serving == nil {
		errs = append(errs, a.server.Serve(over))
	}
	return errors.Join(errs...)
}
