package agree

import (
	"maps"
	"slices"
	"strings"

	"imapproxy/routing"
)

// nextBackends returns the backends of the next fleet. It applies, in order: discovery's answer, unless it
// is older than the fleet's; the reports of backends that proxies can't reach (rule 6); operators' drains,
// which only change backends that are up; flap_damp: a state or weight that changed less than FlapDamp ago
// stays; panic_threshold: an answer that takes away too many backends takes away none. Neither discovery nor
// reports take away a backend that is paused.
func (m *Member) nextBackends(prev *Fleet, drains []Drain, pauses []Pause) ([]Backend, uint64) {
	drained := &Fleet{Drains: drains, Pauses: pauses}
	m.sightings(prev)
	d, catalogue := m.writer.discovery, prev.Catalogue
	var listed []routing.Backend // sorted by id; nil: there is no answer that counts
	if fresh := d != nil && len(d.Backends) > 0 && (d.Index >= prev.Catalogue || d.Consistent); fresh {
		catalogue, listed = d.Index, d.Backends
	}
	unreachable := m.reports(drained)

	next := m.writer.room[:0]
	var losses []int // indexes in next
	base, lately := 0, 0
	take := func(was *Backend, b Backend) {
		if unreachable[b.ID] && b.State != routing.Down {
			b.State, b.Reason = routing.Down, "most proxies can't reach it"
		}
		if b.Drained { // its state without the drain
			b.State, b.Reason, b.Drained = routing.Up, "", false
		}
		if drained.pause(b.ID) != nil && !unreachable[b.ID] {
			keepPaused(was, &b)
		}
		if was != nil && m.has(ruleDamp) && m.now.Sub(m.writer.seen[b.ID].at) < m.o.Policy.FlapDamp {
			if state := was.undrained(); b.State != state || b.Weight != was.Weight {
				b.State, b.Weight, b.Reason = state, was.Weight, was.Reason
			}
		}
		if b.State == routing.Up && drained.drain(b.ID) != nil {
			b.State, b.Reason, b.Drained = routing.Draining, drainedReason, true
		} else if b.State == routing.Up && b.Reason == drainedReason {
			b.Reason = ""
		}
		if was != nil {
			b.Since, b.Lost = was.Since, was.Lost
			if b.State != was.State || b.Weight != was.Weight {
				b.Since, b.Lost = max(m.now.UnixMilli(), was.Since+1), was.State != routing.Down && b.State == routing.Down
			}
		} else {
			b.Since = m.now.UnixMilli()
		}
		usable, lost := b.State != routing.Down, was != nil && was.State != routing.Down && b.State == routing.Down
		recent := was != nil && was.Lost && was.State == routing.Down && m.now.Sub(m.writer.seen[b.ID].at) < m.o.Policy.PanicWindow
		if usable || lost || recent {
			base++
		}
		if recent && !usable {
			lately++
		}
		if lost {
			losses = append(losses, len(next))
		}
		next = append(next, b)
	}
	for i := range prev.Backends {
		was := &prev.Backends[i]
		b, isListed := *was, listed == nil
		b.Kept = false
		if l := listing(listed, was.ID); l != nil {
			if b, isListed = said(l), true; l.Pending {
				b.State, b.Reason, b.Drained = was.State, was.Reason, was.Drained
			}
		}
		if !isListed {
			b.State, b.Reason, b.Drained = routing.Down, "not listed any more", false
			if was.State == routing.Down && m.forgettable(was) {
				continue
			}
		}
		if listed == nil && was.Kept {
			b.Kept = true
		}
		take(was, b)
	}
	for i := range listed {
		if prev.backend(listed[i].ID) == nil {
			take(nil, said(&listed[i]))
		}
	}
	if len(losses) > 0 && float64(len(losses)+lately) > m.o.Policy.PanicThreshold*float64(base)+1e-6 {
		for _, i := range losses {
			was := prev.backend(next[i].ID)
			b := &next[i]
			b.State, b.Weight, b.Since, b.Lost, b.Drained, b.Kept = was.undrained(), was.Weight, was.Since, was.Lost, false, true
			if b.State == routing.Up && drained.drain(b.ID) != nil {
				b.State, b.Drained = routing.Draining, true
			}
			if b.State != was.State {
				b.Since = max(m.now.UnixMilli(), was.Since+1)
			}
			b.Reason = "kept by the panic threshold: " + b.Reason
		}
	}
	slices.SortFunc(next, func(a, b Backend) int { return strings.Compare(a.ID, b.ID) })
	return next, catalogue
}

