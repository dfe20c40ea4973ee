package agree

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"imapproxy/routing"
)

// next returns the fleet after the one that all proxies see now. It depends on that fleet, discovery's
// answer, the proxies' reports and what operators have asked for. It is nil if nothing changes, or if 16
// fleets are kept and some proxy still goes by the oldest. shards are the keys overrides/NN that change with
// it.
func (m *Member) next() (f *Fleet, shards map[int]map[string]string) {
	prev := m.view.Fleet
	lowest := prev.Epoch
	for _, p := range m.view.Proxies {
		lowest = min(lowest, p.Acked)
	}
	kept := prev.Kept
	for len(kept) > 1 && kept[0].Epoch < lowest {
		kept = kept[1:]
	}
	drains, pauses := m.nextDrains(prev), m.nextPauses(prev)
	backends, catalogue := m.nextBackends(prev, drains, pauses)
	drains = m.schedule(drains, backends)
	changes, shards := m.nextOverrides()
	if m.writer.room = nil; len(kept) >= maxKept || len(changes) == 0 && sameBackends(backends, prev.Backends) && slices.Equal(drains, prev.Drains) && slices.Equal(pauses, prev.Pauses) {
		m.writer.room = backends // no fleet has them
		return nil, nil
	}
	next := *prev
	next.Drains, next.Pauses = drains, pauses
	next.Format, next.Epoch, next.Catalogue, next.Backends = Format, prev.Epoch+1, catalogue, backends
	made := m.makeName()
	for _, c := range changes {
		r := m.writer.moves[c.User]
		r.made = append(r.made, made)
	}
	for _, wish := range m.writer.drains {
		wish.made = append(wish.made, made)
	}
	for _, wish := range m.writer.pauses {
		wish.made = append(wish.made, made)
	}
	next.Summed, next.Sum = next.Epoch, changedSum(m.view.sum, changes)
	next.Kept = append(slices.Clone(kept), Kept{Epoch: next.Epoch, Made: made, Up: upOf(backends), Changes: changes})
	next.Move = m.nextMove(prev, &next)
	return &next, shards
}

// makeName returns a name that no other fleet has had.
func (m *Member) makeName() string {
	m.writer.made++
	return fmt.Sprintf("%s/%d", m.o.ID, m.writer.made)
}

// first returns a fleet for a service that has none: from discovery's answer, or the last good one with the
// next epoch. The overrides are those that the reading has.
func (m *Member) first(r *Reading) *Fleet {
	f := &Fleet{Format: Format, Epoch: 1, Users: m.o.Users, Storage: m.o.Storage.String(), Buckets: m.o.Buckets}
	switch d := m.writer.discovery; {
	case m.fleet != nil:
		f.Epoch, f.Catalogue, f.Backends = m.fleet.Epoch+1, m.fleet.Catalogue, m.fleet.Backends
		f.Drains, f.Pauses, f.unknown = m.fleet.Drains, m.fleet.Pauses, m.fleet.unknown
	case d == nil || len(d.Backends) == 0:
		return nil
	default:
		f.Catalogue = d.Index
		for i := range d.Backends {
			b := said(&d.Backends[i])
			b.Since = m.now.UnixMilli()
			f.Backends = append(f.Backends, b)
		}
	}
	f.Summed, f.Sum = f.Epoch, r.sum
	f.Kept = []Kept{{Epoch: f.Epoch, Made: m.makeName(), Up: upOf(f.Backends)}}
	return f
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
		if b.State == routing.Up && drained.drain(b.ID) != nil {
			b.State, b.Reason, b.Drained = routing.Draining, drainedReason, true
		}
		if was != nil {
			differs := b.State != was.State || b.Weight != was.Weight
			if differs && m.has(ruleDamp) && m.now.Sub(m.writer.seen[b.ID].at) < m.o.Policy.FlapDamp {
				b.State, b.Weight, b.Reason, b.Drained, differs = was.State, was.Weight, was.Reason, was.Drained, false
			}
			b.Since, b.Lost = was.Since, was.Lost
			if differs {
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
			b.State, b.Weight, b.Since, b.Lost, b.Drained, b.Kept = was.State, was.Weight, was.Since, was.Lost, was.Drained, true
			b.Reason = "kept by the panic threshold: " + b.Reason
		}
	}
	slices.SortFunc(next, func(a, b Backend) int { return strings.Compare(a.ID, b.ID) })
	return next, catalogue
}

