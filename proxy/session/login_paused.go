package session

import (
	"context"
	"errors"
	"time"

	"imapproxy/routing"
	"imapproxy/telemetry"
)

// errPaused says that a login waited for the end of its backend's pause for as long as it may.
var errPaused = errors.New("the user's backend is paused by an operator")

// pausedBeforeNO is how long before the end of a login's time a login that waits for the end of a pause is
// answered.
const pausedBeforeNO = 3 * time.Second

// waitPaused waits while the backend of a login's pick is paused. It returns true after a wait: the pick was
// released, and the caller picks again. Logins that have waited go on at the rate of resumes.
func (p *preLogin) waitPaused(ctx context.Context, a *attempt, pick *routing.Pick) (waited bool, err error) {
	id := pick.Backend.ID
	if _, _, paused := p.set.Router.Paused(id); !paused {
		return false, nil
	}
	endWait := a.trace.Phase(telemetry.PhasePaused)
	defer func() { endWait(err) }()
	pick.Release() // it holds the user, whom an operator may want to move
	for {
		limit := stillEvery
		if end, ok := ctx.Deadline(); ok {
			limit = min(limit, time.Until(end)-pausedBeforeNO)
		}
		switch {
		case p.set.Router.Resumed(ctx, id, max(limit, 0)):
			return true, p.env.Queues.resumesAt(id).rate.Wait(ctx)
		case ctx.Err() != nil || limit < stillEvery:
			return true, errors.Join(errPaused, ctx.Err())
		}
		if err := p.say(stillHere); err != nil {
			return true, err
		}
	}
}
