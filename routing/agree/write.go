package agree

import (
	"maps"
	"slices"
	"time"
)

// publish keeps this proxy's record in Consul up to date; at most one write is in progress. Written at once:
// the ack and the stays of a switch, the lock by a new session, stays that are followed. Written once a
// second at most: stays that are let go of, backends that can't be reached.
func (m *Member) publish() {
	if m.own == nil || m.session == "" || m.busy[forRecord] {
		return
	}
	switch m.fate {
	case unknown:
		if m.send(forRecord, Op{Kind: Write, Txn: m.pendingTxn}) {
			m.fate = sent
		}
		return
	case refused: // a reading shows what became of it
		m.send(forReading, Op{Kind: Read})
		return
	}
	if !m.may(forRecord) {
		return
	}
	rec, checks := m.record()
	if rec == nil {
		return
	}
	value, err := Encode(rec)
	if err != nil {
		m.later(forRecord, m.o.AgreeWithin)
		m.trouble(err)
		return
	}
	m.pending, m.fate = rec, sent
	m.pendingTxn = append(checks,
		TxnOp{Verb: CheckIndex, Key: proxyKey(m.o.ID), Index: m.ownIndex},
		TxnOp{Verb: Lock, Key: proxyKey(m.o.ID), Value: value, Session: m.session})
	m.stale = true
	m.send(forRecord, Op{Kind: Write, Txn: m.pendingTxn})
}

// record returns the next record, and the checks of its Txn; nil if there is nothing to write.
func (m *Member) record() (*Record, []TxnOp) {
	if !m.relock && m.own.Acked == m.fleet.Epoch && len(m.wants) == 0 && !m.mayLetGo(m.own) && slices.Equal(m.own.Unreachable, m.unreachable) && m.own.About.Settings == m.o.About.Settings {
		return nil, nil // the usual case
	}
	rec := m.own.clone()
	rec.Seq = m.seq + 1
	rec.About, rec.TTL = m.o.About, m.o.TTL.Milliseconds()
	rec.About.Clock = m.now.UnixMilli()
	var checks []TxnOp
	write := m.relock || m.own.About.Settings != m.o.About.Settings
	if m.own.Acked != m.fleet.Epoch {
		m.switchRecord(rec)
		write = true
	} else {
		checks = m.followStays(rec)
		write = write || checks != nil
	}
	if m.letGoStays(rec) {
		write = true
	}
	if !slices.Equal(rec.Unreachable, m.unreachable) && !m.now.Before(m.tellAt) {
		rec.Unreachable, m.tellAt, write = slices.Clone(m.unreachable), m.now.Add(gather), true
	}
	if !write {
		return nil, nil
	}
	m.seq++
	return rec, checks
}

// switchRecord is rule 1: it changes the record to ack the fleet that this proxy goes by, in one pass over
// this proxy's users.
//
//	the record has a stay of the user, not yet let go of             it stays
//	the user has an override, and is elsewhere                       a stay of the user
//	the user's override was removed since the last ack               a stay of the user, also at choice
//	the user is elsewhere than the bucket's choice                   a stay of the bucket
//
// A stay of a bucket at the backend where the new fleet sends the bucket is taken out.
func (m *Member) switchRecord(rec *Record) {
	freed := make(map[string]bool)
	for i := len(m.tables) - 1; i > 0 && m.tables[i].Epoch > m.own.Acked; i-- {
		for _, c := range m.tables[i].Changes {
			freed[c.User] = true
		}
	}
	for user := range m.rests {
		if _, has := rec.Users[user]; !has || freed[user] {
			delete(m.rests, user)
		}
	}
	newest := &m.tables[len(m.tables)-1]
	rec.Acked, rec.Made = newest.Epoch, newest.Made
	if !m.has(ruleStays) {
		rec.Buckets, rec.Users = nil, nil
		return
	}
	stays := make(map[int]place)
	for user, h := range m.holds {
		over := m.override(user)
		_, has := rec.Users[user]
		switch {
		case has:
		case over != "" || freed[user]:
			elsewhere := h.at != m.userChoice(len(m.tables)-1, user, int(h.bucket), "")
			if m.has(ruleNamed) && (over == "" || elsewhere) {
				rec.Users[user] = m.places.ids[h.at]
			}
		case m.separate(): // the user is where the placement says, which no fleet changes
		case h.at != newest.choice[h.bucket]:
			stays[int(h.bucket)] = h.at
		}
	}
	for b, at := range stays {
		rec.setStay(b, m.places.ids[at])
	}
	for b, at := range newest.choice {
		if id := m.places.ids[at]; id != "" && rec.Buckets[id].Has(b) {
			rec.setStay(b, "")
		}
	}
}

