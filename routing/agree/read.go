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

// read takes in a reading.
func (m *Member) read(r *Reading) {
	if m.latest != nil && r.Index < m.latest.Index && (!r.Consistent || r.before(m.latestAt)) {
		return
	}
	restored := m.latest != nil && wentBack(m.latest, r)
	m.latest, m.latestAt = r, m.now
	m.tell(r)
	m.watchOrphans(r)
	if restored && m.has(ruleRestored) {
		m.restored = m.now
	}
	if m.phase == outside || m.phase == left {
		return // join makes its own readings
	}
	if m.restored.Equal(m.now) {
		m.lose("Consul's state was restored", true)
		return
	}
	if r.Index < m.ownIndex && (!r.Consistent || r.before(m.wroteAt)) {
		return // from before this proxy's last write
	}
	mine := r.proxy(m.o.ID)
	switch {
	case mine == nil:
		m.lose("its key in Consul is gone", true)
		return
	case m.pending != nil && mine.Seq == m.pending.Seq:
		m.confirm(mine.Index)
	case mine.Seq < m.own.Seq:
		m.restored = m.now
		m.lose("its key in Consul is an older one: Consul's state was restored", true)
		return
	}
	if mine.Session != m.session && !m.relock {
		m.lose("its Consul session has ended", false)
		return
	}
	if mine.Index > m.ownIndex { // changed by other means than this proxy's writes, for example by an operator
		m.ownIndex = mine.Index
		m.relock = m.relock || slices.ContainsFunc(r.Problems, func(p Problem) bool { return p.Key == proxyKey(m.o.ID) })
	}
	if !m.follows(r) {
		return
	}
	if mine.Acked == r.Fleet.Epoch { // a good reading (rule 2)
		m.view = r
		m.changed()
	}
	m.yield(r)
}

// wentBack reports whether something in the reading r is older than in the reading before, or everything is
// gone: Consul's state was restored. Otherwise no index goes back, and a proxy that leaves doesn't remove
// the fleet.
func wentBack(before, r *Reading) bool {
	if r.Index < before.Index || r.FleetIndex != 0 && r.FleetIndex < before.FleetIndex {
		return true
	}
	if r.FleetIndex == 0 && len(r.Proxies) == 0 && (before.FleetIndex != 0 || len(before.Proxies) > 0) {
		return true
	}
	if was := before.Fleet; was != nil && r.Fleet != nil {
		if k := r.Fleet.kept(was.Epoch); r.Fleet.Epoch < was.Epoch || k != nil && k.Made != was.newest().Made {
			return true
		}
	}
	for i := range r.Proxies {
		p := &r.Proxies[i]
		if old := before.proxy(p.ID); old != nil && p.Index < old.Index {
			return true
		}
	}
	return false
}

// follows switches to the reading's fleet if it is newer than this proxy's. False: this proxy can't go by
// the reading's fleet.
func (m *Member) follows(r *Reading) bool {
	err := m.fits(r.Fleet)
	if err != nil {
		if m.outage.IsZero() {
			m.outage = m.now
			m.trouble(fmt.Errorf("%w; the last good fleet stays", err))
		}
		return false
	}
	if !m.outage.IsZero() {
		m.outage = time.Time{}
		delete(m.retry, forFleet) // repair had set it
	}
	k := r.Fleet.kept(m.fleet.Epoch)
	if k == nil || k.Made != m.fleet.newest().Made {
		m.restored = m.now
		m.lose("the fleet in Consul doesn't come from the one that this proxy goes by: Consul's state was restored", true)
		return false
	}
	if r.Fleet.Epoch > m.fleet.Epoch {
		m.switchTo(r)
	}
	return true
}

// fits returns why this proxy can't go by a fleet; nil if it can.
func (m *Member) fits(f *Fleet) error {
	switch {
	case f == nil:
		return errors.New("there is no fleet in Consul, or none that can be read")
	case f.Users != m.o.Users:
		return fmt.Errorf("the other proxies normalise users as %q, this one as %q", f.Users, m.o.Users)
	case f.Storage != m.o.Storage.String():
		return fmt.Errorf("the other proxies have storage %q, this one %q", f.Storage, m.o.Storage)
	case f.Buckets != m.o.Buckets:
		return fmt.Errorf("the other proxies have %d buckets, this one %d", f.Buckets, m.o.Buckets)
	}
	return nil
}

