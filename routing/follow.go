package routing

import (
	"context"
	"errors"
	"fmt"
)

// ByMove: a session that was parked has followed its user to another backend.
const ByMove Why = "move"

// errNotResting: only the pick of a session that is logged in and has no connection can follow.
var errNotResting = errors.New("the session has a connection to its backend, or another pick by now")

// Shares says whether all backends have the same mail, so that a session can go on at another one.
func (r *Router) Shares() bool { return r.opts.Load().Storage == Shared }

// Follow makes the new pick of a logged-in session that has no connection, and whose user is at another backend by now. backend is its ID; "": the
// backend of the user's other sessions. The session counts there from then on, and this pick is released. Where several proxies agree, Follow claims
// nothing: the session's connection does. Storage must be shared. In order:
//
//	a backend is named, and isn't listed              ErrNoBackend
//	else                                              there; the user's pin moves, if it is elsewhere
//	another process of this proxy has the user        there
//	the user has a pin, and its backend is listed or  there
//	sessions have a connection to it
//	several proxies agree                             where the session was: its connection claims it, or says where else
//	else                                              where a login would go
func (p *Pick) Follow(backend string) (*Pick, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state != confirmed || p.holds {
		return nil, errNotResting
	}
	fresh, err := p.router.follow(p, backend)
	if err == nil {
		p.router.release(p, true, false)
		p.state = released
	}
	return fresh, err
}

// Agreed waits until the proxies agree on a user's backend, and returns its ID, for a session whose user is being moved. The error is ErrNotAgreed. Where
// this proxy decides alone, backend is "", which means to Follow the backend of the user's other sessions.
func (r *Router) Agreed(ctx context.Context, user string) (backend string, err error) {
	agreement := r.opts.Load().Agreement
	if agreement == nil {
		return "", nil
	}
	backend, release, err := agreement.Claim(ctx, user, "")
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrNotAgreed, err)
	}
	release() // the connection has a claim of its own
	return backend, nil
}

// Destined is an Agreement that knows where users are to be.
type Destined interface {
	// Destination returns the ID of the backend that the user goes to once no proxy has connections of the user elsewhere; "" where that isn't known.
	Destination(user string) (backend string)
}

// Destination returns the ID of the backend that the user is to be moved to; "": it isn't known, or this proxy decides alone.
func (r *Router) Destination(user string) string {
	if d, ok := r.opts.Load().Agreement.(Destined); ok {
		return d.Destination(user)
	}
	return ""
}

// follow makes the pick of Follow.
func (r *Router) follow(p *Pick, backend string) (*Pick, error) {
	o := r.opts.Load()
	beside := o.beside(p.user)
	tx := newWriteTxn(r.db)
	defer tx.abort()
	now := o.Now()
	old := tx.pin(p.user)
	if old != nil && old.ended(now, o.PinGrace) {
		tx.deletePin(old)
		r.count(old.backend, -1, 0)
		old = nil
	}
	switch {
	case backend != "":
	case beside != "" && (old == nil || old.holding == 0):
		backend = beside
	case old != nil && (old.holding > 0 || listed(tx.backend(old.backend))):
		backend = old.backend
	case o.Agreement != nil:
		backend = p.Backend.ID
	default:
		b, _, err := choose(choice{user: p.user, now: now, storage: o.Storage, failoverAfter: o.FailoverAfter, tables: tx.readTxn, health: tx.allHealth()})
		if err != nil {
			return nil, err
		}
		backend = b.ID
	}
	b := tx.backend(backend)
	if !listed(b) {
		tx.commit() // that the pin has ended
		return nil, fmt.Errorf("%w: %q isn't listed", ErrNoBackend, backend)
	}
	pin := pinRow{user: p.user, backend: b.ID, since: now}
	moved := old != nil && old.backend != b.ID
	if old != nil && !moved {
		pin = *old
	}
	if pin.void == nil {
		pin.gen, pin.void = r.gen.Add(1), make(chan struct{})
	}
	pin.sessions++
	pin.live++
	pin.proven = true
	tx.putPin(&pin)
	tx.commit()
	if moved {
		r.count(old.backend, -1, 0)
		close(old.void)
	}
	if old == nil || moved {
		r.count(b.ID, 1, 0)
	}
	r.count(b.ID, 0, 1)
	return &Pick{Backend: &b.Backend, Why: ByMove, router: r, user: p.user, gen: pin.gen, void: pin.void, state: confirmed}, nil
}

func listed(b *backendRow) bool { return b != nil && !b.gone }

// FailsOver returns the ID of the backend where a login of the user would go, for a session without a connection whose backend can't be reached. unfit are
// the IDs of backends where it can't go on. errStays: it is the session's own backend, several proxies agree, or storage isn't shared. Other errors are Pick's.
func (p *Pick) FailsOver(unfit ...string) (backend string, err error) {
	r := p.router
	o := r.opts.Load()
	if o.Agreement != nil || o.Storage != Shared {
		return "", errStays
	}
	tx := newReadTxn(r.db)
	c := choice{user: p.user, pin: tx.pin(p.user), now: o.Now(), storage: o.Storage, failoverAfter: o.FailoverAfter, tables: tx, health: tx.allHealth(), tried: unfit}
	if c.pin != nil {
		c.placement = c.pin.placement
	}
	b, _, err := choose(c)
	switch {
	case err != nil:
		return "", err
	case b.ID == p.Backend.ID:
		return "", errStays
	}
	return b.ID, nil
}

var errStays = errors.New("the user stays where the session is")
