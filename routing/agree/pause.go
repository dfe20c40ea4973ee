package agree

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"imapproxy/routing"
)

// A pause is an operator's request that nothing be sent to a backend for a short time, since it is being
// restarted. It is part of the fleet, so that it holds for all proxies. It decides nothing about where users
// are: the fleet keeps the backend up while it is paused and PauseSettles longer, whatever discovery and the
// proxies' reports say, and the proxies make no connection to it until the pause ends.

// Pause is a backend that an operator has paused.
type Pause struct {
	Backend string `json:"backend"`
	Since   int64  `json:"since"` // milliseconds since 1970, by the clock of the proxy that was asked
	// Until is when the pause ends. An operator who ends it earlier sets it to that time.
	Until int64  `json:"until"`
	By    string `json:"by,omitempty"` // the operator, for people to read
}

const maxPauses = 256

// ErrNotPaused is the error of Resume for a backend that isn't paused.
var ErrNotPaused = errors.New("the backend isn't paused")

// ErrTooManyPauses is the error of Pause where too many backends are paused.
var ErrTooManyPauses = errors.New("too many backends are paused")

// PauseRequest is an operator's request for a pause.
type PauseRequest struct {
	Backend string
	By      string
	For     time.Duration // at most routing.MaxPause
}

// pauseWish is a pause that this proxy was asked to begin or to end, and that isn't yet in the fleet.
type pauseWish struct {
	pause Pause
	asked
}

// Pause asks that a backend be paused. It replaces a pause that the backend has already. The request is done
// when Paused returns what Pause has returned; that takes a minute at most, or the request is given up.
func (m *Member) Pause(r PauseRequest, now time.Time) (Pause, error) {
	m.at(now)
	switch {
	case m.phase != inside || m.isolated:
		return Pause{}, ErrNotInside
	case m.fleet.backend(r.Backend) == nil:
		return Pause{}, fmt.Errorf("%w: %s", ErrUnknownBackend, clip(r.Backend))
	case r.For <= 0 || r.For > routing.MaxPause:
		return Pause{}, fmt.Errorf("a backend can't be paused for %v; at most %v", r.For, routing.MaxPause)
	case m.fleet.pause(r.Backend) == nil && len(m.fleet.Pauses) >= maxPauses || len(m.writer.pauses) >= maxPauses:
		return Pause{}, ErrTooManyPauses
	}
	p := Pause{Backend: r.Backend, Since: m.now.UnixMilli(), Until: m.now.Add(r.For).UnixMilli(), By: clean(r.By)}
	if old := m.fleet.pause(r.Backend); old != nil {
		p.Since = max(p.Since, old.Since+1)
	}
	m.wishPause(p)
	return p, nil
}

// Resume asks that a backend's pause end now. The request is done when Paused returns what Resume has
// returned.
func (m *Member) Resume(backend string, now time.Time) (Pause, error) {
	m.at(now)
	if m.phase != inside || m.isolated {
		return Pause{}, ErrNotInside
	}
	p := m.Paused(backend)
	if wish := m.writer.pauses[backend]; wish != nil {
		p = wish.pause
	}
	switch {
	case p.Until <= m.now.UnixMilli() && m.fleet.backend(backend) == nil:
		return Pause{}, fmt.Errorf("%w: %s", ErrUnknownBackend, clip(backend))
	case p.Until <= m.now.UnixMilli():
		return Pause{}, ErrNotPaused
	}
	p.Until = m.now.UnixMilli()
	m.wishPause(p)
	return p, nil
}

func (m *Member) wishPause(p Pause) {
	m.writer.pauses[p.Backend] = &pauseWish{p, asked{until: m.now.Add(requestFor)}}
	m.pump()
}

// Paused returns the backend's pause in the fleet that this proxy goes by; zero: it has none. It may be over.
func (m *Member) Paused(backend string) Pause {
	if m.fleet != nil {
		if p := m.fleet.pause(backend); p != nil {
			return *p
		}
	}
	return Pause{}
}

// pause returns the pause of a backend; nil if it has none.
func (f *Fleet) pause(backend string) *Pause {
	i, ok := slices.BinarySearchFunc(f.Pauses, backend, func(p Pause, id string) int { return strings.Compare(p.Backend, id) })
	if !ok {
		return nil
	}
	return &f.Pauses[i]
}

// nextPauses returns the pauses of the next fleet: those of prev, with the requests to this proxy applied,
// without those that ended PauseSettles ago.
func (m *Member) nextPauses(prev *Fleet) []Pause {
	over := func(p Pause) bool { return m.now.UnixMilli() >= p.Until+routing.PauseSettles.Milliseconds() }
	if len(m.writer.pauses) == 0 && !slices.ContainsFunc(prev.Pauses, over) {
		return prev.Pauses
	}
	next := make(map[string]Pause, len(prev.Pauses))
	for _, p := range prev.Pauses {
		next[p.Backend] = p
	}
	for backend, wish := range m.writer.pauses {
		next[backend] = wish.pause
	}
	maps.DeleteFunc(next, func(_ string, p Pause) bool { return over(p) })
	return slices.SortedFunc(maps.Values(next), func(a, b Pause) int { return strings.Compare(a.Backend, b.Backend) })
}

// forgetPauseWishes removes the requests that the fleet has, and those that couldn't be written in time.
func (m *Member) forgetPauseWishes() {
	for backend, wish := range m.writer.pauses {
		if m.Paused(backend) == wish.pause || wish.done(m) {
			delete(m.writer.pauses, backend)
			m.version++
		}
	}
}

// unheard says whether proxies' reports that they can't reach the backend don't count: it is paused.
func (p *Pause) unheard(now time.Time) bool { return p != nil && now.UnixMilli() < p.Until }

// keepPaused keeps a backend up that was up when it was paused. What discovery says of a backend that is being
// restarted may come late, so it doesn't count until PauseSettles after the pause (nextPauses removes it then).
func keepPaused(was, b *Backend) {
	if was != nil && (was.State == routing.Up || was.Drained) && b.State != routing.Up {
		b.State, b.Reason, b.Weight = routing.Up, routing.PausedReason, was.Weight
	}
}

func (p *Pause) valid() error {
	switch {
	case validName(p.Backend) != nil:
		return validName(p.Backend)
	case p.Since <= 0 || p.Since > 1<<50 || p.Until <= 0 || p.Until > 1<<50 || len(p.By) > maxBy:
		return fmt.Errorf("its pause of %q can't be", clip(p.Backend))
	}
	return nil
}
