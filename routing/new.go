package routing

import (
	"fmt"

	"github.com/hashicorp/go-memdb"
)

// New returns a router without backends. Until the first Apply it
// isn't Ready, and Pick returns ErrNotReady.
func New(o Options) (*Router, error) {
	opts, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	db, err := memdb.NewMemDB(schema())
	if err != nil {
		return nil, fmt.Errorf("routing: %w", err)
	}
	r := &Router{db: db, tel: opts.Telemetry}
	r.opts.Store(opts)
	r.mu.usage = make(map[string]usage)
	r.mu.news = make(chan struct{})
	r.tel.SetRoutingGauges(r.stats)
	return r, nil
}

// Reload applies new settings, also to discovery's last answer:
// a panic threshold of 1 accepts the loss that the old threshold rejected.
// Pins stay; PinGrace also applies to pins whose users have no sessions. The clock and the
// telemetry remain those of New.
func (r *Router) Reload(o Options) error {
	old := r.opts.Load()
	o.Now, o.Telemetry, o.Agreement, o.Beside = old.Now, r.tel, old.Agreement, old.Beside
	opts, err := o.withDefaults()
	if err != nil {
		return err
	}
	r.opts.Store(opts)
	if r.Ready() {
		r.apply(Snapshot{}, false)
	}
	return nil
}
