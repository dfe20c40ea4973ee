package app

import (
	"context"
	"time"

	agreed "imapproxy/routing/cluster"
)

// applies waits until the router uses the fleet of that epoch; claims use it a moment earlier.
func (g *agreement) applies(ctx context.Context, within time.Duration, epoch uint64) error {
	var timer *time.Timer
	for {
		g.mu.Lock()
		ok, applied := g.epoch >= epoch, g.applied
		g.mu.Unlock()
		if ok {
			return nil
		}
		if timer == nil {
			timer = time.NewTimer(within)
			defer timer.Stop()
		}
		select {
		case <-applied:
		case <-timer.C:
			return agreed.ErrWait
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// done waits, once the agreement has carried out what an operator asked for, until the router has applied it:
// answers to operators are made from the router's state.
func (g *agreement) done(ctx context.Context) error {
	return g.applies(ctx, time.Duration(g.within.Load()), g.part.Epoch())
}
