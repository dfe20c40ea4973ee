package park

import (
	"imapproxy/proxy/park/resync"
	"imapproxy/proxy/park/view"
	"imapproxy/telemetry"
)

// round is one resync of a mailbox, for all members that have joined when it begins.
type round struct {
	parts []part
	jobs  []*job
	query resync.Query
	trace telemetry.Resync
}

// part is a member of a round.
type part struct {
	sub    *Subscription
	member Member
	joins  uint64
}

// begin begins a round if there is a reason. It reads the views before any EXAMINE is sent; a member that
// joins later isn't part of the round, and a later hint is for the next one.
func (m *mailbox) begin() *round {
	h := m.hub
	h.mu.Lock()
	if m.phase == dead || m.running || !m.dueLocked() { // finish begins the next one
		h.mu.Unlock()
		return nil
	}
	why := m.why
	if len(m.jobs) > 0 {
		why = m.jobs[0].why
	}
	m.running, m.dirty, m.why = true, false, ""
	m.begun++
	r := &round{jobs: m.jobs, trace: m.traceLocked(why)}
	m.jobs = nil
	for _, s := range m.subs {
		if s.member != nil {
			s.round, s.missed = m.begun, false
			r.parts = append(r.parts, part{sub: s, member: s.member, joins: s.joins})
		}
	}
	h.mu.Unlock()

	var views []*view.View
	parts := r.parts[:0]
	var absent []part
	for _, p := range r.parts {
		if v := p.member.View(); v != nil {
			views = append(views, v)
			parts = append(parts, p)
		} else {
			absent = append(absent, p)
		}
	}
	r.parts = parts
	if len(absent) > 0 {
		h.mu.Lock()
		for _, p := range absent {
			p.sub.missed = p.sub.joins == p.joins
		}
		h.mu.Unlock()
	}
	for _, j := range r.jobs {
		if j.view != nil {
			views = append(views, j.view)
		}
	}
	if len(views) == 0 && len(r.jobs) == 0 {
		m.finish(r, nil, nil)
		return nil
	}
	r.query = queryFor(m.name, views)
	r.trace.Views = len(views)
	r.trace.Steps = h.o.Telemetry.Steps(r.trace.Start)
	return r
}

// traceLocked starts the measurement of a resync.
func (m *mailbox) traceLocked(why string) telemetry.Resync {
	return telemetry.Resync{User: m.user.name, Backend: m.site.name, Mailbox: m.name, Strategy: m.strategy.Name(), Watch: m.kind.String(),
		Reason: why, Start: m.hub.now()}
}

// traced passes a completed resync to telemetry. A resync that was cut short because the hub ended, or that wasn't
// tried, counts neither as failed nor as successful.
func (m *mailbox) traced(t telemetry.Resync, err error) {
	t.Err, t.End = err, m.hub.now()
	m.hub.mu.Lock()
	t.Address = m.site.address
	m.hub.mu.Unlock()
	if m.hub.ctx.Err() == nil && !untried(err) {
		m.hub.o.Telemetry.Resync(t)
	}
}

// queryFor returns the query for all these views; its changes have to start at the oldest one.
func queryFor(name string, views []*view.View) resync.Query {
	q := resync.Query{Mailbox: name}
	for _, v := range views {
		q.UIDValidity = max(q.UIDValidity, v.UIDValidity)
	}
	for _, v := range views {
		if v.UIDValidity != q.UIDValidity {
			continue // Compare will find that its mailbox was replaced
		}
		q.UIDNext = max(q.UIDNext, v.UIDNext)
		if v.ModSeq != 0 && (q.ModSeq == 0 || v.ModSeq < q.ModSeq) {
			q.ModSeq = v.ModSeq
		}
		if q.UIDs.Empty() {
			q.UIDs = v.UIDs
		} else if !q.UIDs.Equal(v.UIDs) {
			q.UIDs = q.UIDs.Union(v.UIDs)
		}
	}
	return q
}

// finish ends a round: it applies the state to the members that are still joined; after that the round counts
// as completed.
func (m *mailbox) finish(r *round, s *view.State, err error) {
	h := m.hub
	told := s
	if s != nil && h.o.Plant != nil {
		told = h.o.Plant(m.name, s)
	}
	if err == nil && told != nil {
		for _, p := range r.parts {
			h.mu.Lock()
			here := p.sub.member != nil && p.sub.joins == p.joins
			h.mu.Unlock()
			if here {
				p.member.Apply(told)
			}
		}
		r.trace.Steps.Done(telemetry.StepTell, h.now(), nil)
	}
	if err != nil || s != nil {
		m.traced(r.trace, err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	m.running = false
	m.done = m.begun
	for _, j := range r.jobs { // not earlier: a session that has its state relies on the round's end
		j.done <- jobResult{state: s, err: err}
	}
	for i := 0; i < len(m.waiters); {
		w := m.waiters[i]
		if w.round > m.done {
			i++
			continue
		}
		w.done <- err
		m.waiters = append(m.waiters[:i], m.waiters[i+1:]...)
	}
	switch {
	case err != nil:
		h.counts.Failed++
		m.dirtyLocked(r.trace.Reason)
		return // failed decides how to continue
	case s != nil:
		h.counts.Resyncs++
		m.learnedLocked(s.ModSeq)
		m.recoveredLocked()
		m.notBefore = h.moment().Add(burstGap)
		m.sweepAt = h.moment().Add(jittered(m.every())) // it was just resynced
		// The connection has told of these changes and won't repeat them.
		if beyond(s) {
			m.dirtyLocked(r.trace.Reason)
		}
	}
	m.scheduleLocked()
}

// beyond says whether a state has changes after its own bound, which no view has yet.
func beyond(s *view.State) bool {
	if s.Table != nil || s.ModSeq == 0 {
		return false
	}
	for _, c := range s.Changed {
		if c.ModSeq > s.ModSeq {
			return true
		}
	}
	return false
}
