package routing

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Pick chooses the backend for a new session of the user and claims it, in one
// step: two simultaneous sessions get the same backend.
//
// user is the canonical name. placement is the id of the backend that the
// user's credentials or Consul KV name, or "". tried are the backends that
// this session's login has already failed to reach. Errors are those of this
// package, all of them temporary.
//
// If the state of the backend that would be chosen isn't known yet, the error is
// ErrNotReady; PickWithin waits for it.
func (r *Router) Pick(user, placement string, tried ...string) (*Pick, error) {
	return r.pick(ask{user: user, placement: placement, tried: tried, settle: true})
}

// ask has the parameters of a pick.
type ask struct {
	user, placement string
	tried           []string
	settle          bool   // a backend whose state isn't known yet may be worth waiting for
	unproved        bool   // only the backend can check the password
	agreed          string // the backend on which the proxies agree; "": this proxy decides alone
}

// PickWithin is like Pick, but if Pick would return ErrNotReady it waits for discovery's next
// answers, up to limit. Then a backend whose state isn't known counts as down.
func (r *Router) PickWithin(ctx context.Context, limit time.Duration, user, placement string, tried ...string) (*Pick, error) {
	return r.pickWithin(ctx, limit, ask{user: user, placement: placement, tried: tried, settle: true})
}

func (r *Router) pickWithin(ctx context.Context, limit time.Duration, a ask) (*Pick, error) {
	if agreement := r.opts.Load().Agreement; agreement != nil {
		return r.pickAgreed(ctx, limit, agreement, a)
	}
	news := r.news() // taken before the pick, so that no answer is missed in between
	p, err := r.pick(a)
	if !errors.Is(err, ErrNotReady) {
		return r.freed(ctx, p, err)
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		select {
		case <-news:
		case <-timer.C:
			a.settle = false
			p, err = r.pick(a)
			return r.freed(ctx, p, err)
		case <-ctx.Done():
			return nil, err
		}
		news = r.news()
		if p, err = r.pick(a); !errors.Is(err, ErrNotReady) {
			return r.freed(ctx, p, err)
		}
	}
}

// pick is Pick.
func (r *Router) pick(a ask) (*Pick, error) {
	if a.user == "" {
		return nil, errors.New("routing: a pick for no user") // a mistake of the caller
	}
	if !r.Ready() {
		return nil, ErrNotReady
	}
	o := r.opts.Load()
	beside := o.beside(a.user)
	tx := newWriteTxn(r.db)
	defer tx.abort()
	now := o.Now()
	r.sweep(tx, o, now, sweepStep)

	old := tx.pin(a.user)
	if old != nil && old.ended(now, o.PinGrace) {
		tx.deletePin(old)
		r.count(old.backend, -1, 0)
		old = nil
	}
	health := tx.allHealth()
	b, why, err := choose(choice{
		user: a.user, placement: a.placement, tried: a.tried, pin: pinBeside(old, beside, a.user, a.placement, now), now: now,
		storage: o.Storage, failoverAfter: o.FailoverAfter, tables: tx.readTxn, health: health, settle: a.settle, agreed: a.agreed,
	})
	if err != nil {
		tx.commit() // stores the removal of ended pins
		return nil, err
	}

	moved := old != nil && old.backend != b.ID
	if moved && a.unproved {
		tx.commit() // stores the removal of ended pins
		return r.pickAside(a, b, why, old), nil
	}
	pin := pinRow{user: a.user, backend: b.ID, placement: a.placement, since: now}
	switch {
	case old == nil:
		pin.idleSince = now
	case old.backend == b.ID:
		pin = *old
		if why == ByPlacement {
			pin.placement = a.placement
		}
	default: // the user moves
		pin.proven, pin.idleSince = old.proven, old.idleSince
	}
	if pin.void == nil {
		pin.gen, pin.void = r.gen.Add(1), make(chan struct{})
	}
	pin.sessions++
	tx.putPin(&pin)
	tx.commit()

	if moved {
		r.count(old.backend, -1, 0)
		close(old.void)
	}
	if old == nil || moved {
		r.count(b.ID, 1, 0)
	}
	r.countFailover(a, why, old)
	return &Pick{Backend: &b.Backend, Why: why, router: r, user: a.user, gen: pin.gen, void: pin.void}, nil
}

func (r *Router) countFailover(a ask, why Why, old *pinRow) {
	if why == ByFailover {
		r.tel.Failover(failoverReason(old, a.tried))
	}
}

// failoverReason is the metric's label for why the first choice wasn't taken.
func failoverReason(old *pinRow, tried []string) string {
	switch {
	case old != nil && slices.Contains(tried, old.backend), old == nil && len(tried) > 0:
		return "refused"
	case old != nil:
		return "pin_down"
	}
	return "down"
}

// PickUnproved is PickWithin for a login whose password only the backend can verify, and which may be a guess.
// It may try another backend if the user's backend is full or can't be reached. But it moves the user to that
// backend, and ends the user's sessions on the previous one, only at Confirm, after that backend has accepted
// the password.
func (r *Router) PickUnproved(ctx context.Context, limit time.Duration, user, placement string, tried ...string) (*Pick, error) {
	return r.pickWithin(ctx, limit, ask{user: user, placement: placement, tried: tried, settle: true, unproved: true})
}

// pickAside makes a pick that doesn't change the user's pin.
func (r *Router) pickAside(a ask, b *backendRow, why Why, pin *pinRow) *Pick {
	r.countFailover(a, why, pin)
	return &Pick{Backend: &b.Backend, Why: why, router: r, user: a.user, gen: pin.gen, void: make(chan struct{}),
		aside: &aside{placement: a.placement, holding: pin.holding}}
}

// pickAgreed is Pick with an Agreement: the backend is the Agreement's, and no other is tried, since a user
// whose backend one proxy can't reach moves by the decision of all proxies, or not at all. The claim holds
// until the login's own connection has a claim (Confirm), or the pick is released.
func (r *Router) pickAgreed(ctx context.Context, limit time.Duration, agreement Agreement, a ask) (*Pick, error) {
	if !r.readyWithin(ctx, limit) {
		return nil, ErrNotReady
	}
	home, err := r.home(a)
	if err != nil {
		return nil, err
	}
	backend, release, err := agreement.Claim(ctx, a.user, home)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotAgreed, err)
	}
	a.agreed, a.settle = backend, false
	p, err := r.pick(a)
	if err != nil {
		release()
		return nil, err
	}
	p.claim.Store(&release)
	return p, nil
}

// readyWithin waits for the first fleet, up to limit.
func (r *Router) readyWithin(ctx context.Context, limit time.Duration) bool {
	news := r.news() // taken before Ready, so that no answer is missed in between
	if r.Ready() {
		return true
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-news:
	case <-timer.C:
	case <-ctx.Done():
	}
	return r.Ready()
}

// home is the ID of the backend that the user's placement names. With shared storage, a placement that can't
// be followed counts as none. If it names several backends, all proxies use the first by ID.
func (r *Router) home(a ask) (string, error) {
	separate := r.opts.Load().Storage == Separate
	switch {
	case a.placement == "" && separate:
		return "", ErrNoPlacement
	case a.placement == "":
		return "", nil
	}
	home := ""
	for _, b := range newReadTxn(r.db).named(a.placement) {
		if home == "" || b.ID < home {
			home = b.ID
		}
	}
	if home == "" && separate {
		return "", fmt.Errorf("%w: %q", ErrUnknownPlacement, a.placement)
	}
	return home, nil
}
