package agree

import (
	"errors"
	"fmt"
	"time"
)

// join is called with each consistent reading while this proxy is outside. The cases, in order:
//
//	Consul's state was restored less than a TTL ago      waits: some proxies may not have noticed
//	there is no fleet                                    makes the first one, or waits (found)
//	the fleet has other settings                         an error for the operator; it waits
//	its own key stands, as it was written last           goes on with it under the new session: the others still count it
//	it holds users that others may have moved            first lets go of them
//	else                                                 joins with the newest epoch; the Txn checks that it still is
func (m *Member) join(r *Reading) {
	if m.busy[forJoin] || m.session == "" {
		return
	}
	if !m.restored.IsZero() && m.now.Sub(m.restored) < m.o.TTL {
		return // until each other proxy has noticed, or no longer trusts itself
	}
	if r.Fleet == nil {
		m.found(r)
		return
	}
	if err := m.fits(r.Fleet); err != nil {
		if m.outage.IsZero() {
			m.outage = m.now
			m.trouble(fmt.Errorf("%w: this proxy doesn't join", err))
		}
		return
	}
	m.outage = time.Time{}
	mine := r.proxy(m.o.ID)
	if mine != nil && m.fleet != nil && m.own != nil && mine.Seq >= m.own.Seq {
		if k := r.Fleet.kept(m.fleet.Epoch); k != nil && k.Made == m.fleet.newest().Made {
			m.resume(r, mine)
			return
		}
	}
	if m.fleet != nil {
		m.removed = true
		m.changed()
		if m.evictMoved(r) > 0 {
			return // join is called again with a later reading
		}
	}
	m.joinWith(r, mine, r.Fleet, TxnOp{Verb: CheckIndex, Key: fleetKey, Index: r.FleetIndex})
}

// resume makes this proxy go on with its key, which the other proxies have counted all along.
func (m *Member) resume(r *Reading, mine *Proxy) {
	m.phase, m.relock = inside, true
	m.own, m.ownIndex, m.wroteAt, m.seq = mine.Record, mine.Index, m.now, max(m.seq, mine.Seq)
	if r.Fleet.Epoch > m.fleet.Epoch {
		m.switchTo(r)
	}
	m.changed()
}

// evictMoved is a part of rule 5: a proxy that was taken for dead lets go of the users that the others may
// have moved, before it counts again. It keeps a user that it could claim where it has them: no other proxy
// has a stay of the user elsewhere, and all fleets that proxies go by send the user there. It returns how
// many users it has to let go of.
func (m *Member) evictMoved(r *Reading) (held int) {
	if !m.has(ruleYield) || len(m.holds) == 0 {
		return 0
	}
	lowest := r.Fleet.Epoch
	for _, p := range r.Proxies {
		lowest = min(lowest, p.Acked)
	}
	tables := tablesOf(r.Fleet, nil, &m.places)
	for len(tables) > 1 && tables[0].Epoch < lowest {
		tables = tables[1:]
	}
	changed := make(map[string]bool)
	for _, t := range tables[1:] {
		for _, c := range t.Changes {
			changed[c.User] = true
		}
	}
	for user, h := range m.holds {
		if changed[user] || r.Unknown > 0 || m.elsewhere(r, tables, h) {
			m.evict(h, "the other proxies may have moved the user while this one was cut off")
			held++
		}
	}
	return held
}

// elsewhere reports whether, by the reading, a user isn't where this proxy has them. The user's override is
// the same in all tables.
func (m *Member) elsewhere(r *Reading, tables []table, h *hold) bool {
	id, over := m.places.ids[h.at], r.Overrides[shardOf(h.user)].Users[h.user]
	for _, p := range r.Proxies {
		stay, ok := p.Users[h.user]
		if !ok && over == "" {
			stay = p.stay(int(h.bucket))
		}
		if p.ID != m.o.ID && stay != "" && stay != id {
			return true
		}
	}
	if m.separate() {
		return over != "" && over != id
	}
	for i := range tables {
		at := tables[i].choice[h.bucket]
		if over != "" && tables[i].up(over) {
			at = m.places.of(over)
		}
		if at != h.at {
			return true
		}
	}
	return false
}

