package agree

import (
	"maps"
	"math"
	"slices"
	"strings"

	"imapproxy/routing"
)

// nextDrains returns the drains of the next fleet: those of prev, with the requests to this proxy applied.
func (m *Member) nextDrains(prev *Fleet) []Drain {
	if len(m.writer.drains) == 0 {
		return prev.Drains
	}
	next := make(map[string]Drain, len(prev.Drains))
	for _, d := range prev.Drains {
		next[d.Backend] = d
	}
	for backend, wish := range m.writer.drains {
		if wish.drain == nil {
			delete(next, backend)
		} else {
			next[backend] = *wish.drain
		}
	}
	return sortedDrains(next)
}

// schedule gives each drain whose backend is no longer up its schedule, once: at the drain's rate, by the
// number of users that this proxy has there. backends are the next fleet's. It returns drains itself if
// nothing changes.
func (m *Member) schedule(drains []Drain, backends []Backend) []Drain {
	f := Fleet{Backends: backends}
	next := drains
	for i := range drains {
		b := f.backend(drains[i].Backend)
		if drains[i].Begin != 0 || b == nil || b.State == routing.Up {
			continue
		}
		if &next[0] == &drains[0] {
			next = slices.Clone(drains)
		}
		d := &next[i]
		rate := d.Rate
		if rate == 0 {
			rate = m.o.Policy.MoveRate
		}
		users := m.usersOn(d.Backend) * len(m.view.Proxies)
		cycle := float64(maxCycle)
		if rate > 0 {
			cycle = math.Min(float64(users)/rate*1000, maxCycle)
		}
		if left := d.Deadline - m.now.UnixMilli(); d.Deadline > 0 && d.Rate == 0 {
			cycle = math.Min(cycle, math.Max(0, float64(left/2)))
		}
		d.Begin, d.Cycle = m.now.UnixMilli(), int64(cycle)
	}
	return next
}

// seeDrains records, at a switch, how many users this proxy has at each drained backend.
func (m *Member) seeDrains() {
	for id := range m.drains {
		if m.fleet.drain(id) == nil {
			delete(m.drains, id)
		}
	}
	for i := range m.fleet.Drains {
		d := &m.fleet.Drains[i]
		if known := m.drains[d.Backend]; known == nil || known.since != d.Since {
			m.drains[d.Backend] = &draining{since: d.Since, from: m.now, users: m.usersOn(d.Backend), ended: make(map[string]bool)}
		}
	}
}

// forgetWishes removes the requests that the fleet has, and those that couldn't be written in time.
func (m *Member) forgetWishes() {
	for backend, wish := range m.writer.drains {
		since, want := m.Drained(backend), int64(0)
		if wish.drain != nil {
			want = wish.drain.Since
		}
		if since == want || wish.done(m) {
			delete(m.writer.drains, backend)
			m.version++
		}
	}
}

// drainAsked reports whether this proxy was asked to drain the backend, and doesn't know yet that the fleet
// has the drain.
func (m *Member) drainAsked(backend string) bool {
	wish := m.writer.drains[backend]
	return wish != nil && wish.drain != nil
}

// usersOn returns how many users this proxy has at a backend.
func (m *Member) usersOn(backend string) int {
	if at := m.places.of(backend); int(at) < len(m.usersAt) {
		return m.usersAt[at]
	}
	return 0
}

func sortedDrains(all map[string]Drain) []Drain {
	return slices.SortedFunc(maps.Values(all), func(a, b Drain) int { return strings.Compare(a.Backend, b.Backend) })
}

// Drained returns Since of the backend's drain in the fleet that this proxy goes by; 0: it has no drain.
func (m *Member) Drained(backend string) int64 {
	if m.fleet == nil {
		return 0
	}
	if d := m.fleet.drain(backend); d != nil {
		return d.Since
	}
	return 0
}