// undrained returns the backend's state without its drain.
func (b *Backend) undrained() routing.State {
	if b.Drained {
		return routing.Up
	}
	return b.State
}

// reports returns the backends that more than half of the proxies (both of two) can't reach. The value is
// true if that has lasted for FailoverAfter, by this proxy's clock. f has the pauses: while a backend is paused
// no report of it counts.
func (m *Member) reports(f *Fleet) map[string]bool {
	if !slices.ContainsFunc(m.view.Proxies, func(p Proxy) bool { return len(p.Unreachable) > 0 && p.Session != "" }) {
		clear(m.writer.reported)
		return nil
	}
	count, live := make(map[string]int), 0
	for _, p := range m.view.Proxies {
		if p.Session == "" {
			continue
		}
		live++
		for _, id := range p.Unreachable {
			if !f.pause(id).unheard(m.now) {
				count[id]++
			}
		}
	}
	down := make(map[string]bool)
	for id := range m.writer.reported {
		if !most(count[id], live) && m.has(ruleMajority) || count[id] == 0 {
			delete(m.writer.reported, id)
		}
	}
	for id, n := range count {
		if !most(n, live) && m.has(ruleMajority) {
			continue
		}
		since, ok := m.writer.reported[id]
		if !ok {
			since, m.writer.reported[id] = m.now, m.now
		}
		down[id] = m.now.Sub(since) >= m.o.Policy.FailoverAfter
	}
	return down
}

// sightings records since when this proxy has known each backend's state.
func (m *Member) sightings(f *Fleet) {
	for id := range m.writer.seen {
		if f.backend(id) == nil {
			delete(m.writer.seen, id)
		}
	}
	for i := range f.Backends {
		b := &f.Backends[i]
		if s, ok := m.writer.seen[b.ID]; !ok || s.since != b.Since {
			m.writer.seen[b.ID] = sighting{b.Since, m.now}
		}
	}
}

// forgettable reports whether a backend that isn't listed can be removed: it has been down for the panic
// window, and no proxy has a stay there.
func (m *Member) forgettable(b *Backend) bool {
	if m.now.Sub(m.writer.seen[b.ID].at) < m.o.Policy.PanicWindow {
		return false
	}
	for _, p := range m.view.Proxies {
		if len(p.Buckets[b.ID]) > 0 || slices.Contains(slices.Collect(maps.Values(p.Users)), b.ID) {
			return false
		}
	}
	return true
}

// listing returns the backend with the id in an answer of discovery; nil if it has none.
func listing(listed []routing.Backend, id string) *routing.Backend {
	i, ok := slices.BinarySearchFunc(listed, id, func(b routing.Backend, id string) int { return strings.Compare(b.ID, id) })
	if !ok {
		return nil
	}
	return &listed[i]
}

// said returns a backend as discovery describes it.
func said(b *routing.Backend) Backend {
	s := Backend{
		ID: b.ID, Name: b.Name, Service: b.Service, Address: b.Address, Weight: min(max(b.Weight, 0), 65535), State: b.State, Reason: clip(b.Reason),
		TLS: b.TLS, ServerName: b.ServerName, Datacenter: b.Datacenter, Node: b.Node, Tags: b.Tags,
	}
	if b.Pending {
		s.State, s.Reason = routing.Down, "not known yet whether it is up"
	}
	return s
}

// sameBackends reports whether the backends don't differ enough for a new fleet.
func sameBackends(a, b []Backend) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !a[i].same(&b[i]) {
			return false
		}
	}
	return true
}

// same reports whether two backends don't differ enough for a new fleet. A difference of reasons alone isn't
// enough. It is asked often: reflection would take most of the time of a proxy at rest.
func (b *Backend) same(o *Backend) bool {
	return b.ID == o.ID && b.Name == o.Name && b.Service == o.Service && b.Address == o.Address && b.Weight == o.Weight && b.State == o.State &&
		b.TLS == o.TLS && b.ServerName == o.ServerName && b.Datacenter == o.Datacenter && b.Node == o.Node && slices.Equal(b.Tags, o.Tags) &&
		b.Since == o.Since && b.Lost == o.Lost && b.Kept == o.Kept && b.Drained == o.Drained
}

// most reports whether n is more than half of the number of proxies; of two, both are needed.
func most(n, of int) bool { return 2*n > of && (of != 2 || n == 2) }
