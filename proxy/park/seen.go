package park

import (
	"context"

	"imapproxy/proxy/park/resync"
	"imapproxy/proxy/park/view"
	"imapproxy/telemetry"
)

// See asks the backend what it takes to find which messages a session's client counts, when the connection is lost on
// which it was told of them (view.Tally.Found). at is what the client was told at its SELECT.
func (s *Subscription) See(ctx context.Context, at *view.View, steps *telemetry.Steps) (seen view.Seen, err error) {
	h := s.m.hub
	h.mu.Lock()
	switch {
	case h.closed:
		err = ErrHubClosed
	case s.closed:
		err = ErrLost
	}
	h.mu.Unlock()
	if err != nil {
		return seen, err
	}
	err = s.m.withClient(ctx, s.account(), steps, func(ctx context.Context, c *resync.Client) (err error) {
		seen, err = resync.See(ctx, c, s.m.strategy, at)
		steps.Done(telemetry.StepSnapshot, h.now(), err)
		return err
	})
	return seen, err
}
