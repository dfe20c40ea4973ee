package park

import (
	"context"
	"errors"

	"imapproxy/proxy/imapclient"
	"imapproxy/proxy/park/resync"
	"imapproxy/proxy/park/view"
	"imapproxy/telemetry"
)

// resyncFor makes one resync for v (nil: for no view): on the connection of a working IDLE watch, otherwise
// on a pooled one.
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
	err := m.withClient(ctx, s.account(), trace.Steps, func(ctx context.Context, c *resync.Client) (err error) {
		state, err = by.Resync(ctx, c, queryFor(m.name, views))
		trace.Steps.Done(telemetry.StepResync, h.now(), err)
		return err
	})
	m.traced(trace, err)
	return state, err
}

// learnBound sends EXAMINE with QRESYNC enabled to learn HIGHESTMODSEQ, if it is needed and unknown.
func (m *mailbox) learnBound(ctx context.Context, a Account) error {
	m.hub.mu.Lock()
	known := m.modSeq
	m.hub.mu.Unlock()
	if known != 0 || a.ModSeq != 0 || m.strategy != (resync.ByQResync{}) {
		return nil
	}
	return m.withClient(ctx, a, nil, m.examine)
}

// examine selects the mailbox as a watch does. It returns the errors that mean that sessions on it can't be
// parked.
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

func (h *Hub) comparison() resync.Strategy {
	return resync.ByComparison{MaxMessages: h.o.MaxDiffMessages}
}
