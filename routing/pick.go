package routing

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Pick is one session's claim on a backend. How a session uses it:
//
//	p, err := router.PickWithin(ctx, 3 * time.Second, user, placement) // err: NO [UNAVAILABLE]
//	… the backend can't be reached:
//	    router.ReportDialFailure(p.Backend.ID, err)
//	    tried = append(tried, p.Backend.ID)
//	    p.Release()                                // first, or the claim counts as another device's
//	    p, err = router.Pick(user, placement, tried...)
//	… the backend said OK to the login:
//	    if !p.Confirm() { close it; pick again }   // PickUnproved: now the user moves
//	… a new connection was made for that: router.ReportDialSuccess(p.Backend.ID)
//	… the session gives its connection up, and gets another: p.Rest(), p.Hold()
//	… the session lives; on <-p.Void(): leave this backend
//	p.Release()                                    // always, at the end
type Pick struct {
	// Backend is the backend at the time of the pick; it is never changed. Its ID is the
	// claim's; discovery may have changed the rest since (Current).
	Backend *Backend
	// Why is the rule that chose it.
	Why Why

	router *Router
	user   string
	gen    uint64
	void   chan struct{}

	claim atomic.Pointer[func()] // ends the Agreement's claim, until the login's connection has one; nil: no claim

	mu    sync.Mutex
	state pickState // under mu
	holds bool      // under mu: it has a connection to the backend
	aside *aside    // under mu: the user's pin is elsewhere; nil: it is this pick's
}

// pickState: picked → confirmed → released; or picked → released.
type pickState uint8

const (
	picked    pickState = iota // dialling, logging in
	confirmed                  // logged in; counts as a live session
	released                   // ended
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
		return p, err
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		select {
		case <-news:
		case <-timer.C:
			a.settle = false
			return r.pick(a)
		case <-ctx.Done():
			return nil, err
		}
		news = r.news()
		if p, err = r.pick(a); !errors.Is(err, ErrNotReady) {
			return p, err
		}
	}
}

// news returns a channel that closes at discovery's next answer.
func (r *Router) news() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.news
}

// pick is Pick.
func (r *Router) pick(a ask) (*Pick, error) {
	if a.user == "" {
		return nil, errors.New("routing: a pick for no user") // a mistake of the caller
	}
	if !r.Ready() {
		return nil, ErrNotReady
	}
	tx := newWriteTxn(r.db)
	defer tx.abort()
	o := r.opts.Load()
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
		user: a.user, placement: a.placement, tried: a.tried, pin: old, now: now,
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

// Confirm records that the backend accepted the user's login: the session counts
// as live, holds the pin against a failover, and leaves the pin for PinGrace.
// False means that the user was sent to another backend meanwhile, or that the pick was
// released: close the connection, call Release, and pick again.
func (p *Pick) Confirm() bool {
	ok := p.confirmed()
	if ok {
		p.unclaim()
	}
	return ok
}

func (p *Pick) confirmed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == picked && p.confirm() {
		p.state, p.holds = confirmed, true
		return true
	}
	return p.state == confirmed && !p.voided()
}

// Rest records that the session is parked and no longer has a connection to the
// backend. It doesn't hold its user on a backend that is down or refuses. False means
// that the user was sent to another backend meanwhile.
func (p *Pick) Rest() bool { return p.hold(false) }

// Hold records that the session has a connection to the backend again. False means that the
// user was sent to another backend meanwhile.
func (p *Pick) Hold() bool { return p.hold(true) }

func (p *Pick) hold(on bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state != confirmed {
		return false
	}
	if p.holds == on {
		return !p.voided()
	}
	counted := p.router.hold(p, on)
	if counted || !on { // where the user has moved meanwhile, no pin counts it
		p.holds = on
	}
	return counted
}

// Release ends the claim, when the session has ended or was never established. It may be
// called more than once. If a session was logged in, the pin lasts PinGrace longer.
func (p *Pick) Release() {
	defer p.unclaim() // after the lock
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.state == released {
		return
	}
	if p.aside == nil {
		p.router.release(p, p.state == confirmed, p.holds)
	}
	p.state = released
}

// unclaim ends the pick's own claim.
func (p *Pick) unclaim() {
	if claim := p.claim.Swap(nil); claim != nil {
		(*claim)()
	}
}

// Current returns the backend as discovery describes it now. A later connection
// uses its present address.
func (p *Pick) Current() *Backend {
	if b := newReadTxn(p.router.db).backend(p.Backend.ID); b != nil {
		return &b.Backend
	}
	return p.Backend
}

// Void returns a channel that closes when the user is sent to another backend during this
// pick: the user's backend was down for too long, or the placement changed. The session has
// to leave its backend; two backends must never serve one user.
func (p *Pick) Void() <-chan struct{} { return p.void }

func (p *Pick) voided() bool {
	select {
	case <-p.void:
		return true
	default:
		return false
	}
}

// confirm counts the session as a live one, unless its pin has moved.
func (r *Router) confirm(p *Pick) bool {
	tx := newWriteTxn(r.db)
	defer tx.abort()
	old := tx.pin(p.user)
	if old == nil || old.gen != p.gen {
		return false
	}
	pin := *old
	pin.live++
	pin.holding++
	pin.proven = true
	tx.putPin(&pin)
	tx.commit()
	r.count(pin.backend, 0, 1)
	return true
}

// hold counts a session that gets a connection or gives it up, unless its pin has moved.
func (r *Router) hold(p *Pick, on bool) bool {
	tx := newWriteTxn(r.db)
	defer tx.abort()
	old := tx.pin(p.user)
	if old == nil || old.gen != p.gen {
		return false
	}
	pin := *old
	if pin.holding--; on {
		pin.holding += 2
	}
	tx.putPin(&pin)
	tx.commit()
	return true
}

// release removes the session from its pin, if the pin is still the same.
func (r *Router) release(p *Pick, live, holds bool) {
	tx := newWriteTxn(r.db)
	defer tx.abort()
	o := r.opts.Load()
	now := o.Now()
	pins := 0
	if old := tx.pin(p.user); old != nil && old.gen == p.gen {
		pin := *old
		pin.sessions--
		if holds {
			pin.holding--
		}
		if live {
			pin.live--
			pin.idleSince = now
		}
		if pin.sessions == 0 && (!pin.proven || pin.flushed || pin.ended(now, o.PinGrace)) {
			tx.deletePin(old)
			pins = -1
		} else {
			tx.putPin(&pin)
		}
	}
	r.sweep(tx, o, now, sweepStep)
	tx.commit()
	sessions := 0
	if live {
		sessions = -1
	}
	r.count(p.Backend.ID, pins, sessions)
}
