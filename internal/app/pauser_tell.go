package app

import (
	"encoding/json"

	"imapproxy/internal/handover"
	"imapproxy/routing"
)

// Where the proxies don't agree with each other, a pause is this proxy's own, and all of its processes go by it: a process
// tells its successor, and those before it.

// tellPause passes a pause, or its end, on to the older processes, and to one that serves on trial.
func (a *App) tellPause(p routing.Pause) {
	m := pauseMessage(p)
	a.beside.tellOlder(m)
	if a.beside == nil {
		return
	}
	if up := a.beside.up.Load(); up != nil {
		up.add(m)
	}
}

// tellPauses tells the successor of the pauses that there are.
func (a *App) tellPauses(up *link) {
	if a.agreement != nil { // the successor knows them from the fleet
		return
	}
	for _, p := range a.router.Pauses() {
		up.add(pauseMessage(p))
	}
}

// toldPause applies a pause, or its end, of which another process of this proxy has told.
func (a *App) toldPause(m handover.Message) {
	var p routing.Pause
	if json.Unmarshal(m.Data, &p) != nil || p.Backend == "" {
		return
	}
	a.router.Pause(p)
	a.pausesChanged()
}

// pausesChanged has keepPauses look now.
func (a *App) pausesChanged() {
	select {
	case a.pauseNews <- struct{}{}:
	default:
	}
}

func pauseMessage(p routing.Pause) handover.Message {
	data, _ := json.Marshal(p) // it has times and texts
	return handover.Message{Do: "pause", Data: data}
}

// connections returns how many connections this process, and those before it, have to each backend.
func (a *App) connections() map[string]int {
	all := make(map[string]int)
	for _, b := range a.router.Backends() {
		if n := a.room.Status(b.ID).Connections + a.beside.connections(b.ID); n > 0 {
			all[b.ID] = n
		}
	}
	return all
}

// connections returns how many connections the older processes have to a backend, as they said lately.
func (b *beside) connections(backend string) (n int) {
	if b == nil {
		return 0
	}
	for _, o := range b.before() {
		if r := o.report.Load(); r != nil {
			n += r.Connections[backend]
		}
	}
	return n
}
