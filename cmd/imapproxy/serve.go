package main

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"

	"imapproxy/internal/admin"
	"imapproxy/internal/config"
)

type serveCommand struct {
	Config string `required:"" placeholder:"FILE" help:"The configuration; config.hcl in the source explains every setting."`
}

// Run serves until SIGTERM or SIGINT, and reloads at SIGHUP.
func (c serveCommand) Run(env environment) error {
	dumps := noDumps()
	hangups, stop := env.hangups()
	defer stop()
	cfg, warnings, err := config.Load(c.Config)
	if err != nil {
		return err
	}
	i, err := open(env.ctx, instanceOptions{Config: cfg, Logs: env.stderr})
	if err != nil {
		return located(c.Config, err)
	}
	log := i.tel.Log
	warn(log, warnings)
	if dumps != nil {
		log.Warn("a core dump could show passwords", "error", dumps)
	}
	i.begin()
	log.Info("serving", "version", version(), "config", c.Config, "hostname", cfg.Hostname, "admin", i.adminAddress())
	notify(log, daemon.SdNotifyReady, "serving")

	for {
		select {
		case <-hangups:
			reload(i, c.Config)
			continue
		case <-i.serving.done:
			// Serve only returns by itself when it can't go on.
			log.Error("serving ended", "error", i.serving.err)
		case <-env.ctx.Done():
			log.Info("stopping", "drain", i.cfg.Shutdown.Drain)
		}
		break
	}
	notify(log, daemon.SdNotifyStopping, "draining")
	err = i.end()
	if err == nil {
		log.Info("stopped")
	}
	return err
}

// reload opens the log's file anew, reads the configuration again and tells what came of
// it: in the log, in the status, in a metric, and to systemd. A file with a mistake in
// it changes nothing.
//
// systemd hears RELOADING=1 and READY=1 of a reload that was done, and a STATUS= text
// alone of one that failed: "ready" would call it done. RELOADING=1 without READY=1 isn't sent
// either, since there are releases of systemd (257) that wait for the latter for ever.
func reload(i *instance, path string) {
	log := i.tel.Log
	i.reopenLog()
	wanted, warnings, err := config.Load(path)
	var changes []config.Change
	if err == nil {
		warn(log, warnings)
		changes, err = i.reload(wanted, func() {
			notify(log, daemon.SdNotifyReloading+"\n"+daemon.SdNotifyMonotonicUsec(), "reloading")
		})
	}
	outcome := admin.Reload{Time: time.Now(), OK: err == nil}
	i.tel.Reloaded(outcome.OK)
	if err != nil {
		err = located(path, err)
		outcome.Error = inOneLine(err)
		i.lastReload.Store(&outcome)
		logErrors(log, err)
		log.Error("reload failed, the old settings stay", "config", path)
		notify(log, "", fmt.Sprintf("serving with the old settings; the reload of %s failed: %s", outcome.Time.Format(time.TimeOnly), outcome.Error))
		return
	}
	done, left := []string{}, []string{}
	for _, c := range changes {
		if c.NeedsRestart {
			left = append(left, c.Path)
		} else {
			done = append(done, c.Path)
		}
	}
	outcome.NeedRestart = left
	i.lastReload.Store(&outcome)
	if len(left) > 0 {
		log.Warn("these changes need a restart, until then the old settings stay", "settings", left)
	}
	log.Info("reloaded", "config", path, "changed", done)
	notify(log, daemon.SdNotifyReady, "serving, reloaded at "+outcome.Time.Format(time.TimeOnly))
}

// inOneLine is an error for a status: the first mistake, and how many there are more.
func inOneLine(err error) string {
	text := err.Error()
	if mistakes, ok := errors.AsType[config.Errors](err); ok && len(mistakes) > 1 {
		text = fmt.Sprintf("%s (and %s more)", mistakes[0].Error(), count(len(mistakes)-1, "mistake"))
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

func warn(log *slog.Logger, warnings []config.Warning) {
	for _, w := range warnings {
		log.Warn("configuration", "at", w.At(), "what", w.What, "instead", w.Instead)
	}
}

// notify tells systemd, where it started us with Type=notify or notify-reload. text is
// what systemctl status shows.
func notify(log *slog.Logger, state, text string) {
	if state != "" {
		state += "\n"
	}
	if _, err := daemon.SdNotify(false, state+"STATUS="+text); err != nil {
		log.Warn("systemd can't be told", "error", err)
	}
}
