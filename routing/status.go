package routing

import (
	"time"

	"imapproxy/telemetry"
)

// maxPins bounds the result of Pins.
const maxPins = 1000

// BackendStatus describes a backend for the admin page.
type BackendStatus struct {
	Backend
	Since time.Time // since when it has its State
	// Kept: discovery took it away; the panic threshold keeps it.
	Kept bool
	// Damped: it flaps, and gets no new users until it has been usable for FlapDamp.
	Damped bool
	// Flaps is how often discovery has taken it away lately.
	Flaps int
	// Gone: discovery doesn't list it; it is shown while users are pinned to it.
	Gone bool
	// Pins counts pinned users, including those within their grace time; Sessions counts logged-in sessions.
	Pins, Sessions int
	// Dials that failed in a row; 0 = all is well.
	Failures    int
	LastFailure time.Time
	LastError   string
	// Suspect: so many dials failed in a row that new users go to other backends.
	Suspect bool
}

// Backends returns the fleet, by id.
func (r *Router) Backends() []BackendStatus {
	tx := newReadTxn(r.db)
	health := tx.allHealth()
	now := r.opts.Load().Now()
	usage := r.usage()
	var all []BackendStatus
	tx.backends(func(b *backendRow) bool {
		s := BackendStatus{Backend: b.Backend, Since: b.since, Kept: b.kept, Gone: b.gone, Damped: b.damped, Flaps: b.falls,
			Pins: usage[b.ID].pins, Sessions: usage[b.ID].sessions}
		if h := health[b.ID]; h != nil {
			s.Failures, s.LastFailure, s.LastError, s.Suspect = h.failures, h.last, h.lastError, h.suspect(now)
		}
		all = append(all, s)
		return true
	})
	return all
}

// PinStatus describes a pin for the admin page.
type PinStatus struct {
	User, Backend string
	Placement     string // the placement for which it was made; "" = none
	Sessions      int    // logged-in sessions
	Holding       int    // of these, those with a connection to the backend
	Flushed       bool   // it ends with the last session
	Since         time.Time
	// Ends is when the grace time ends; zero while there are sessions, or logins in progress.
	Ends time.Time
}

// Pins returns the pin of one user (none or one); for "" the first
// thousand pins, by user.
func (r *Router) Pins(user string) []PinStatus {
	tx := newReadTxn(r.db)
	o := r.opts.Load()
	now := o.Now()
	var pins []PinStatus
	add := func(p *pinRow) bool {
		if p == nil || p.ended(now, o.PinGrace) {
			return true
		}
		s := PinStatus{User: p.user, Backend: p.backend, Placement: p.placement, Sessions: p.live, Holding: p.holding, Flushed: p.flushed, Since: p.since}
		if p.sessions == 0 {
			s.Ends = p.idleSince.Add(o.PinGrace)
		}
		pins = append(pins, s)
		return len(pins) < maxPins
	}
	if user != "" {
		add(tx.pin(user))
		return pins
	}
	tx.pins(add)
	return pins
}

// LastGood returns when discovery last gave an answer that was applied whole; zero: never.
func (r *Router) LastGood() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.learned
}

// FromSaved says whether the present set was read from disk, since there was no live answer yet; LastGood is
// then the time when the set was learnt.
func (r *Router) FromSaved() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.saved
}

// usage returns a copy of the counts.
func (r *Router) usage() map[string]usage {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make(map[string]usage, len(r.mu.usage))
	for id, u := range r.mu.usage {
		all[id] = u
	}
	return all
}

// stats returns the values of the gauges. It also removes ended pins, so that the table shrinks even without
// logins.
func (r *Router) stats() telemetry.RoutingStats {
	o := r.opts.Load()
	now := o.Now()
	tx := newWriteTxn(r.db)
	r.sweep(tx, o, now, maxPins)
	tx.commit()

	s := telemetry.RoutingStats{Age: -1, Paused: int64(len(r.Pauses()))}
	states := make(map[State]int64)
	newReadTxn(r.db).backends(func(b *backendRow) bool {
		if !b.Pending {
			states[b.State]++
		}
		return true
	})
	for _, state := range []State{Up, Draining, Down} {
		s.Backends = append(s.Backends, telemetry.StateCount{State: state.String(), Count: states[state]})
	}
	read := newReadTxn(r.db)
	sessions := make(map[string]int64) // by name
	for id, u := range r.usage() {
		s.Pins += int64(u.pins)
		sessions[read.shown(id)] += int64(u.sessions)
	}
	for name, n := range sessions {
		s.Sessions = append(s.Sessions, telemetry.BackendCount{Backend: name, Count: n})
	}
	if t := r.LastGood(); !t.IsZero() {
		s.Age = max(now.Sub(t), 0)
	}
	return s
}
