package app

import "github.com/coreos/go-systemd/v22/daemon"

// beginLameDuck makes this process one that asks for no more clients, and serves those that come. It returns false if the process stops
// at once: since the settings say so, or since a successor accepts the clients.
func (a *App) beginLameDuck() bool {
	within := a.cfg.Shutdown.LameDuck
	if within == 0 || a.over.Err() != nil || a.beside != nil && a.beside.passed.Load() {
		return false
	}
	a.end()
	close(a.leaving)
	a.tel.Log.Info("stopping soon: clients are accepted until then", "lame_duck", within, "drain", a.cfg.Shutdown.Drain)
	a.notify(daemon.SdNotifyStopping, "accepting clients for another "+within.String())
	return true
}

// lameDuck reports whether this process will stop soon, and still accepts clients.
func (a *App) lameDuck() bool {
	select {
	case <-a.leaving:
		return true
	default:
		return false
	}
}