// joinWith writes this proxy's key, with the fleet acked. first is the first operation of the Txn.
func (m *Member) joinWith(r *Reading, mine *Proxy, f *Fleet, first TxnOp) {
	m.seq++
	rec := &Record{
		Format: Format, ID: m.o.ID, Seq: m.seq, Acked: f.Epoch, Made: f.newest().Made, TTL: m.o.TTL.Milliseconds(),
		Unreachable: m.unreachable, About: m.o.About,
	}
	rec.About.Clock = m.now.UnixMilli()
	value, err := Encode(rec)
	if err != nil {
		m.trouble(err)
		return
	}
	key := proxyKey(m.o.ID)
	own := TxnOp{Verb: CheckNotExists, Key: key}
	if mine != nil {
		own = TxnOp{Verb: CheckIndex, Key: key, Index: mine.Index}
	} else if index := r.problem(key); index != 0 { // the value isn't one that this proxy wrote, and no other proxy can read it
		own = TxnOp{Verb: CheckIndex, Key: key, Index: index}
	}
	if !m.has(ruleJoin) && first.Verb == CheckIndex {
		first = own
	}
	txn := []TxnOp{first, own, {Verb: Lock, Key: key, Value: value, Session: m.session}}
	if m.send(forJoin, Op{Kind: Write, Txn: txn}) {
		by := *r
		by.Fleet = f
		m.joining = &joining{rec, &by}
	}
}

// joined handles the answer to a join. If the answer is unknown or the join was refused, the next reading
// says what happened: a join that was made shows as this proxy's own key.
func (m *Member) joined(r Result) {
	j := m.joining
	m.joining = nil
	if m.retry[forReading] = m.now; r.Refused {
		m.later(forReading, again)
	}
	if m.phase == outside && m.session != "" && r.Err == nil && !r.Refused {
		m.enter(j.rec, r.Index, j.by)
	}
}

func (m *Member) enter(rec *Record, index uint64, by *Reading) {
	m.phase, m.removed, m.relock = inside, false, false
	m.own, m.ownIndex, m.wroteAt, m.view = rec, index, m.now, nil
	m.switchTo(by)
	m.effect(Effect{Kind: Joined, Text: fmt.Sprintf("epoch %d", by.Fleet.Epoch)})
	m.back()
}

// found makes a fleet if there is none, and no other proxy has a key. A proxy that had a fleet makes the
// last good one again, after a whole TTL, in which all proxies have noticed that their keys are gone; a
// proxy that had none makes the first one, from discovery's answer. Keys that no session has held for a TTL
// are removed: the proxies whose keys they were can't make the fleet again.
func (m *Member) found(r *Reading) {
	switch {
	case r.FleetIndex != 0 || r.Unknown > 0:
		m.troubleOnce(errors.New("the fleet in Consul can't be read: this proxy doesn't join"))
		return
	case len(r.Proxies) > 0 && (m.fleet == nil || r.proxy(m.o.ID) == nil || len(r.Proxies) > 1):
		m.troubleOnce(errors.New("proxies are there, and no fleet: this proxy waits for them to make it again"))
		m.bury(r) // those that are dead, or outside as this one is, will never make it
		return
	}
	if m.fleet != nil {
		m.troubleOnce(errors.New("the fleet and this proxy's key in Consul are gone"))
		if m.now.Sub(m.outage) < m.o.TTL || m.evictChanged(r) > 0 {
			return
		}
	}
	f := m.first(r)
	if f == nil {
		return
	}
	value, err := Encode(f)
	if err != nil {
		m.trouble(err)
		return
	}
	m.joinWith(r, r.proxy(m.o.ID), f, TxnOp{Verb: CAS, Key: fleetKey, Value: value})
}

// evictChanged lets go of the users whose overrides aren't in the reading as this proxy knew them: the fleet
// that it is about to make sends them elsewhere. It returns how many users it has to let go of.
func (m *Member) evictChanged(r *Reading) (held int) {
	for user, h := range m.holds {
		if m.override(user) != r.Overrides[shardOf(user)].Users[user] {
			m.evict(h, "the user's override was removed from Consul")
			held++
		}
	}
	return held
}

func (m *Member) troubleOnce(err error) {
	if m.outage.IsZero() {
		m.outage = m.now
		m.trouble(err)
	}
}
