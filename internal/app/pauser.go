package app

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"imapproxy/internal/admin"
	"imapproxy/routing"
	"imapproxy/routing/agree"
)

// Pause implements admin.Pauser.
func (a pauser) Pause(ctx context.Context, q admin.PauseRequest) (admin.PauseAnswer, error) {
	b, err := mover(a).named(q.Backend)
	if err != nil {
		return admin.PauseAnswer{}, err
	}
	p := routing.Pause{Backend: b.ID, By: q.By}
	if g := a.agreement; !q.DryRun && g != nil {
		agreed, err := g.part.Pause(ctx, agree.PauseRequest{Backend: b.ID, By: q.By, For: q.Time()})
		if err == nil {
			err = g.done(ctx)
		}
		if err != nil {
			return admin.PauseAnswer{}, refusal(err)
		}
		p = routingPause(agreed)
	} else if !q.DryRun {
		p.Since = a.now()
		p.Until = p.Since.Add(q.Time())
		a.router.Pause(p)
		a.tellPause(p)
	}
	a.pausesChanged()
	return admin.PauseAnswer{DryRun: q.DryRun, Agreed: a.agreement != nil, Pause: a.pausedAt(p)}, nil
}

// Resume implements admin.Pauser.
func (a pauser) Resume(ctx context.Context, q admin.ResumeRequest) (admin.PauseAnswer, error) {
	b, err := mover(a).named(q.Backend)
	if err != nil { // a backend that isn't listed any more can be paused
		if _, _, paused := a.router.Paused(q.Backend); !paused {
			return admin.PauseAnswer{}, err
		}
		b.ID = q.Backend
	}
	p := routing.Pause{Backend: b.ID, Until: a.now()}
	if g := a.agreement; g != nil {
		agreed, err := g.part.Resume(ctx, b.ID)
		if err == nil {
			err = g.done(ctx)
		}
		if err != nil {
			return admin.PauseAnswer{}, refusal(err)
		}
		p = routingPause(agreed)
	} else if !a.router.Resume(b.ID) {
		return admin.PauseAnswer{}, refused(http.StatusConflict, admin.CodeRefused, fmt.Sprintf("%s isn't paused", a.called(b.ID)))
	} else {
		a.tellPause(p)
	}
	a.pausesChanged()
	return admin.PauseAnswer{Agreed: a.agreement != nil, Pause: a.pausedAt(p)}, nil
}

// Pauses implements admin.Pauser.
func (a pauser) Pauses() (all []admin.Pause) {
	for _, p := range a.router.Pauses() {
		all = append(all, a.pausedAt(p))
	}
	return all
}

// pausedAt returns a pause with what this proxy has at the backend.
func (a pauser) pausedAt(p routing.Pause) admin.Pause {
	at := a.server.SessionsOn(p.Backend)[p.Backend]
	delete(at.Attachments, "ended") // it has no client any more
	if n := a.server.GuestsAt(p.Backend); n > 0 {
		at.Attachments["guest"] = n
		at.Held["shared_mailbox"] += n
	}
	return admin.Pause{
		Backend: a.called(p.Backend), StableID: p.Backend, By: p.By, Since: given(p.Since), Until: given(p.Until),
		Sessions: at.Attachments, Held: at.Held, Connections: a.room.Status(p.Backend).Connections + a.beside.connections(p.Backend),
	}
}

// routingPause converts a pause of a fleet.
func routingPause(p agree.Pause) routing.Pause {
	return routing.Pause{Backend: p.Backend, By: p.By, Since: milliseconds(p.Since), Until: milliseconds(p.Until)}
}

// agreedPauses passes a fleet's pauses to the router.
func (a *App) agreedPauses(f *agree.Fleet) {
	all := make([]routing.Pause, len(f.Pauses))
	for i, p := range f.Pauses {
		all[i] = routingPause(p)
	}
	a.router.SetPauses(all)
	a.pausesChanged()
}

// detachEvery is how often sessions at a paused backend are asked to give up their connections: those that
// couldn't be parked, and those that were logging in when the pause began.
const detachEvery = time.Second

// keepPauses makes sessions, watches and the pool give up their connections to paused backends, until ctx
// ends.
func (a *App) keepPauses(ctx context.Context) error {
	tick := time.NewTicker(detachEvery)
	defer tick.Stop()
	known := map[string]routing.Pause{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.pauseNews:
		case <-tick.C:
		}
		now := map[string]routing.Pause{}
		for _, p := range a.router.Pauses() {
			now[p.Backend] = p
			if known[p.Backend] != p {
				a.tel.Log.Warn("backend is paused: its sessions give up their connections, and wait", "backend", a.called(p.Backend), "by", p.By, "until", p.Until)
			}
			attached := a.server.DetachAt(p.Backend)
			a.parking.hub.LetGoAt(p.Backend, attached)
			a.parking.pool.ForgetBackend(p.Backend)
		}
		for id := range known {
			if _, paused := now[id]; !paused {
				a.tel.Log.Warn("backend isn't paused any more: its sessions go on", "backend", a.called(id))
				a.server.Stay()
			}
		}
		known = now
	}
}
