package routing

import (
	"errors"
	"fmt"
)

// ErrNotAgreed: the proxies couldn't agree in time on where the user is.
var ErrNotAgreed = errors.New("the proxies haven't agreed on the user's backend")

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
		return nil, "", down(b.Name, " refused the connection")
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
