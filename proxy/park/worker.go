package park

import (
	"context"

	"imapproxy/proxy/park/resync"
	"imapproxy/proxy/park/view"
	"imapproxy/telemetry"
)

// resyncOnce makes one round on a pooled connection, as a worker of b.
func (m *mailbox) resyncOnce(b *site) {
	r := m.begin()
	if r == nil {
		return
	}
	var s *view.State
	err := ErrLost
	if a, ok := m.account(); ok {
		err = m.withClient(m.hub.ctx, a, r.trace.Steps, func(ctx context.Context, c *resync.Client) (err error) {
			s, err = m.strategy.Resync(ctx, c, r.query)
			r.trace.Steps.Done(telemetry.StepResync, m.hub.now(), err)
			return err
		})
	}
	m.hub.mu.Lock()
	b.servedLocked(m)
	b.staffLocked() // this worker first applies the state to all members
	m.hub.mu.Unlock()
	m.finish(r, s, err)
	if err != nil {
		m.failed(err)
	}
}
