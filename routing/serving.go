package routing

import "time"

// Serving is a backend that isn't down: logins may be sent there.
type Serving struct {
	ID, Name string
	// Lost is when it was last down; zero: never, as far as this process knows.
	Lost time.Time
}

// Serving returns the backends that aren't down, by id, and a channel that is closed when that, or anything else about the backends, has
// changed.
func (r *Router) Serving() (all []Serving, changed <-chan struct{}) {
	tx := newReadTxn(r.db)
	it, err := tx.txn.Get(tableBackends, indexID)
	mustBeOurs(err)
	for row := it.Next(); row != nil; row = it.Next() {
		if b := row.(*backendRow); b.usable() {
			all = append(all, Serving{ID: b.ID, Name: b.Shown(), Lost: b.down})
		}
	}
	return all, it.WatchCh()
}
