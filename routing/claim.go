package routing

import (
	"sync"
	"sync/atomic"
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

// aside is the state of a pick whose user is pinned to another backend. The pin doesn't count the pick.
type aside struct {
	placement string
	holding   int // how many sessions had a connection to that backend
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
