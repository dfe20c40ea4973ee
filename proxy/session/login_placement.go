package session

import (
	"context"
	"fmt"

	"imapproxy/internal/fair"
	"imapproxy/telemetry"
)

// placement returns the id of the backend that Options.Placement names for a user, "" if there is none. If the
// backend proves the password, the placement is looked up before that, so networks take turns: with many
// guessers, a user of another network waits for one lookup only.
func (p *preLogin) placement(ctx context.Context, a *attempt, user string) (where string, err error) {
	if p.set.Placement == nil {
		return "", nil
	}
	end := a.trace.Phase(telemetry.PhasePlacement)
	defer func() { end(err) }()
	network := fair.Network(p.addr.Addr())
	if err := p.env.Places.Placing.AcquireAs(ctx, network, p.env.Places.knows(network)); err != nil {
		return "", fmt.Errorf("waiting to ask for the placement: %w", err)
	}
	defer p.env.Places.Placing.Release(network)
	where, _, err = p.set.Placement(ctx, user)
	if err != nil {
		return "", fmt.Errorf("placement: %w", err)
	}
	return where, nil
}
