package main

import (
	"github.com/coreos/go-systemd/v22/daemon"

	"imapproxy/internal/app"
	"imapproxy/internal/handover"
	"imapproxy/internal/task"
)

type serveCommand struct {
	Config string `required:"" placeholder:"FILE" help:"The configuration file; config.hcl in the source explains every setting."`
}

// Run serves until SIGTERM or SIGINT, and reloads at SIGHUP.
func (c serveCommand) Run(env environment) error {
	dumps := noDumps()
	hangups, stop := env.hangups()
	defer stop()
	a, err := app.Open(env.ctx, app.Options{File: c.Config, Version: version(), Logs: env.stderr, Notify: notify, Sockets: handover.Activated(), Restart: again()})
	if err != nil {
		return err
	}
	if dumps != nil {
		a.Log().Warn("a core dump could show passwords", "error", dumps)
	}
	running := task.Start(a.Run)
	for {
		select {
		case <-hangups:
			_ = a.Reload(env.ctx) // it has reported the result
			continue
		case <-running.Done():
		case <-env.ctx.Done():
		}
		break
	}
	return end(a, running)
}

// notify sends a state to systemd if the unit has Type=notify or notify-reload.
func notify(state string) error {
	_, err := daemon.SdNotify(false, state)
	return err
}
