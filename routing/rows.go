package routing

import "time"

// backendRow is a backend as routing uses it: what discovery said, unless the
// panic threshold keeps an older state. Never changed once stored.
type backendRow struct {
	Backend
	hash  uint64    // of the id, for the rendezvous
	since time.Time // when State became what it is
	kept  bool      // discovery says it is down or gone; the panic threshold holds it
	gone  bool      // discovery doesn't list it any more; State is Down
	// lostAt is when discovery took it from usable to Down; zero if it was
	// never usable. The panic threshold counts those of the last while.
	lostAt time.Time
	flapping
}

// usable: it is known to work, and discovery hasn't taken it away.
func (b *backendRow) usable() bool { return b.State != Down }

// takesNew: new users may be sent there.
func (b *backendRow) takesNew() bool { return b.State == Up && b.Weight > 0 }

// pinRow holds a user on a backend. Never changed once stored, but for void,
// which is closed when the row's backend is replaced by another.
type pinRow struct {
	user    string
	backend string
	// gen tells this stay from the user's later ones: a pick of an older
	// stay must not count down the sessions of a newer one.
	gen       uint64
	placement string // what was asked for when the pin was made; "" = nothing
	sessions  int    // picks not yet released, confirmed or not
	live      int    // of them, those that have logged in (Confirm)
	holding   int    // of the live ones, those with a connection to the backend (Rest, Hold)
	// proven: some session of this stay, or of the one it took over, did log
	// in. Others leave no pin behind: guessing at user names must not fill the table.
	proven    bool
	flushed   bool      // it ends with its last session (Flush)
	since     time.Time // when the user was put there
	idleSince time.Time // when the last live session ended; of use while sessions is 0
	void      chan struct{}
}

// ended: the user has no sessions, and the grace time has passed.
func (p *pinRow) ended(now time.Time, grace time.Duration) bool {
	return p.sessions == 0 && !now.Before(p.idleSince.Add(grace))
}

// healthRow is a run of dials that failed. Never changed once stored.
type healthRow struct {
	backend   string
	failures  int       // in a row
	first     time.Time // of the run
	last      time.Time
	lastError string
	trialAt   time.Time // when the next probe is due
}

// suspect: connections to it have failed so often that it isn't worth a user's wait. A
// probe's success ends that; without any report for failureRun, so does time.
func (h *healthRow) suspect(now time.Time) bool {
	return h != nil && h.failures >= suspectAfter && now.Sub(h.last) < failureRun
}
