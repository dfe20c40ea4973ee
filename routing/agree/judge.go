package agree

import "imapproxy/routing"

const (
	waits    kind = iota
	goes          // where the function says
	goesBack      // to this proxy's own stay
	follows       // another proxy's stay
)

// judge computes the verdicts of the buckets, once for each change of what they depend on. The cases, for
// each bucket, in order:
//
//	no good reading, or one from before the bucket was let go of            waits
//	its own stay stands, nothing that was sent may have taken it out, and
//	the reading is of the fleet that it goes by and has acked               back there
//	another's stay, in such a reading                                       follows
//	any other stay                                                          waits
//	choice is the same in all fleets that proxies go by, and in its own     goes
//	else                                                                    waits
//
// A reading that was good for an earlier fleet is still good for users that no later fleet moves. So logins
// don't wait for Consul while a switch isn't acked.
func (m *Member) judge() {
	if !m.stale || m.fleet == nil {
		return
	}
	m.stale = false
	m.ownStays()
	m.nameUsers()
	var (
		newest  = m.tables[len(m.tables)-1].choice
		tables  = m.goneBy()
		current = m.current()
		ownSeq  = m.viewSeq()
		others  = m.othersStays()
	)
	m.gone = tables
	for b := range m.verdicts {
		v := verdict{}
		switch other := others[b]; {
		case m.view == nil || ownSeq < m.void[b] && m.has(ruleVoid):
		case m.ownAt[b] != 0 && current:
			v = verdict{kind: goesBack, at: m.ownAt[b]}
		case other.at != 0 && current:
			v = verdict{kind: follows, at: other.at, whom: other.whom}
		case other.at != 0 || m.ownAt[b] != 0:
		case sameIn(tables, b, newest[b]) || !m.has(ruleAll):
			v = verdict{kind: goes, at: newest[b]}
		}
		m.verdicts[b] = v
	}
}

// agreed reports whether all fleets that proxies go by, according to the view, send the user, or the bucket if user is "", where this
// proxy's fleet does. As long as one doesn't, such as that of a proxy that is dead and hasn't been taken for that yet, users who left would be let
// in nowhere: they keep their connections, and are asked in a later round. Their stays aren't let go of either, so that users without
// a connection are let in where they were. judge has to be called before.
func (m *Member) agreed(user string, bucket int) bool {
	if !m.has(ruleTogether) {
		return true
	}
	choice := m.tables[len(m.tables)-1].choice[bucket]
	if user == "" {
		return sameIn(m.gone, bucket, choice)
	}
	steady, same := m.alike(m.gone, user, bucket, "")
	return m.gone != nil && steady && same
}

// ownStays fills ownAt with the stays of buckets that stand, whether the pending record is written or not.
func (m *Member) ownStays() {
	clear(m.ownAt)
	if m.own == nil {
		return
	}
	for backend, buckets := range m.own.Buckets {
		at := m.places.of(backend)
		for b := range buckets.All {
			if b < len(m.ownAt) && (m.pending == nil || m.pending.Buckets[backend].Has(b)) {
				m.ownAt[b] = at
			}
		}
	}
}

// nameUsers fills named.
func (m *Member) nameUsers() {
	clear(m.named)
	for _, t := range m.tables[1:] {
		for _, c := range t.Changes {
			m.named[c.User] = true
		}
	}
	for _, r := range []*Record{m.own, m.pending} {
		if r != nil {
			for user := range r.Users {
				m.named[user] = true
			}
		}
	}
	if m.view != nil {
		for _, p := range m.view.Proxies {
			for user := range p.Users {
				m.named[user] = true
			}
		}
	}
}

// goneBy returns the tables of the fleets that proxies go by, according to the view; nil if not all of them
// are known.
func (m *Member) goneBy() []table {
	if m.view == nil || m.view.Unknown > 0 {
		return nil
	}
	lowest := m.fleet.Epoch
	for _, p := range m.view.Proxies {
		lowest = min(lowest, p.Acked)
	}
	for i, t := range m.tables {
		if t.Epoch == lowest {
			return m.tables[i:]
		}
	}
	return nil
}

