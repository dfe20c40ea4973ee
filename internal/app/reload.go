package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"imapproxy/internal/admin"
	"imapproxy/internal/config"
	"imapproxy/internal/handover"
	"imapproxy/internal/wiring"
	"imapproxy/proxy"
	"imapproxy/telemetry"
)

// ErrEnding is Reload's error if the App is ending or has ended.
var ErrEnding = errors.New("app: it ends, and isn't reloaded any more")

// Reload reopens the log file, reads the configuration again and applies the new settings,
// all or none, except those that need a restart. It reports the result in the log, in the
// admin API's status, in a metric and to the service manager. On error the old settings stay.
// Sessions stay in any case.
//
// It may be called from any goroutine; it waits until Run runs, and until ctx ends at most.
func (a *App) Reload(ctx context.Context) error {
	answer := make(chan error, 1)
	select {
	case a.reloads <- answer:
		return <-answer
	case <-a.ending:
		return ErrEnding
	case <-ctx.Done():
		return ctx.Err()
	}
}

// reload is Reload in Run's goroutine.
//
// It sends systemd RELOADING=1 and READY=1 after a successful reload, and only a STATUS= text after a failed
// one: READY=1 would mean success. RELOADING=1 without READY=1 isn't sent either, since some releases of
// systemd (257) then wait for READY=1 for ever.
func (a *App) reload() error {
	a.reopenLog()
	a.beside.tellOlder(handover.Message{Do: "reopen"})
	var changes []config.Change
	since := time.Now() // before the files are read
	wanted, warnings, err := a.again()
	if err == nil {
		a.warn(warnings)
		changes, err = a.apply(wanted, since, func() {
			a.notify(daemon.SdNotifyReloading+"\n"+daemon.SdNotifyMonotonicUsec(), "reloading")
		})
	}
	if err != nil {
		err = a.opts.located(err)
	}
	a.tellReload(changes, err)
	return err
}

// again reads the configuration again.
func (a *App) again() (*config.Config, []config.Warning, error) {
	if a.opts.Config != nil {
		return nil, nil, errors.New("the configuration isn't from a file, there is nothing to read again")
	}
	return a.opts.load()
}

// tellReload reports the result of a reload.
func (a *App) tellReload(changes []config.Change, err error) {
	log, path := a.tel.Log, a.opts.File
	outcome := admin.Reload{Time: time.Now(), OK: err == nil}
	a.tel.Reloaded(outcome.OK)
	if err != nil {
		outcome.Error = inOneLine(err)
		a.lastReload.Store(&outcome)
		logErrors(log, err)
		log.Error("reload failed, the old settings stay", "config", path)
		a.notify("", fmt.Sprintf("serving with the old settings; the reload of %s failed: %s", outcome.Time.Format(time.TimeOnly), outcome.Error))
		return
	}
	done, left, values := []string{}, []string{}, []string{}
	for _, c := range changes {
		values = append(values, c.Values())
		if c.NeedsRestart {
			left = append(left, c.Path)
		} else {
			done = append(done, c.Path)
		}
	}
	outcome.NeedRestart = left
	a.lastReload.Store(&outcome)
	if len(left) > 0 {
		log.Warn("these changes need a restart, until then the old settings stay", "settings", left)
	}
	log.Info("reloaded", "config", path, "changed", done, "values", values)
	a.notify(daemon.SdNotifyReady, "serving, reloaded at "+outcome.Time.Format(time.TimeOnly))
}

