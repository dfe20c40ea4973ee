package routing

import "time"

// backendRow is a backend as routing uses it: discovery's data, unless the panic threshold keeps an older
// state. It isn't changed once stored.
type backendRow struct {
	Backend
	hash  uint64    // of the id, for the rendezvous
	since time.Time // since when it has its State
	kept  bool      // discovery took it away; the panic threshold keeps it, of this proxy or of all
	gone  bool      // discovery doesn't list it any more; State is Down
	// lostAt is when discovery changed it from usable to Down; zero if it was never usable. The panic
	// threshold counts recent losses.
	lostAt time.Time
	// down is when it was last lost, also once it is usable again; zero: never.
	down time.Time
	flapping
}

// usable: it is known to work, and discovery hasn't taken it away.
func (b *backendRow) usable() bool { return b.State != Down }

// takesNew: new users may be sent there.
func (b *backendRow) takesNew() bool { return b.State == Up && b.Weight > 0 }

// pinRow holds a user at a backend. It isn't changed once stored, except that void is closed when another
// backend replaces the row's.
type pinRow struct {
	user    string
	backend string
	// gen distinguishes this stay from the user's other stays: a pick of an older stay must not decrease the
	// sessions of a newer one.
	gen       uint64
	placement string // the placement for which the pin was made; "" = none
	sessions  int    // picks not yet released, confirmed or not
	live      int    // of them, those that have logged in (Confirm)
	holding   int    // of the live ones, those with a connection to the backend (Rest, Hold)
	// proven: a session of this stay, or of the one that it continues, has logged in. Other stays leave no
	// pin, so that guesses of user names don't fill the table.
	proven    bool
	flushed   bool      // it ends with its last session (Flush)
	since     time.Time // when the user came to the backend
	idleSince time.Time // when the last live session ended; valid while sessions is 0
	void      chan struct{}
}

// ended: the user has no sessions, and the grace time has passed.
func (p *pinRow) ended(now time.Time, grace time.Duration) bool {
	return p.sessions == 0 && !now.Before(p.idleSince.Add(grace))
}

// healthRow is a run of failed dials. It isn't changed once stored.
type healthRow struct {
	backend   string
	failures  int       // in a row
	first     time.Time // when the run began
	last      time.Time
	lastError string
	trialAt   time.Time // when the next probe is due
}

// suspect: connections to it have failed so often that users shouldn't wait for it. A successful probe ends
// that, or failureRun without any report.
func (h *healthRow) suspect(now time.Time) bool {
	return h != nil && h.failures >= suspectAfter && now.Sub(h.last) < failureRun
}

// flapping is a backend's history in discovery's answers. The zero value is empty.
type flapping struct {
	falls  int       // how often discovery has taken it away lately
	fell   time.Time // when it last did
	well   time.Time // since when discovery has listed it as usable; zero: it doesn't
	damped bool      // it gets no new users although discovery lists it as usable
}

// same says whether two histories are equal.
func (f flapping) same(o flapping) bool {
	return f.falls == o.falls && f.damped == o.damped && f.fell.Equal(o.fell) && f.well.Equal(o.well)
}