func sameIn(tables []table, bucket int, at place) bool {
	for _, t := range tables {
		if t.choice[bucket] != at {
			return false
		}
	}
	return tables != nil
}

// current reports whether the view is of the fleet that this proxy goes by and has acked.
func (m *Member) current() bool {
	return m.view != nil && m.own != nil && m.own.Acked == m.fleet.Epoch && m.view.Unknown == 0 &&
		m.view.Fleet.Epoch == m.fleet.Epoch
}

// viewSeq returns the number of this proxy's own record in the view, which says how new the view is.
func (m *Member) viewSeq() uint64 {
	if m.view != nil {
		if p := m.view.proxy(m.o.ID); p != nil {
			return p.Seq
		}
	}
	return 0
}

// othersStays returns the other proxies' stays of buckets, as verdicts by bucket.
func (m *Member) othersStays() []verdict {
	others := make([]verdict, m.o.Buckets)
	if m.view == nil {
		return others
	}
	for i, p := range m.view.Proxies {
		if p.ID == m.o.ID {
			continue
		}
		for backend, buckets := range p.Buckets {
			at := m.places.of(backend)
			for b := range buckets.All {
				if b < len(others) {
					others[b] = verdict{kind: follows, at: at, whom: i}
				}
			}
		}
	}
	return others
}

// judgeUser returns the verdict for a user who has, or may have, an override or a stay of their own. The
// cases, in order:
//
//	its own stay of the user stands                                       back there
//	no good reading, or one from before the user was let go of            waits
//	another's stay of the user                                            follows, by a current reading
//	some fleets that proxies go by have an override of the user, some not waits
//	none has                                                              what the bucket is told
//	all have: choice is the same in all of them                           goes
//	else                                                                  waits
func (m *Member) judgeUser(user string, bucket int, home string) verdict {
	if at, ok := m.own.Users[user]; ok && m.own.Acked == m.fleet.Epoch && (m.pending == nil || m.pending.Users[user] == at) {
		return verdict{kind: goesBack, at: m.places.of(at)}
	}
	if m.view == nil || m.viewSeq() < m.void[bucket] && m.has(ruleVoid) {
		return verdict{}
	}
	for i, p := range m.view.Proxies {
		at, ok := p.Users[user]
		switch {
		case !ok:
		case p.ID == m.o.ID || !m.current():
			return verdict{}
		default:
			return verdict{kind: follows, at: m.places.of(at), whom: i}
		}
	}
	tables := m.goneBy()
	if tables == nil && m.has(ruleAll) {
		return verdict{}
	}
	over := m.override(user)
	choice := m.userChoice(len(m.tables)-1, user, bucket, home)
	steady, same := m.alike(tables, user, bucket, home)
	switch {
	case !steady && m.has(ruleSteady):
		return verdict{}
	case over == "" && m.o.Storage == routing.Shared:
		return m.verdicts[bucket]
	case same || !m.has(ruleAll):
		return verdict{kind: goes, at: choice}
	}
	return verdict{}
}

// alike reports whether the user has an override in all of the tables, which are the last of m.tables, or in none of them, and whether
// choice is the same in all.
func (m *Member) alike(tables []table, user string, bucket int, home string) (steady, same bool) {
	over := m.override(user)
	choice := m.userChoice(len(m.tables)-1, user, bucket, home)
	steady, same = true, true
	for i := len(m.tables) - len(tables); i < len(m.tables); i++ {
		steady = steady && (overrideIn(m.tables, i, user, over) == "") == (over == "")
		same = same && m.userChoice(i, user, bucket, home) == choice
	}
	return steady, same
}

// userChoice returns choice for a user in the fleet tables[i]: the override, if its backend is up; with
// separate storage the override, else the placement; else choice of the bucket.
func (m *Member) userChoice(i int, user string, bucket int, home string) place {
	t := &m.tables[i]
	over := overrideIn(m.tables, i, user, m.override(user))
	switch {
	case m.o.Storage == routing.Separate && over != "":
		return m.places.of(over)
	case m.o.Storage == routing.Separate:
		return m.places.of(home)
	case over != "" && t.up(over):
		return m.places.of(over)
	}
	return t.choice[bucket]
}
