package routing

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-memdb"

	"imapproxy/telemetry"
)

// Router holds the tables and chooses backends. It is safe for concurrent use.
// Writers (a pick, its end, a change of the fleet)
// run one after the other, for a few microseconds each; readers never wait.
type Router struct {
	db   *memdb.MemDB
	opts atomic.Pointer[Options]
	tel  *telemetry.Telemetry
	gen  atomic.Uint64
	// pauses are changed under the database's writer lock; nil: no backend was ever paused.
	pauses atomic.Pointer[pauses]

	// Locked after the database's writer lock, or without it; held only for short computations.
	mu struct {
		sync.Mutex
		usage   map[string]usage // by backend id, without those at zero
		last    Snapshot         // discovery's last answer, for Reload and Settle
		settle  time.Time        // when Settle has to act; zero: never
		learned time.Time        // when the last good answer came; zero: never
		saved   bool             // the set was read from disk, and there was no live answer yet
		news    chan struct{}    // closed and replaced at each answer
	}
}

// usage has a backend's counts for the admin page and the gauges, so that these don't have to iterate over a
// million pins.
type usage struct{ pins, sessions int }

// Ready reports whether discovery has ever given a set of backends.
func (r *Router) Ready() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.mu.learned.IsZero()
}

// Watch returns a channel that closes when discovery's data about the backend changes (its state above all),
// for sessions that have to act on it. It may close without a change; check, and watch again. Dials and pins
// don't close it.
func (r *Router) Watch(id string) <-chan struct{} {
	return newReadTxn(r.db).watchBackend(id)
}

// count adjusts the usage of a backend.
func (r *Router) count(id string, pins, sessions int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	u := r.mu.usage[id]
	u.pins += pins
	u.sessions += sessions
	if u == (usage{}) {
		delete(r.mu.usage, id)
		return
	}
	r.mu.usage[id] = u
}

// sweep removes up to limit pins that have ended.
func (r *Router) sweep(tx writeTxn, o *Options, now time.Time, limit int) {
	for _, pin := range tx.endedPins(now, o.PinGrace, limit) {
		tx.deletePin(pin)
		r.count(pin.backend, -1, 0)
	}
}

// news returns a channel that closes at discovery's next answer.
func (r *Router) news() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.news
}