// switchTo is rule 1: from now on this proxy's claims go by the reading's fleet. The stays of users who are
// elsewhere are published with the ack (switchRecord).
func (m *Member) switchTo(r *Reading) {
	m.fleet, m.switched = r.Fleet, m.now
	m.tables = tablesOf(r.Fleet, m.tables, &m.places)
	for i := range r.Overrides {
		m.overrides[i] = r.Overrides[i].Users
	}
	for _, b := range r.Fleet.Backends {
		if since, ok := m.down[b.ID]; b.State != routing.Down {
			delete(m.down, b.ID)
		} else if !ok || since.IsZero() {
			m.down[b.ID] = m.now
		}
	}
	clear(m.asked)
	clear(m.askedOf)
	m.seeDrains()
	m.effect(Effect{Kind: Switched, Text: fmt.Sprintf("epoch %d", r.Fleet.Epoch)})
	m.changed()
}

// yield lets go of users that another proxy has elsewhere. If all rules are kept, only a proxy that was
// isolated (Serve) while the others moved users has such users.
func (m *Member) yield(r *Reading) {
	if !m.has(ruleYield) || len(m.holds) == 0 {
		return
	}
	for _, p := range r.Proxies {
		if p.ID == m.o.ID {
			continue
		}
		for user, at := range p.Users {
			if h := m.holds[user]; h != nil {
				m.yieldTo(h, at, p.Record)
			}
		}
		for at, buckets := range p.Buckets {
			for b := range buckets.All {
				if b >= len(m.heads) {
					continue
				}
				for h := m.heads[b]; h != nil; h = h.next {
					if !m.special(h.user) {
						m.yieldTo(h, at, p.Record)
					}
				}
			}
		}
	}
}

// yieldTo lets go of a user that another proxy has at another backend. If both proxies have published a
// stay, the proxy with the lower id keeps the user.
func (m *Member) yieldTo(h *hold, at string, other *Record) {
	if m.places.ids[h.at] == at {
		return
	}
	_, said := m.own.Users[h.user]
	if (said || m.own.stay(int(h.bucket)) == m.places.ids[h.at]) && m.o.ID < other.ID {
		return
	}
	m.evict(h, "another proxy has the user elsewhere")
}

// evict asks for the end of all connections of a user, once a second until they have ended.
func (m *Member) evict(h *hold, why string) {
	if last, ok := m.yielding[h.user]; ok && m.now.Sub(last) < time.Second {
		return
	}
	m.yielding[h.user] = m.now
	m.effect(Effect{Kind: LetGo, User: h.user, Backend: m.places.ids[h.at], Abort: true, Text: why})
}

// tell reports each value that was left out, once.
func (m *Member) tell(r *Reading) {
	for key := range maps.Keys(m.told) {
		if !slices.ContainsFunc(r.Problems, func(p Problem) bool { return p.Key == key }) {
			delete(m.told, key)
		}
	}
	for _, p := range r.Problems {
		if index, ok := m.told[p.Key]; !ok || index != p.ModifyIndex {
			m.told[p.Key] = p.ModifyIndex
			m.trouble(p)
		}
	}
}

// watchOrphans records since when this proxy has seen each key that no session holds.
func (m *Member) watchOrphans(r *Reading) {
	for id := range m.orphans {
		if p := r.proxy(id); p == nil || p.Session != "" {
			delete(m.orphans, id)
		}
	}
	for _, p := range r.Proxies {
		if p.Session != "" || p.ID == m.o.ID {
			continue
		}
		if o, ok := m.orphans[p.ID]; !ok || o.index != p.Index {
			m.orphans[p.ID] = orphan{p.Index, m.now}
		}
	}
}

func sortedCopy(names []string) []string {
	return slices.Compact(slices.SortedFunc(slices.Values(names), strings.Compare))
}
