package agree

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"imapproxy/routing"
)

// cleaned removes backends that a fleet can't have; routing reports them.
func cleaned(backends []routing.Backend) []routing.Backend {
	good := slices.DeleteFunc(slices.Clone(backends), func(b routing.Backend) bool { return validName(b.ID) != nil || b.Address == "" })
	slices.SortStableFunc(good, func(a, b routing.Backend) int { return strings.Compare(a.ID, b.ID) })
	return slices.CompactFunc(good, func(a, b routing.Backend) bool { return a.ID == b.ID })
}

func (m *Member) countOverrides() (n int) {
	for _, users := range m.overrides {
		n += len(users)
	}
	return n
}

// writeFleet writes the next fleet, if there is one. Its Txn checks that `fleet` is still the one from which
// it was made, and that this proxy's session lives.
func (m *Member) writeFleet() {
	if m.phase != inside || m.isolated || m.busy[forFleet] || !m.may(forFleet) || m.view == nil || m.latest != m.view || !m.outage.IsZero() {
		m.repair()
		return
	}
	if !m.current() || m.pending != nil {
		return
	}
	for user, r := range m.writer.moves {
		if m.override(user) == r.to || r.done(m) {
			delete(m.writer.moves, user)
			m.version++
		}
	}
	m.forgetWishes()
	m.forgetPauseWishes()
	next, shards := m.next()
	if next == nil {
		return
	}
	m.writeTxn(m.view, next, shards)
}

// writeTxn writes a fleet, and keys of overrides, in place of those of a reading. nil: the fleet stays as it
// is in the reading.
func (m *Member) writeTxn(over *Reading, f *Fleet, shards map[int]map[string]string) {
	fleet := TxnOp{Verb: CheckIndex, Key: fleetKey, Index: over.FleetIndex}
	if f != nil {
		value, err := Encode(f)
		if err != nil {
			m.later(forFleet, m.o.AgreeWithin)
			m.trouble(fmt.Errorf("the next fleet can't be written: %w", err))
			return
		}
		fleet.Verb, fleet.Value = CAS, value
	}
	txn := []TxnOp{{Verb: CheckSession, Key: proxyKey(m.o.ID), Session: m.session}, fleet}
	for _, shard := range slices.Sorted(maps.Keys(shards)) {
		value, err := Encode(&Overrides{Format: Format, Users: shards[shard]})
		if err != nil {
			m.trouble(err)
			return
		}
		txn = append(txn, TxnOp{Verb: CAS, Key: shardKey(shard), Value: value, Index: over.Overrides[shard].Index})
	}
	m.send(forFleet, Op{Kind: Write, Txn: txn})
}

// written takes the result of a write. In any case the watch delivers the present fleet; until then there is
// nothing to write.
func (w *writer) written(m *Member, r Result) {
	if r.Err != nil || r.Refused {
		m.later(forFleet, again)
	}
}

// repair writes again what was deleted or overwritten: the last good fleet if the key `fleet` is gone, or no
// proxy wrote its value, and no proxy has acked a later fleet; and the keys overrides/NN that aren't what the
// fleet was written with. It waits for a whole TTL first, so that all proxies have noticed and an operator who
// is correcting the values isn't disturbed; and it writes once in a TTL, unless there is more than one Txn can
// have.
func (m *Member) repair() {
	if m.phase != inside || m.isolated || !m.may(forFleet) || m.outage.IsZero() || m.now.Sub(m.outage) < m.o.TTL || m.latest == nil || m.latest.Fleet != nil {
		return
	}
	for _, p := range m.latest.Problems {
		if !strings.HasPrefix(p.Key, proxiesPrefix) && errors.Is(p.Err, ErrNewer) {
			return
		}
	}
	f, overrides := m.fleet, m.overrides
	if later, ok := m.overridesOf(m.latest.unfit); ok {
		f, overrides = nil, later
	}
	for _, p := range m.latest.Proxies {
		if f != nil && p.Acked > f.Epoch {
			return
		}
	}
	shards, room, pause := make(map[int]map[string]string), newShardRoom(), m.o.TTL // if it doesn't help, don't repeat it at once
	for shard, users := range overrides {
		s := &m.latest.Overrides[shard]
		if maps.Equal(s.Users, users) && (s.Index == 0) == (s.Users == nil) {
			continue
		}
		if !room.take(users) {
			pause = gather
			break
		}
		if shards[shard] = users; users == nil {
			shards[shard] = make(map[string]string)
		}
	}
	m.writeTxn(m.latest, f, shards)
	m.later(forFleet, pause)
}

// overridesOf returns all overrides of a fleet whose keys overrides/NN aren't what it was written with. That
// can be said of the fleet that this proxy goes by, and of one that was made from it.
func (m *Member) overridesOf(f *Fleet) (all [maxShards]map[string]string, ok bool) {
	if f == nil {
		return all, false
	}
	from := f.kept(m.fleet.Epoch)
	if from == nil || from.Made != m.fleet.newest().Made {
		return all, false
	}
	all = m.overrides
	for i := range f.Kept {
		if f.Kept[i].Epoch <= m.fleet.Epoch {
			continue
		}
		for _, c := range f.Kept[i].Changes {
			shard := shardOf(c.User)
			users := maps.Clone(all[shard])
			if users == nil {
				users = make(map[string]string)
			}
			if users[c.User] = c.To; c.To == "" {
				delete(users, c.User)
			}
			all[shard] = users
		}
	}
	total := uint64(0)
	for _, users := range all {
		total += sum(users)
	}
	return all, f.Summed != f.Epoch || f.Sum == total&sumBits
}