// followStays is rule 3: it adds the stays that claims wait to follow, and returns checks that the keys of
// the proxies that have published them are unchanged.
func (m *Member) followStays(rec *Record) []TxnOp {
	if len(m.wants) == 0 {
		return nil
	}
	m.judge()
	var checks []TxnOp
	for user, until := range m.wants {
		bucket := m.bucket(user)
		if !m.now.Before(until) {
			delete(m.wants, user)
			m.emptied = true // if the stay was followed, no claim came for it
			continue
		}
		v := m.verdicts[bucket]
		if m.special(user) {
			v = m.judgeUser(user, bucket, "")
		}
		if v.kind != follows || m.barred(user, bucket, v.at) || len(rec.Users) >= maxNamedStays/2 {
			continue
		}
		whom := &m.view.Proxies[v.whom]
		at := m.places.ids[v.at]
		if _, ofUser := whom.Users[user]; ofUser {
			if rec.Users[user] = at; m.override(user) == "" && !m.changedLately(user) {
				m.rests[user] = true // the other proxy may have named them while they rest
			}
		} else {
			rec.setStay(bucket, at)
		}
		check := TxnOp{Verb: CheckIndex, Key: proxyKey(whom.ID), Index: whom.Index}
		if !m.has(ruleFollow) {
			check = TxnOp{Verb: CheckIndex, Key: proxyKey(m.o.ID), Index: m.ownIndex}
		}
		if !slices.ContainsFunc(checks, func(o TxnOp) bool { return o.Key == check.Key }) {
			checks = append(checks, check)
		}
	}
	return checks
}

// letGoStays is rule 4: it takes out the stays for which this proxy has no connections any more and no claim
// waits. It also does what rule 7 says of few users: if the second half of a bucket's turn has begun and few
// of its users are left, the record names these users in place of the bucket. Readings from before this
// record are void for these buckets. The same is done for buckets that rest where they are (Move.Settle), so that
// those of their users who have no connection go where the fleet sends them.
func (m *Member) letGoStays(rec *Record) (any bool) {
	if !m.mayLetGo(rec) {
		return false
	}
	wanted := make(map[int]bool)
	for user := range m.wants {
		wanted[m.bucket(user)] = true
	}
	m.judge()
	m.emptied, m.letGoAt = len(wanted) > 0, m.now.Add(gather)
	for user := range rec.Users {
		b := m.bucket(user)
		if m.holds[user] != nil || wanted[b] {
			continue
		}
		if !m.agreed(user, b) {
			m.emptied = true // looked at again
			continue
		}
		delete(rec.Users, user)
		delete(m.rests, user)
		m.void[b], any = rec.Seq, true
	}
	for _, at := range slices.Sorted(maps.Keys(m.own.Buckets)) { // in the same order at all proxies, since room is short
		for b := range m.own.Buckets[at].All {
			if wanted[b] || !rec.Buckets[at].Has(b) || b >= len(m.heads) {
				continue
			}
			if !m.agreed("", b) {
				m.emptied = true // looked at again
				continue
			}
			var held []string
			for h := m.heads[b]; h != nil; h = h.next {
				if m.inBucket(rec, h.user) {
					held = append(held, h.user)
				}
			}
			rest := m.atRest("", b, m.places.of(at))
			switch {
			case len(held) == 0:
			case len(held) > fewUsers || !m.has(ruleFew), !rest && (!m.late(b, m.places.of(at)) || len(rec.Users) >= fullNames), rest && !m.mayName(b, rec):
				continue
			case rest:
				m.namedAt[b] = m.now
			}
			for _, user := range held {
				rec.Users[user] = m.places.ids[m.holds[user].at]
				if rest {
					m.rests[user] = true
				}
			}
			rec.setStay(b, "")
			m.void[b], any = rec.Seq, true
		}
	}
	return any
}

// mayLetGo reports whether there may be stays to take out of the record.
func (m *Member) mayLetGo(rec *Record) bool {
	return !m.now.Before(m.letGoAt) && (len(rec.Users) > 0 || len(rec.Buckets) > 0) && (m.emptied || len(m.asked) > 0)
}

// confirm records that Consul has the pending record.
func (m *Member) confirm(index uint64) {
	acked := m.own == nil || m.own.Acked != m.pending.Acked
	m.own, m.ownIndex, m.wroteAt, m.pending, m.fate = m.pending, index, m.now, nil, 0
	if m.relock {
		m.relock, m.removed = false, false
		m.back()
	}
	m.retry[forRecord] = time.Time{}
	if acked {
		m.emptied = true
	}
	m.changed()
}
