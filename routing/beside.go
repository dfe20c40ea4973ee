package routing

import (
	"context"
	"fmt"
	"time"
)

// pinBeside returns the pin by which a user's backend is chosen: the user's own, or, where this process has no connection of
// the user and another one has, one at that backend.
func pinBeside(own *pinRow, at, user, placement string, now time.Time) *pinRow {
	if at == "" || own != nil && (own.holding > 0 || own.backend == at) {
		return own
	}
	return &pinRow{user: user, backend: at, placement: placement, live: 1, holding: 1, proven: true, since: now}
}

// freed ends a pick: it waits until other processes have let go of the user at other backends. On an error, ErrNotAgreed, the pick is
// released.
func (r *Router) freed(ctx context.Context, p *Pick, err error) (*Pick, error) {
	o := r.opts.Load()
	if err != nil || o.Beside == nil {
		return p, err
	}
	if err := o.Beside.Free(ctx, p.user, p.Backend.ID, r.down); err != nil {
		p.Release()
		return nil, fmt.Errorf("%w: %w", ErrNotAgreed, err)
	}
	return p, nil
}

// down says whether a backend isn't there, or is down.
func (r *Router) down(id string) bool {
	b := newReadTxn(r.db).backend(id)
	return b == nil || !b.usable()
}
