package agree

import (
	"errors"
	"time"
)

// pump makes the requests to Consul that are due.
func (m *Member) pump() {
	if m.phase == left {
		m.end()
		return
	}
	m.keepSession()
	switch m.phase {
	case outside:
		if m.session != "" && !m.busy[forJoin] {
			m.send(forReading, Op{Kind: Read}) // join goes by the answer
		}
	default:
		if m.view == nil && m.send(forReading, Op{Kind: Read}) { // claims wait for the first reading after the join
			m.later(forReading, again)
		}
		m.moves()
		m.publish()
		m.writeFleet()
		m.buryOrphans()
		if m.phase == leaving && len(m.holds) == 0 && m.pending == nil {
			m.send(forLeave, Op{Kind: Write, Txn: []TxnOp{{Verb: DeleteCAS, Key: proxyKey(m.o.ID), Index: m.ownIndex}}})
		}
	}
}

// Done takes the result of an Op. It is called once for each Op.
func (m *Member) Done(op uint64, r Result, now time.Time) {
	m.at(now)
	p, ok := m.flight[op]
	if !ok {
		return
	}
	delete(m.flight, op)
	m.busy[p] = false
	if r.Err != nil {
		m.later(p, again)
	}
	m.done(p, r)
	m.pump()
}

func (m *Member) done(p purpose, r Result) {
	ok := r.Err == nil && !r.Refused
	switch p {
	case forSession:
		if ok && m.phase != left {
			m.session, m.renewed, m.renewAt = r.Session, r.Sent, r.Sent.Add(m.o.TTL/3)
		}
	case forRenewal:
		switch {
		case ok:
			m.renewed, m.renewAt = r.Sent, r.Sent.Add(m.o.TTL/3)
			if m.phase != outside && !m.relock && m.now.Before(m.Deadline()) {
				m.back()
			}
		case r.Refused:
			m.lose("its Consul session has ended", false)
		}
	case forReading:
		if r.Reading != nil {
			r.Reading.Sent = r.Sent
		}
		switch {
		case !ok || r.Reading == nil:
		case m.latest != nil && r.Reading.Index < m.latest.Index && r.Reading.before(m.latestAt):
			// The watch has had a later one meanwhile. It is asked for again.
		case m.phase == outside:
			m.read(r.Reading)
			m.later(forReading, gather) // unless it joins by this reading
			m.join(r.Reading)
		default:
			m.resolve(r.Reading)
		}
	case forRecord:
		switch {
		case m.pending == nil: // a reading has confirmed the record
		case ok:
			m.confirm(r.Index)
		case r.Refused:
			m.fate = refused
		default:
			m.fate = unknown
		}
	case forJoin:
		m.joined(r)
	case forLeave:
		if ok || r.Refused {
			m.phase = left
			m.end()
		}
	case forEnd:
		if !ok && r.Err != nil {
			return
		}
		m.session = ""
	case forFleet:
		m.writer.written(m, r)
	}
}

// resolve finds out, from a consistent reading made later, what became of a record whose write had no answer
// or was refused. A record that was refused, and isn't in the reading, is never written: what it was refused
// for doesn't change back.
func (m *Member) resolve(r *Reading) {
	m.read(r)
	if m.phase != inside && m.phase != leaving || m.pending == nil || m.fate != refused {
		return
	}
	m.pending, m.fate, m.emptied = nil, 0, true
	m.later(forRecord, again)
	m.changed()
}

// Errors of operators' requests.
var (
	ErrUnknownProxy = errors.New("no proxy has this id; 'imapproxy proxies' shows the id of one that doesn't answer, below its list")
	ErrNotInside    = errors.New("this proxy isn't one of the fleet now")
)

// Remove takes a proxy that is known to be dead out of the fleet, without waiting for the end of its
// session. If that proxy lives, its users may be on two backends until it notices.
func (m *Member) Remove(id string, now time.Time) error {
	m.at(now)
	if m.phase != inside || m.isolated || m.latest == nil {
		return ErrNotInside
	}
	p := m.latest.proxy(id)
	if p == nil || id == m.o.ID {
		return ErrUnknownProxy
	}
	if !m.remove(id, p.Index) {
		return errors.New("another proxy is being removed; try again")
	}
	return nil
}
