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

// Discovery is an answer of the source of backends.
type Discovery struct {
	// Index is the source's own number of the answer; it grows.
	Index uint64
	// Consistent: the answer comes from the leader. Only such a one may have a lower index than the fleet's.
	Consistent bool
	Backends   []routing.Backend
}

// writer is what a proxy keeps in order to write fleets. Any proxy may; whoever is first wins, and the others find nothing to do.
type writer struct {
	discovery *Discovery
	// seen is since when this proxy knows a backend's present state in the fleet, by its own clock: only such differences
	// count, never the times in the record.
	seen map[string]sighting
	// reported is since when most proxies can't reach a backend.
	reported map[string]time.Time
	// moves are the overrides that were asked for: user → backend, "" takes it away.
	moves map[string]*request
	// drains are what operators have asked for, by backend.
	drains map[string]*drainWish
	// refused: the last write was; another proxy was first, or a reading is missing.
	made uint64 // fleets made, for Kept.Made
}

type sighting struct {
	since int64 // Backend.Since
	at    time.Time
}

type request struct {
	to string
	asked
}

// asked is what requests to the writer have in common. Each is written once: where the answer was lost, and others have taken back
// meanwhile what it had asked for, it isn't to come again.
type asked struct {
	until time.Time
	made  []string // the fleets that were made with it (Kept.Made)
}

// done: a fleet has it, or it couldn't be written in time.
func (a *asked) done(m *Member) bool {
	return !m.now.Before(a.until) || slices.ContainsFunc(m.view.Fleet.Kept, func(k Kept) bool { return slices.Contains(a.made, k.Made) })
}

const (
	requestFor = time.Minute // an override that couldn't be written by then is given up
	maxChanges = 256         // of overrides, in one fleet
	movePause  = 3           // between two rounds of moves, in AgreeWithin
	maxCycle   = 24 * 3600 * 1000
)

func newWriter() writer {
	return writer{seen: make(map[string]sighting), reported: make(map[string]time.Time), moves: make(map[string]*request), drains: make(map[string]*drainWish)}
}

// Discover is a new answer of discovery.
func (m *Member) Discover(d Discovery, now time.Time) {
	m.at(now)
	if old := m.writer.discovery; old == nil || d.Index >= old.Index || d.Consistent {
		d.Backends = cleaned(d.Backends)
		m.writer.discovery = &d
	}
	m.pump()
}

// cleaned leaves out what a fleet can't have; routing reports such backends.
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

// MoveUser asks for an override, or with "" that it be taken away. It is done when Override says so; within a minute, or not at all.
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

// Override is the user's in the fleet that this proxy goes by; "" where there is none.
func (m *Member) Override(user string) string { return m.override(user) }

func (m *Member) countOverrides() (n int) {
	for _, users := range m.overrides {
		n += len(users)
	}
	return n
}

// wantsOverride is correction D: with shared storage, a placement that differs from what all proxies go by is first made an override. It
// asks for that, and reports that the claim has to wait for it.
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

// writeFleet makes the next fleet, where there is one to make. Its Txn checks that the fleet is the one that it was made from, and that this
// proxy is alive.
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
	next, shards := m.next()
	if next == nil {
		return
	}
	m.writeTxn(m.view, next, shards)
}

// writeTxn writes a fleet, and keys of overrides, over those of a reading.
func (m *Member) writeTxn(over *Reading, f *Fleet, shards map[int]map[string]string) {
	value, err := Encode(f)
	if err != nil {
		m.later(forFleet, m.o.AgreeWithin)
		m.trouble(fmt.Errorf("the next fleet can't be written: %w", err))
		return
	}
	txn := []TxnOp{
		{Verb: CheckSession, Key: proxyKey(m.o.ID), Session: m.session},
		{Verb: CAS, Key: fleetKey, Value: value, Index: over.FleetIndex},
	}
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

// written is the answer. Whatever it was, the watch brings the fleet that there is; until then there is nothing to write.
func (w *writer) written(m *Member, r Result) {
	if r.Err != nil || r.Refused {
		m.later(forFleet, again)
	}
}

// repair writes the last good fleet again where the key is gone, or holds what isn't ours, and no proxy has acked a
// later one; with it keys of overrides that hold what isn't ours. Once in a TTL, after a whole TTL, so that an operator who is at it isn't disturbed and all proxies have noticed.
func (m *Member) repair() {
	if m.phase != inside || m.isolated || !m.may(forFleet) || m.outage.IsZero() || m.now.Sub(m.outage) < m.o.TTL || m.latest == nil || m.latest.Fleet != nil {
		return
	}
	for _, p := range m.latest.Problems {
		if !strings.HasPrefix(p.Key, proxiesPrefix) && errors.Is(p.Err, ErrNewer) {
			return
		}
	}
	for _, p := range m.latest.Proxies {
		if p.Acked > m.fleet.Epoch {
			return
		}
	}
	shards := make(map[int]map[string]string)
	for shard := range m.latest.Overrides {
		if s := &m.latest.Overrides[shard]; s.Index != 0 && s.Users == nil {
			if shards[shard] = maps.Clone(m.overrides[shard]); shards[shard] == nil {
				shards[shard] = make(map[string]string)
			}
		}
	}
	m.writeTxn(m.latest, m.fleet, shards)
	m.later(forFleet, m.o.TTL) // what doesn't help isn't done all the time
}
