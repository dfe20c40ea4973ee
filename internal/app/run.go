package app

import (
	"context"
	"errors"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// Run serves until ctx ends and shutdown.lame_duck after it, or until it can't continue. Then it
// drains the sessions and stops all that it has started before it returns. Call it once.
func (a *App) Run(ctx context.Context) error {
	if a.ran || a.closed {
		return errors.New("app: Run after Run or Close")
	}
	a.ran = true
	unhook := context.AfterFunc(ctx, a.stop)
	log := a.tel.Log
	if err := a.begin(a.over); err != nil {
		a.end()
		return errors.Join(err, a.finish())
	}
	log.Info("serving", "version", a.opts.Version, "config", a.opts.File, "hostname", a.cfg.Hostname, "admin", a.AdminAddr())
	a.notify(daemon.SdNotifyReady, "serving")
	unhook() // from here on a lame duck may be between ctx's end and the stop
	a.serve(ctx)
	a.end()
	a.stop()
	a.endBeside()
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
	reloads, stop, late := a.reloads, ctx.Done(), (<-chan time.Time)(nil)
	for {
		select {
		case answer := <-reloads:
			a.listenAgain()
			answer <- a.reload()
		case step := <-a.beside.next():
			step()
			if late != nil && a.beside.passed.Load() { // a hand-over that was under way
				return
			}
		case <-a.beside.over():
			log.Info("the last session has ended; the successor serves the clients")
			return
		case <-a.serving.Done():
			// Serve returns by itself only if it can't continue.
			log.Error("serving ended", "error", a.serving.Stop())
			return
		case <-stop:
			if a.beginLameDuck() {
				timer := time.NewTimer(a.cfg.Shutdown.LameDuck)
				defer timer.Stop()
				reloads, stop, late = nil, nil, timer.C
				continue
			}
			log.Info("stopping", "drain", a.cfg.Shutdown.Drain)
			return
		case <-late:
			log.Info("stopping", "drain", a.cfg.Shutdown.Drain)
			return
		case <-a.over.Done():
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

// finish drains the sessions and ends what begin has started. Registration ends first, so that no more
// clients are sent here.
func (a *App) finish() error {
	a.beside.letGoOfSockets()
	err := errors.Join(a.registration.Stop(), a.endLeaving())
	err = errors.Join(err, a.unbind(), a.serving.Stop(), a.pausing.Stop(), a.recording.Stop())
	a.parking.end()
	err = errors.Join(err, a.endAgreement())
	return errors.Join(err, a.listening.Stop(), a.answered.Stop(), a.answering.Stop(), a.cluster.end(), a.watching.Stop())
}
