package routing

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Agreement decides where users are if several proxies decide together (docs/cluster.md); the router's own
// rules (choose) are for a single proxy. With an Agreement, discovery's answers go to it, and its fleet comes
// to the router by Apply.
type Agreement interface {
	// Claim returns the backend to which a connection of the user may be made; it waits while the proxies
	// haven't agreed. home is the ID of the backend that the user's placement names, "" for none. release
	// ends the claim.
	Claim(ctx context.Context, user, home string) (backend string, release func(), err error)
}

// ErrNotAgreed: the proxies couldn't agree in time on where the user is.
var ErrNotAgreed = errors.New("the proxies haven't agreed on the user's backend")

// pickAgreed is Pick with an Agreement: the backend is the Agreement's, and no other is tried, since a user
// whose backend one proxy can't reach moves by the decision of all proxies, or not at all. The claim holds
// until the login's own connection has a claim (Confirm), or the pick is released.
func (r *Router) pickAgreed(ctx context.Context, limit time.Duration, agreement Agreement, a ask) (*Pick, error) {
	if !r.readyWithin(ctx, limit) {
		return nil, ErrNotReady
	}
	home, err := r.home(a)
	if err != nil {
		return nil, err
	}
	backend, release, err := agreement.Claim(ctx, a.user, home)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotAgreed, err)
	}
	a.agreed, a.settle = backend, false
	p, err := r.pick(a)
	if err != nil {
		release()
		return nil, err
	}
	p.claim.Store(&release)
	return p, nil
}

// readyWithin waits for the first fleet, up to limit.
func (r *Router) readyWithin(ctx context.Context, limit time.Duration) bool {
	news := r.news() // taken before Ready, so that no answer is missed in between
	if r.Ready() {
		return true
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-news:
	case <-timer.C:
	case <-ctx.Done():
	}
	return r.Ready()
}

// home is the ID of the backend that the user's placement names. With shared storage, a placement that can't
// be followed counts as none. If it names several backends, all proxies use the first by ID.
func (r *Router) home(a ask) (string, error) {
	separate := r.opts.Load().Storage == Separate
	switch {
	case a.placement == "" && separate:
		return "", ErrNoPlacement
	case a.placement == "":
		return "", nil
	}
	home := ""
	for _, b := range newReadTxn(r.db).named(a.placement) {
		if home == "" || b.ID < home {
			home = b.ID
		}
	}
	if home == "" && separate {
		return "", fmt.Errorf("%w: %q", ErrUnknownPlacement, a.placement)
	}
	return home, nil
}

// agreedOn is choose with an Agreement.
//
//	the backend isn't listed, or has gone   ErrNoBackend
//	this login has tried it                 ErrBackendDown
//	else                                    it
func (c *choice) agreedOn() (*backendRow, Why, error) {
	b := c.tables.backend(c.agreed)
	switch {
	case b == nil || b.gone:
		return nil, "", fmt.Errorf("%w: %q isn't listed", ErrNoBackend, c.agreed)
	case c.wasTried(b.ID):
		return nil, "", fmt.Errorf("%w: %s refused the connection", ErrBackendDown, b.Name)
	case c.pin != nil && c.pin.backend == b.ID:
		return b, ByPin, nil
	case c.placement != "" && len(c.tables.named(c.placement)) > 0:
		return b, ByPlacement, nil
	}
	return b, ByRendezvous, nil
}

// Suspects returns the IDs of the backends that this proxy can't reach, for the other proxies.
func (r *Router) Suspects() (ids []string) {
	tx := newReadTxn(r.db)
	now := r.opts.Load().Now()
	for id, h := range tx.allHealth() {
		if b := tx.backend(id); b != nil && !b.gone && h.suspect(now) {
			ids = append(ids, id)
		}
	}
	return ids
}
