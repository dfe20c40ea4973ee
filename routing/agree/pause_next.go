package agree

import (
	"maps"
	"slices"
	"strings"

	"imapproxy/routing"
)

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

// keepPaused keeps a backend up that was up when it was paused. What discovery says of a backend that is being
// restarted may come late, so it doesn't count until PauseSettles after the pause (nextPauses removes it then).
func keepPaused(was, b *Backend) {
	if was != nil && (was.State == routing.Up || was.Drained) && b.State != routing.Up {
		b.State, b.Reason, b.Weight = routing.Up, routing.PausedReason, was.Weight
	}
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

// Paused returns the backend's pause in the fleet that this proxy goes by; zero: it has none. It may be over.
func (m *Member) Paused(backend string) Pause {
	if m.fleet != nil {
		if p := m.fleet.pause(backend); p != nil {
			return *p
		}
	}
	return Pause{}
}
