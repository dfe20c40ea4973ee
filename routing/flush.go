package routing

// The results of Flush.
const (
	FlushedNone  = "none"   // the user had no pin
	FlushedNow   = "now"    // the pin was removed
	FlushedLater = "at_end" // the pin ends with the user's last session
)

// Flush removes a user's pin: the next login is routed like that of a new user. While the user has sessions
// the pin stays, and ends without grace time with the last session: another backend must not serve the user
// meanwhile. Parked sessions count, since watches and resyncs serve them.
func (r *Router) Flush(user string) string {
	tx := newWriteTxn(r.db)
	defer tx.abort()
	o := r.opts.Load()
	old := tx.pin(user)
	switch {
	case old == nil || old.ended(o.Now(), o.PinGrace):
		return FlushedNone
	case old.sessions > 0:
		pin := *old
		pin.flushed = true
		tx.putPin(&pin)
		tx.commit()
		return FlushedLater
	}
	tx.deletePin(old)
	tx.commit()
	r.count(old.backend, -1, 0)
	return FlushedNow
}

// Where returns the backend to which a login of the user would go now, and the rule; it claims nothing.
func (r *Router) Where(user, placement string) (*Backend, Why, error) {
	if !r.Ready() {
		return nil, "", ErrNotReady
	}
	tx := newReadTxn(r.db)
	o := r.opts.Load()
	now := o.Now()
	pin := tx.pin(user)
	if pin != nil && pin.ended(now, o.PinGrace) {
		pin = nil
	}
	b, why, err := choose(choice{
		user: user, placement: placement, pin: pin, now: now,
		storage: o.Storage, failoverAfter: o.FailoverAfter, tables: tx, health: tx.allHealth(), settle: true,
	})
	if err != nil {
		return nil, "", err
	}
	return &b.Backend, why, nil
}
