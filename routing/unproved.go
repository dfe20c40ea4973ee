package routing

import (
	"context"
	"time"
)

// A login whose password only the backend can check may be a guess. It may try another backend if the user's
// backend is full or can't be reached. But it moves the user to that backend, and ends the user's sessions on
// the previous one, only after that backend has accepted the password.

// aside is the state of a pick whose user is pinned to another backend. The pin doesn't count the pick.
type aside struct {
	placement string
	holding   int // how many sessions had a connection to that backend
}

// PickUnproved is PickWithin for a login whose password only the backend can verify. Such
// a login may try another backend, but moves its user there only at Confirm.
func (r *Router) PickUnproved(ctx context.Context, limit time.Duration, user, placement string, tried ...string) (*Pick, error) {
	return r.pickWithin(ctx, limit, ask{user: user, placement: placement, tried: tried, settle: true, unproved: true})
}

// pickAside makes a pick that doesn't change the user's pin.
func (r *Router) pickAside(a ask, b *backendRow, why Why, pin *pinRow) *Pick {
	r.countFailover(a, why, pin)
	return &Pick{Backend: &b.Backend, Why: why, router: r, user: a.user, gen: pin.gen, void: make(chan struct{}),
		aside: &aside{placement: a.placement, holding: pin.holding}}
}

// confirm is the first call of Confirm.
func (p *Pick) confirm() bool {
	if p.aside == nil {
		return p.router.confirm(p)
	}
	pin := p.router.move(p)
	if pin == nil {
		return false
	}
	p.gen, p.void, p.aside = pin.gen, pin.void, nil
	return true
}

// move is confirm for a pick whose user is pinned elsewhere, and returns the pin; nil: the
// user can't be moved. The cases, the first that applies:
//
//   - the pin has ended: the user is pinned here.
//   - another login of the user's has moved them here: this one joins it.
//   - another has moved them somewhere else, or more sessions have a connection to the backend
//     before than had at the pick: nil. It can be reached again.
//   - else the user moves, as by Pick.
func (r *Router) move(p *Pick) *pinRow {
	tx := newWriteTxn(r.db)
	defer tx.abort()
	now := r.opts.Load().Now()
	old := tx.pin(p.user)
	pin := pinRow{user: p.user, backend: p.Backend.ID, placement: p.aside.placement, since: now, idleSince: now}
	joins := old != nil && old.backend == p.Backend.ID
	switch {
	case old == nil:
	case joins:
		pin = *old
	case old.gen != p.gen || old.holding > p.aside.holding:
		return nil
	}
	if !joins {
		pin.gen, pin.void = r.gen.Add(1), make(chan struct{})
	}
	pin.sessions++
	pin.live++
	pin.holding++
	pin.proven = true
	tx.putPin(&pin)
	tx.commit()
	if joins {
		r.count(pin.backend, 0, 1)
		return &pin
	}
	r.count(pin.backend, 1, 1)
	if old != nil {
		r.count(old.backend, -1, 0)
		close(old.void)
	}
	return &pin
}
