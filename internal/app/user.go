package app

import (
	"context"
	"time"

	"imapproxy/internal/admin"
	"imapproxy/routing"
)

// placementWithin bounds the request to Consul for a user's placement.
const placementWithin = 2 * time.Second

// user returns the admin API's data about a user, without the sessions.
func (a *App) user(ctx context.Context, name string) admin.User {
	u := admin.User{User: name, WarmConnections: a.parking.pool.OfUser(name)}
	for _, p := range a.router.Pins(name) {
		u.Pin = &admin.Pin{Backend: a.called(p.Backend), Placement: p.Placement, Since: p.Since, Sessions: p.Sessions, Holding: p.Holding, Flushed: p.Flushed}
		if !p.Ends.IsZero() {
			u.Pin.Ends = &p.Ends
		}
	}
	ctx, cancel := context.WithTimeout(ctx, placementWithin)
	defer cancel()
	placement, err := a.server.PlacementOf(ctx, name)
	if err == nil {
		u.Placement = placement
		if placement == "" && u.Pin != nil {
			placement = u.Pin.Placement // a passwd-file gives a placement at each login
		}
		err = a.where(&u, placement)
	}
	if err != nil {
		u.Error = err.Error()
	}
	for _, f := range a.server.Failures(name) {
		u.Failures = append(u.Failures, admin.Failure{Time: f.Time, What: f.What, Reason: f.Reason, Client: f.Client, Backend: f.Backend, Error: f.Error})
	}
	return u
}

// where returns where a login of the user would go.
func (a *App) where(u *admin.User, placement string) error {
	b, why, err := a.router.Where(u.User, placement)
	if a.agreement == nil {
		if err == nil {
			u.Goes, u.Why = b.Name, string(why)
		}
		return err
	}
	home := ""
	if err == nil && why == routing.ByPlacement {
		home = b.ID
	}
	p := a.agreement.part.Place(u.User, home)
	u.Stay = new("")
	u.Override = a.called(p.Override)
	switch {
	case p.Override != "" && p.Choice == p.Override:
		u.Goes, u.Why = a.called(p.Override), "override"
	case p.Choice != "":
		u.Goes, u.Why = a.called(p.Choice), string(routing.ByRendezvous)
		if home == p.Choice {
			u.Why = string(why)
		}
	default:
		return routing.ErrNoBackend
	}
	for _, at := range p.Stays {
		*u.Stay = a.called(at)
	}
	if p.Holds != "" {
		u.Goes, u.Why = a.called(p.Holds), "connections"
	} else if *u.Stay != "" {
		u.Goes, u.Why = *u.Stay, "stay"
	}
	return nil
}

// flush removes a user's cached credentials, warm connections and pin. The pool comes first: a login between
// the two steps finds no credential, and the pin that it makes or joins holds its backend.
func (a *App) flush(name string) admin.FlushAnswer {
	warm := a.parking.pool.FlushUser(name)
	pin := a.router.Flush(name)
	if b := a.beside; b != nil && b.table != nil && b.table.Where(name) != "" { // the user goes where an older process has them
		pin = routing.FlushedLater
	}
	return admin.FlushAnswer{User: name, WarmConnections: warm, Pin: pin}
}
