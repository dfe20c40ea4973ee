package agree

import "time"

// end destroys the session of a proxy that has left. The key is released or removed by then, so that nothing
// waits for a lock-delay.
func (m *Member) end() {
	if m.session != "" {
		m.send(forEnd, Op{Kind: DestroySession, Session: m.session})
	}
}

func (m *Member) remove(id string, index uint64) bool {
	return m.send(forOrphan, Op{Kind: Write, Txn: []TxnOp{{Verb: DeleteCAS, Key: proxyKey(id), Index: index}}})
}

func (m *Member) bury(r *Reading) {
	for _, p := range r.Proxies {
		o, ok := m.orphans[p.ID]
		if !ok {
			continue
		}
		ttl := max(m.o.TTL, time.Duration(p.TTL)*time.Millisecond)
		if m.now.Sub(o.since) < ttl && m.has(ruleOrphan) {
			continue
		}
		m.remove(p.ID, p.Index)
	}
}

// buryOrphans removes the keys of proxies whose sessions have ended, once this proxy has seen that for a
// whole TTL (rule 5).
func (m *Member) buryOrphans() {
	if m.isolated || m.latest == nil {
		return
	}
	m.bury(m.latest)
}

// lose records that the other proxies may take this proxy for dead, or have done so. It has to join again,
// with a new session.
func (m *Member) lose(why string, removed bool) {
	if m.phase == leaving && len(m.holds) == 0 { // its key was removed, and a reading shows that before the answer comes
		m.phase = left
		return
	}
	m.isolate(why)
	if m.phase == leaving {
		m.phase = left
		return
	}
	m.phase, m.session = outside, ""
	m.removed = m.removed || removed
	m.pending, m.pendingTxn, m.fate = nil, nil, 0
	m.relock = false
	if m.removed {
		m.view = nil
	}
	m.later(forSession, again)
	m.later(forReading, 0)
	m.changed()
}

// keepSession creates the session and renews it three times in its TTL. A proxy that can't ack lets its
// session end, so that the other proxies don't wait for it for ever (rule 5). A proxy whose ticks have
// stopped sends no renewals either.
func (m *Member) keepSession() {
	if m.session == "" {
		m.send(forSession, Op{Kind: CreateSession, TTL: m.o.TTL})
		return
	}
	stuck := m.phase == inside && m.own.Acked != m.fleet.Epoch && m.now.Sub(m.switched) > m.o.AgreeWithin && m.has(ruleStuck)
	if !m.now.Before(m.renewAt) && !stuck {
		m.send(forRenewal, Op{Kind: RenewSession, Session: m.session})
	}
}

// Key returns the index of a proxy's key in the last reading; 0: there is none.
func (m *Member) Key(id string) uint64 {
	if m.latest == nil {
		return 0
	}
	if p := m.latest.proxy(id); p != nil {
		return p.Index
	}
	return 0
}
