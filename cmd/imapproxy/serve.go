package main

import (
	"log/slog"

	"github.com/coreos/go-systemd/v22/daemon"

	"imapproxy/internal/config"
)

type serveCommand struct {
	Config string `required:"" placeholder:"FILE" help:"The configuration; config.hcl in the source explains every setting."`
}

// Run serves until SIGTERM or SIGINT, and reloads at SIGHUP.
func (c serveCommand) Run(env environment) error {
	hangups, stop := env.hangups()
	defer stop()
	cfg, warnings, err := config.Load(c.Config)
	if err != nil {
		return err
	}
	i, err := open(env.ctx, instanceOptions{Config: cfg, Logs: env.stderr})
	if err != nil {
		return err
	}
	log := i.tel.Log
	warn(log, warnings)
	i.begin()
	log.Info("serving", "version", version(), "config", c.Config, "hostname", cfg.Hostname, "admin", i.adminAddress())
	notify(log, daemon.SdNotifyReady)

	for {
		select {
		case <-hangups:
			notify(log, daemon.SdNotifyReloading+"\n"+daemon.SdNotifyMonotonicUsec())
			reload(i, c.Config)
			notify(log, daemon.SdNotifyReady)
			continue
		case <-i.serving.done:
			// Serve only returns by itself when it can't go on.
			log.Error("serving ended", "error", i.serving.err)
		case <-env.ctx.Done():
			log.Info("stopping", "drain", i.cfg.Shutdown.Drain)
		}
		break
	}
	notify(log, daemon.SdNotifyStopping)
	err = i.end()
	if err == nil {
		log.Info("stopped")
	}
	return err
}

// reload reads the file again and tells what came of it. A file with a mistake in
// it changes nothing.
func reload(i *instance, path string) {
	log := i.tel.Log
	wanted, warnings, err := config.Load(path)
	var changes []config.Change
	if err == nil {
		warn(log, warnings)
		changes, err = i.reload(wanted)
	}
	if err != nil {
		logErrors(log, err)
		log.Error("reload failed, the old settings stay", "config", path)
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
	if len(left) > 0 {
		log.Warn("these changes need a restart, until then the old settings stay", "settings", left)
	}
	log.Info("reloaded", "config", path, "changed", done)
}

// logErrors writes one record for each mistake.
func logErrors(log *slog.Logger, err error) {
	mistakes, ok := err.(config.Errors)
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

// notify tells systemd, where it started us with Type=notify or notify-reload.
func notify(log *slog.Logger, state string) {
	if _, err := daemon.SdNotify(false, state); err != nil {
		log.Warn("systemd can't be told", "error", err)
	}
}