// apply applies new settings, all or none, except those that need a restart. Steps that can fail come before
// the first change; applying is called after them. since is when the files began to be read.
func (a *App) apply(wanted *config.Config, since time.Time, applying func()) (changes []config.Change, err error) {
	next := config.Reloaded(a.cfg, wanted)
	keepAgreed(a.cfg, next)
	changes = changesOf(a.cfg, wanted, next)

	routes, err := wiring.Routing(next, a.tel)
	if err != nil {
		return nil, err
	}
	secrets, err := wiring.EventSecrets(next)
	if err != nil {
		return nil, wiring.About("park.events.token_file", err)
	}
	others, err := wiring.Peers(next)
	if err != nil {
		return nil, err
	}
	cert, err := wiring.AdminCertificate(next)
	if err != nil {
		return nil, err
	}
	source, newFleet, files := a.source, false, wiring.FleetFiles(next)
	if !reflect.DeepEqual(a.cfg.Discovery, next.Discovery) || !reflect.DeepEqual(a.cfg.BackendDefaults, next.BackendDefaults) || files != a.files {
		if source, err = wiring.Source(next, a.tel, a.room, a.listed); err != nil {
			return nil, err
		}
		newFleet = true
	}
	sources, newAuth, authFiles := a.sources, false, wiring.AuthFiles(next)
	if !reflect.DeepEqual(a.cfg.Auth, next.Auth) || wiring.Names(a.cfg) != wiring.Names(next) || authFiles != a.secrets {
		if sources, err = wiring.Sources(next, a.tel.Log); err != nil {
			return nil, err
		}
		newAuth = true
	}
	policy, asksBy := a.policy, wiring.PolicyFiles(next)
	newPolicy := !reflect.DeepEqual(a.cfg.AuthPolicy, next.AuthPolicy) || asksBy != a.asksBy
	if newPolicy {
		policy, err = wiring.Policy(next, a.tel)
	}
	var log *telemetry.LogFile
	if err == nil {
		log, err = telemetry.OpenLogFile(next.Telemetry.Log.File)
		err = wiring.About("telemetry.log.file", err)
	}
	var options proxy.Options
	if err == nil {
		options, err = a.proxyOptions(next, sources, policy, source)
	}
	if err == nil {
		err = a.server.Reload(options)
	}
	if err != nil {
		_ = log.Close()
		if newAuth {
			wiring.CloseSources(sources)
		}
		if newPolicy {
			_ = policy.Close()
		}
		return nil, err
	}

	// The point of no return: from here on nothing can fail but the routing's
	// options, which differ from the running ones only in what config has checked.
	applying()
	before := a.cfg
	a.cfg = next
	a.current.Store(&inForce{cfg: next, digest: config.Digest(next), since: since})
	a.tel.SwitchLog(log)
	if err := a.router.Reload(routes); err != nil {
		a.tel.Log.Error("routing keeps its old settings", "error", err)
	}
	if err := a.agreement.reload(next, newFleet); err != nil {
		a.tel.Log.Error("the agreement of the proxies keeps its old settings", "error", err)
	}
	a.parking.reload(next, secrets, a.tel)
	a.level.Set(wiring.LogLevel(next))
	a.tel.SetSampling(float64(next.Telemetry.Traces.Sample), wiring.None(next.Telemetry.Traces.Slow))
	if newAuth {
		a.sources, sources, a.secrets = sources, a.sources, authFiles
		wiring.CloseSources(sources) // logins in progress complete normally
	}
	if newPolicy {
		a.policy, policy, a.asksBy = policy, a.policy, asksBy
		_ = policy.Close() // questions in progress complete normally
	}
	if newFleet {
		_ = a.watching.Stop()
		a.source, a.files = source, files
		a.watch()
	}
	a.cluster.reload(next, others, cert, a.tel)
	if !reflect.DeepEqual(before.Register, next.Register) || next.Register != nil && (newFleet || (before.Cluster == nil) != (next.Cluster == nil)) {
		_ = a.registration.Stop()
		a.register()
	}
	return changes, nil
}

// inOneLine shortens an error for a status: the first mistake, and the number of others.
func inOneLine(err error) string {
	text := err.Error()
	if mistakes, ok := errors.AsType[config.Errors](err); ok && len(mistakes) > 1 {
		more := "1 mistake"
		if n := len(mistakes) - 1; n > 1 {
			more = fmt.Sprintf("%d mistakes", n)
		}
		text = fmt.Sprintf("%s (and %s more)", mistakes[0].Error(), more)
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' {
			return ' '
		}
		return r
	}, text)
}

// logErrors writes one record for each mistake.
func logErrors(log *slog.Logger, err error) {
	mistakes, ok := errors.AsType[config.Errors](err)
	if one, is := errors.AsType[config.Error](err); is && !ok {
		mistakes, ok = config.Errors{one}, true
	}
	if !ok {
		log.Error("mistake", "error", err)
		return
	}
	for _, e := range mistakes {
		log.Error("mistake", "at", e.At(), "what", e.What, "instead", e.Instead)
	}
}
