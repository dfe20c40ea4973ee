package app

import "imapproxy/internal/task"

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
	if a.lookups != nil {
		a.answered = task.Start(a.lookups.Serve)
	}
}

// beginBehind starts parking, discovery and the agreement: what serves no client.
func (a *App) beginBehind() {
	a.parking.begin()
	a.cluster.begin(a.cfg, a.tel)
	a.watch()
	a.pausing = task.Start(a.keepPauses)
	a.recording = task.Start(a.keepHistory)
	a.agreement.begin(a.router)
}