// listing returns the backend with the id in an answer of discovery; nil if it has none.
func listing(listed []routing.Backend, id string) *routing.Backend {
	i, ok := slices.BinarySearchFunc(listed, id, func(b routing.Backend, id string) int { return strings.Compare(b.ID, id) })
	if !ok {
		return nil
	}
	return &listed[i]
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

// most reports whether n is more than half of the number of proxies; of two, both are needed.
func most(n, of int) bool { return 2*n > of && (of != 2 || n == 2) }

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

// nextOverrides returns the overrides that were asked for and that the fleet doesn't have, and the keys that
// change with them.
func (m *Member) nextOverrides() (changes []Change, shards map[int]map[string]string) {
	if len(m.writer.moves) == 0 {
		return nil, nil
	}
	for _, p := range m.view.Proxies {
		if len(p.Users) > fullNames {
			return nil, nil // wait until fewer users are being moved
		}
	}
	shards = make(map[int]map[string]string)
	room := newShardRoom()
	for _, user := range slices.Sorted(maps.Keys(m.writer.moves)) {
		from, to := m.override(user), m.writer.moves[user].to
		if from == to {
			continue
		}
		if len(changes) == maxChanges {
			break
		}
		shard := shardOf(user)
		users := shards[shard]
		if users == nil {
			if !room.take(m.overrides[shard]) {
				break
			}
			if users = maps.Clone(m.overrides[shard]); users == nil {
				users = make(map[string]string)
			}
			shards[shard] = users
		}
		if users[user] = to; to == "" {
			delete(users, user)
		}
		changes = append(changes, Change{User: user, From: from, To: to})
	}
	return changes, shards
}

// nextMove returns the schedule: by move_rate for users at backends that aren't up, by rebalance_rate for
// those at backends that are up, including those who are still to be moved since an earlier fleet.
// Operators' drains have their own schedules. The number of users is estimated from those whom this proxy
// has.
func (m *Member) nextMove(prev, next *Fleet) Move {
	move := prev.Move
	move.Pause = movePause * m.o.AgreeWithin.Milliseconds()
	if len(next.newest().Changes) > 0 {
		move.Users = m.now.UnixMilli()
	}
	if next.newest().sameChoice(prev.newest()) {
		return move
	}
	away, slow := 0, 0
	at := m.whereabouts()
	for b, to := range choices(next.newest().Up, next.Buckets, &m.places) {
		id := m.places.ids[at[b]]
		switch n := next.backend(id); {
		case at[b] == to || id == "" || next.drain(id) != nil:
		case n != nil && n.State == routing.Up:
			slow++
		default:
			away++
		}
	}
	each := float64(len(m.holds)) * float64(len(m.view.Proxies)) / float64(next.Buckets) // users of a bucket
	cycle := func(buckets int, rate float64) int64 {
		if rate <= 0 {
			return 0
		}
		return int64(min(each*float64(buckets)/rate*1000, maxCycle))
	}
	p := m.o.Policy
	move.Begin, move.Settle = m.now.UnixMilli(), p.RebalanceRate < 0
	move.Cycle, move.Slow = cycle(away, p.MoveRate), cycle(slow, p.RebalanceRate)
	return move
}

// whereabouts returns where each bucket's users are: at the stay that a proxy has published, else where this
// proxy's fleet sends them.
func (m *Member) whereabouts() []place {
	at := slices.Clone(m.tables[len(m.tables)-1].choice)
	for _, p := range m.view.Proxies {
		for id, buckets := range p.Buckets {
			stay := m.places.of(id)
			for b := range buckets.All {
				if b < len(at) {
					at[b] = stay
				}
			}
		}
	}
	return at
}
