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

// Discovery is an answer of discovery.
type Discovery struct {
	// Index is discovery's own number of the answer; it grows.
	Index uint64
	// Consistent says that the answer comes from the leader. Only a consistent answer may have a lower index
	// than the fleet's.
	Consistent bool
	Backends   []routing.Backend
}

// writer has the data from which a proxy makes fleets. Any proxy may write the next fleet; the first write
// wins, and the other proxies then find nothing to do.
type writer struct {
	discovery *Discovery
	// seen is since when this proxy has known a backend's present state in the fleet, by its own clock.
	// Durations are counted from it, never from the times in the record.
	seen map[string]sighting
	// reported is since when most proxies can't reach a backend.
	reported map[string]time.Time
	// moves are the overrides that were asked for: user → backend; "" removes the override.
	moves map[string]*request
	// drains are operators' requests, by backend.
	drains map[string]*drainWish
	pauses map[string]*pauseWish
	// room is memory for the backends of the next fleet, which is computed often and rarely written.
	room []Backend
	// made counts the fleets that this proxy has made; it is part of Kept.Made.
	made uint64 // their number
}

type sighting struct {
	since int64 // Backend.Since
	at    time.Time
}

type request struct {
	to string
	asked
}

// asked is what all requests to the writer have in common. Each request is written once: if the answer to
// the write was lost, and another proxy has undone the request meanwhile, it must not be written again.
type asked struct {
	until time.Time
	made  []string // the fleets that were made with it (Kept.Made)
}

// done reports whether a fleet has the request, or it couldn't be written in time.
func (a *asked) done(m *Member) bool {
	return !m.now.Before(a.until) || slices.ContainsFunc(m.view.Fleet.Kept, func(k Kept) bool { return slices.Contains(a.made, k.Made) })
}

const (
	requestFor = time.Minute // a request that couldn't be written by then is given up
	maxChanges = 256         // of overrides, in one fleet
	movePause  = 3           // pause between two rounds of moves, as a multiple of AgreeWithin
	maxCycle   = 24 * 3600 * 1000
)

func newWriter() writer {
	return writer{seen: make(map[string]sighting), reported: make(map[string]time.Time), moves: make(map[string]*request), drains: make(map[string]*drainWish), pauses: make(map[string]*pauseWish)}
}

// Discover takes a new answer of discovery.
func (m *Member) Discover(d Discovery, now time.Time) {
	m.at(now)
	if old := m.writer.discovery; old == nil || d.Index >= old.Index || d.Consistent {
		d.Backends = cleaned(d.Backends)
		m.writer.discovery = &d
	}
	m.pump()
}

// cleaned removes backends that a fleet can't have; routing reports them.
func cleaned(backends []routing.Backend) []routing.Backend {
	good := slices.DeleteFunc(slices.Clone(backends), func(b routing.Backend) bool { return validName(b.ID) != nil || b.Address == "" })
	slices.SortStableFunc(good, func(a, b routing.Backend) int { return strings.Compare(a.ID, b.ID) })
	return slices.CompactFunc(good, func(a, b routing.Backend) bool { return a.ID == b.ID })
}

// Errors of MoveUser.
var (
	ErrTooManyOverrides = errors.New("too many users are moved by overrides")
	ErrUnknownBackend   = errors.New("no such backend")
)

// MoveUser asks for an override or, with "", that it be removed. The request is done when Override returns
// the backend; that takes a minute at most, or the request is given up.
func (m *Member) MoveUser(user, backend string, now time.Time) error {
	m.at(now)
	switch {
	case m.phase != inside || m.isolated:
		return ErrNotInside
	case !goodName(user):
		return errors.New("the user's name can't be routed")
	case backend != "" && m.fleet.backend(backend) == nil:
		return fmt.Errorf("%w: %s", ErrUnknownBackend, backend)
	case m.override(user) == "" && backend != "" && m.countOverrides() >= maxOverrides, len(m.writer.moves) >= maxOverrides:
		return ErrTooManyOverrides
	}
	m.writer.moves[user] = &request{backend, asked{until: m.now.Add(requestFor)}}
	m.pump()
	return nil
}

// Override returns the user's override in the fleet that this proxy goes by; "" if there is none.
func (m *Member) Override(user string) string { return m.override(user) }

func (m *Member) countOverrides() (n int) {
	for _, users := range m.overrides {
		n += len(users)
	}
	return n
}

// wantsOverride reports whether a claim has to wait because the user's placement is first made an override:
// with shared storage, a placement that differs from where all proxies have the user. It asks for that
// override.
func (m *Member) wantsOverride(user, home string, bucket int) bool {
	if home == "" || m.separate() || m.isolated || m.override(user) == home || !m.fleet.newest().up(home) {
		return false
	}
	if m.override(user) == "" && m.tables[len(m.tables)-1].choice[bucket] == m.places.of(home) {
		return false
	}
	if old, ok := m.writer.moves[user]; ok && old.to == home {
		return true
	}
	if err := m.MoveUser(user, home, m.now); err != nil {
		m.troubleOnce(fmt.Errorf("the placement of %q is left out: %w", user, err))
		return false
	}
	return true
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

// shardRoom bounds the keys overrides/NN that one Txn writes, so that it isn't larger than Consul takes.
type shardRoom struct{ keys, bytes int }

func newShardRoom() shardRoom { return shardRoom{62, 128 << 10} }

// take reports whether there is room for a key. There is for one, however large.
func (r *shardRoom) take(users map[string]string) bool {
	size := 0
	for user, backend := range users {
		size += len(user) + len(backend) + len(`"":"",`)
	}
	if r.keys == 0 || r.bytes < size && *r != newShardRoom() {
		return false
	}
	r.keys--
	r.bytes -= size
	return true
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
