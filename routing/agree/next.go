package agree

import (
	"fmt"
	"maps"
	"slices"

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
// Operators' drains have their own schedules. The number of users is estimated from this proxy's
// users.
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
