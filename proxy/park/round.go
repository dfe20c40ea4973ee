package park

import (
	"cmp"
	"context"
	"errors"

	"imapproxy/proxy/imapclient"
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

// part is a member's part in a round.
type part struct {
	sub    *Subscription
	member Member
	joins  uint64
}

// job is a request for a state on an IDLE watch's connection, by a session that resumes or is
// being parked. It makes a round for all members: its EXAMINE takes away what IDLE would still
// have told.
type job struct {
	view *view.View // nil: none
	why  string
	done chan jobResult // has room for one
}

type jobResult struct {
	state *view.State
	err   error
}

// begin begins a round, unless there is nothing to do. Views are asked for here,
// before any EXAMINE is sent; a member that joins from now on isn't part of it, and a hint
// from now on is for another.
func (m *mailbox) begin() *round {
	h := m.hub
	h.mu.Lock()
	if m.phase == dead || m.running || !m.dueLocked() { // finish has the next one begin
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

// traceLocked begins to measure a resync.
func (m *mailbox) traceLocked(why string) telemetry.Resync {
	return telemetry.Resync{User: m.user.name, Backend: m.site.name, Mailbox: m.name, Strategy: m.strategy.Name(), Watch: m.kind.String(),
		Reason: why, Start: m.hub.now()}
}

// traced tells telemetry of a resync that is over. One that was cut short because
// the hub ends, or the mailbox has no subscription any more, has neither failed nor gone well.
func (m *mailbox) traced(t telemetry.Resync, err error) {
	t.Err, t.End = err, m.hub.now()
	if m.hub.ctx.Err() == nil && !errors.Is(err, ErrLost) {
		m.hub.o.Telemetry.Resync(t)
	}
}

// queryFor is what a resync for all these views may build on: it has to reach back to
// the oldest of them.
func queryFor(name string, views []*view.View) resync.Query {
	q := resync.Query{Mailbox: name}
	for _, v := range views {
		q.UIDValidity = max(q.UIDValidity, v.UIDValidity)
	}
	for _, v := range views {
		if v.UIDValidity != q.UIDValidity {
			continue // it will be told that its mailbox is no more
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

// finish ends a round: its state is applied to the members that are still there, and then
// it counts as over.
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
	for _, j := range r.jobs { // not before: a session that has its state counts the round as over
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
		return // failed says what comes next
	case s != nil:
		h.counts.Resyncs++
		m.learnedLocked(s.ModSeq)
		m.recoveredLocked()
		m.notBefore = h.now().Add(burstGap)
		m.sweepAt = h.now().Add(jittered(m.every())) // it has just been looked at
		// The connection has told of these, and won't again.
		if beyond(s) {
			m.dirtyLocked(r.trace.Reason)
		}
	}
	m.scheduleLocked()
}

// beyond says whether a state has changes from after its own bound, which no view
// has yet.
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

// resyncFor makes one resync for v, nil for none: on the watch's connection if it
// has one that stands, else on another.
func (m *mailbox) resyncFor(ctx context.Context, s *Subscription, v *view.View, by resync.Strategy, why string) (*view.State, error) {
	h := m.hub
	h.mu.Lock()
	switch {
	case h.closed:
		h.mu.Unlock()
		return nil, ErrHubClosed
	case s.closed:
		h.mu.Unlock()
		return nil, ErrLost
	}
	var j *job
	if m.kind == WatchIdle && m.phase == working && by == m.strategy {
		j = &job{view: v, why: why, done: make(chan jobResult, 1)}
		m.jobs = append(m.jobs, j)
		m.scheduleLocked()
	}
	trace := m.traceLocked(why)
	h.mu.Unlock()
	if j != nil {
		select {
		case res := <-j.done:
			if _, broken := errors.AsType[*imapclient.Broken](res.err); !broken && !errors.Is(res.err, ErrLost) {
				return res.state, res.err
			}
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-h.ctx.Done():
			return nil, ErrHubClosed
		}
	}
	var views []*view.View
	if v != nil {
		views = append(views, v)
	}
	trace.Strategy, trace.Views, trace.Start = by.Name(), len(views), h.now()
	trace.Steps = h.o.Telemetry.Steps(trace.Start)
	var state *view.State
	err := m.withClient(ctx, s.account, func(ctx context.Context, c *resync.Client) (err error) {
		trace.Steps.Done(telemetry.StepConnect, h.now(), nil)
		state, err = by.Resync(ctx, c, queryFor(m.name, views))
		trace.Steps.Done(telemetry.StepResync, h.now(), err)
		return err
	})
	m.traced(trace, err)
	return state, err
}

// learnBound has an enabled EXAMINE show HIGHESTMODSEQ, where that is wanted and
// none is known.
func (m *mailbox) learnBound(ctx context.Context, a Account) error {
	m.hub.mu.Lock()
	known := m.modSeq
	m.hub.mu.Unlock()
	if known != 0 || a.ModSeq != 0 || m.strategy != (resync.ByQResync{}) {
		return nil
	}
	return m.withClient(ctx, a, m.examine)
}

// examine selects the mailbox as a watch does. It gives the errors that say that
// it can't be parked.
func (m *mailbox) examine(ctx context.Context, c *resync.Client) error {
	sel, err := c.Select(ctx, true, m.name, "", nil)
	switch limit := m.limit(); {
	case err != nil:
		return err
	case sel.UIDNotSticky:
		return resync.ErrUnsettled
	case limit > 0 && sel.Exists > limit:
		return resync.ErrTooMany
	case limit == 0 && (sel.NoModSeq || sel.ModSeq == 0):
		return resync.ErrNoModSeq
	case limit > 0:
		return nil
	}
	m.hub.mu.Lock()
	defer m.hub.mu.Unlock()
	m.learnedLocked(sel.ModSeq)
	return nil
}

// learnedLocked takes an EXAMINE's HIGHESTMODSEQ. It may be lower than the last: the mailbox
// was made anew, or two were under way; a bound that is too low makes nothing lost.
func (m *mailbox) learnedLocked(modSeq uint64) {
	if modSeq != 0 {
		m.modSeq = modSeq
	}
}

// limit is how many messages the strategy takes; 0: any number.
func (m *mailbox) limit() uint32 {
	if by, ok := m.strategy.(resync.ByComparison); ok {
		return cmp.Or(by.MaxMessages, resync.DefaultMaxDiffMessages)
	}
	return 0
}
