package session

import (
	"context"
	"fmt"
	"net/netip"

	"imapproxy/internal/fair"
)

// placementsAtATime is how many questions for a placement there are at a time: as many as discovery has
// connections for (maxPlacementConns). More would wait there, first come, first served.
const placementsAtATime = 32

func newPlacing() *fair.Queue[netip.Prefix] {
	return fair.NewQueue[netip.Prefix](fair.Options{Slots: placementsAtATime})
}

// placement is the id of the backend that Options.Placement names for a user, "" where there is none.
// It is asked before any password is proved where the backend is to prove it, so networks take
// turns: guessers have a user of another network wait for one answer.
func (p *preLogin) placement(ctx context.Context, user string) (string, error) {
	if p.set.Placement == nil {
		return "", nil
	}
	network := fair.Network(p.addr.Addr())
	if err := p.env.Places.Placing.AcquireAs(ctx, network, p.env.Places.knows(network)); err != nil {
		return "", fmt.Errorf("waiting to ask for the placement: %w", err)
	}
	defer p.env.Places.Placing.Release(network)
	where, _, err := p.set.Placement(ctx, user)
	if err != nil {
		return "", fmt.Errorf("placement: %w", err)
	}
	return where, nil
}
