package agree

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"imapproxy/routing"
)

// A drain is an operator's request that a backend's users be moved away, and that no users be sent there. It
// is part of the fleet, so that it holds for all proxies and outlives each of them. It makes a backend that
// discovery calls up one that drains; it doesn't change a backend that is down. The moves of its users have
// a schedule of their own, which no later fleet changes.

// Errors of Drain and Undrain.
var (
	ErrNoOther       = errors.New("no other backend is up: its users could go nowhere")
	ErrNotDrained    = errors.New("no operator drains the backend")
	ErrTooManyDrains = errors.New("too many backends are drained")
	// ErrSeparate means that with separate storage only the placement says where a user can be.
	ErrSeparate = errors.New("with separate storage no other backend has the users' mail")
)

// DrainRequest is an operator's request for a drain.
type DrainRequest struct {
	Backend string
	By      string
	Within  time.Duration // 0: sessions that can't be moved stay
	Rate    float64       // users a second; 0: the policy's MoveRate
}

// checkDrain returns why a drain isn't possible, nil if it is.
func (m *Member) checkDrain(r DrainRequest) error {
	switch {
	case m.phase != inside || m.isolated:
		return ErrNotInside
	case m.separate():
		return ErrSeparate
	case m.fleet.backend(r.Backend) == nil:
		return fmt.Errorf("%w: %s", ErrUnknownBackend, clip(r.Backend))
	case r.Within < 0 || r.Within > maxWithin:
		return fmt.Errorf("sessions can't be ended after %v; at most %v", r.Within, maxWithin)
	case !(r.Rate >= 0 && r.Rate <= 1e6): // written so that NaN fails
		return fmt.Errorf("%v users a second can't be moved", r.Rate)
	case m.fleet.drain(r.Backend) == nil && len(m.fleet.Drains) >= maxDrains || len(m.writer.drains) >= maxDrains:
		return ErrTooManyDrains
	}
	for _, b := range m.fleet.Backends {
		if b.ID != r.Backend && b.State == routing.Up && b.Weight > 0 && !m.drainAsked(b.ID) {
			return nil
		}
	}
	return ErrNoOther
}

// Drain asks that a backend be drained. It replaces a drain that the backend has already. The request is
// done when Drained returns the number that Drain has returned; that takes a minute at most, or the request
// is given up.
func (m *Member) Drain(r DrainRequest, now time.Time) (since int64, err error) {
	m.at(now)
	if err := m.checkDrain(r); err != nil {
		return 0, err
	}
	d := &Drain{Backend: r.Backend, Since: m.now.UnixMilli(), By: clean(r.By), Rate: r.Rate}
	if old := m.fleet.drain(r.Backend); old != nil {
		d.Since = max(d.Since, old.Since+1)
	}
	if r.Within > 0 {
		d.Deadline = m.now.Add(r.Within).UnixMilli()
	}
	m.writer.drains[r.Backend] = &drainWish{d, asked{until: m.now.Add(requestFor)}}
	m.pump()
	return d.Since, nil
}

// Undrain asks that a backend's drain end. The request is done when Drained returns 0 for the backend.
func (m *Member) Undrain(backend string, now time.Time) error {
	m.at(now)
	if err := m.checkUndrain(backend); err != nil {
		return err
	}
	m.writer.drains[backend] = &drainWish{nil, asked{until: m.now.Add(requestFor)}}
	m.pump()
	return nil
}

// checkUndrain returns why a drain can't be ended, nil if it can.
func (m *Member) checkUndrain(backend string) error {
	switch {
	case m.phase != inside || m.isolated:
		return ErrNotInside
	case m.fleet.drain(backend) == nil && m.fleet.backend(backend) == nil:
		return fmt.Errorf("%w: %s", ErrUnknownBackend, clip(backend))
	case m.fleet.drain(backend) == nil && !m.drainAsked(backend):
		return ErrNotDrained
	}
	return nil
}

// PreviewEnd returns where the users of this proxy are who would go to the backend if its drain ended: backend
// → number of users. It is empty if the backend wouldn't be up.
func (m *Member) PreviewEnd(backend string, now time.Time) (map[string]int, error) {
	m.at(now)
	if err := m.checkUndrain(backend); err != nil {
		return nil, err
	}
	from := make(map[string]int)
	b := m.fleet.backend(backend)
	if b == nil || !b.Drained {
		return from, nil
	}
	up := append(slices.Clone(m.fleet.newest().Up), Share{backend, b.Weight})
	slices.SortFunc(up, func(a, b Share) int { return strings.Compare(a.ID, b.ID) })
	choice, at := choices(up, m.o.Buckets, &m.places), m.places.of(backend)
	for user, h := range m.holds {
		goes := choice[h.bucket] == at
		if over := m.override(user); over == backend {
			goes = true
		} else if over != "" && m.fleet.newest().up(over) {
			goes = false
		}
		if goes && h.at != at {
			from[m.places.ids[h.at]]++
		}
	}
	return from, nil
}

// Preview returns where this proxy's users at a backend would go if it were drained: backend →
// number of users. "" is for users who would stay, since no other backend is up for them.
func (m *Member) Preview(backend string, now time.Time) (map[string]int, error) {
	m.at(now)
	if err := m.checkDrain(DrainRequest{Backend: backend}); err != nil {
		return nil, err
	}
	to := make(map[string]int)
	up := slices.DeleteFunc(slices.Clone(m.fleet.newest().Up), func(s Share) bool { return s.ID == backend })
	choice := choices(up, m.o.Buckets, &m.places)
	at := m.places.of(backend)
	for user, h := range m.holds {
		if h.at != at {
			continue
		}
		target := m.places.ids[choice[h.bucket]]
		if over := m.override(user); over != "" && slices.ContainsFunc(up, func(s Share) bool { return s.ID == over }) {
			target = over
		}
		to[target]++
	}
	return to, nil
}
