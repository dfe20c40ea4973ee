package agree

import (
	"errors"
	"fmt"
	"time"

	"imapproxy/routing"
)

// A pause is an operator's request that nothing be sent to a backend for a short time, since it is being
// restarted. It is part of the fleet, so that it holds for all proxies. It decides nothing about where users
// are: the fleet keeps the backend up while it is paused and PauseSettles longer, whatever discovery and the
// proxies' reports say, and the proxies make no connection to it until the pause ends.

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
