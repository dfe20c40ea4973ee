package session

import (
	"sync"
	"time"
)

// stallUsers is how many users have to wait at a silent backend before silence alone is evidence against it:
// a few long searches at once are possible where there are few users.
const stallUsers = 4

// Stalls has what the sweep and the probes have found out about backends at which sessions wait for an answer.
// The zero value is usable.
type Stalls struct {
	lines oncePerMinute // bounds the log lines

	mu       sync.Mutex // guards what follows
	backends map[string]*silence
}

// silence is what is known of one backend.
type silence struct {
	verdict verdict
	users   map[string]struct{} // of this round: those who wait, up to stallUsers
	alive   bool                // in this round, a connection was found on which the backend has said something
}

// verdict is the evidence against a backend.
type verdict struct {
	failed time.Time // when the last probe began, if it failed
	all    bool      // in the last round, each connection with an outstanding answer was silent, and none was alive
}

// note records what a round finds about one session, and returns what is known of its backend.
func (st *Stalls) note(backend, user string, silent, alive bool) verdict {
	st.mu.Lock()
	defer st.mu.Unlock()
	b := st.backends[backend]
	switch {
	case b == nil && !silent && !alive:
		return verdict{}
	case b == nil:
		b = &silence{users: map[string]struct{}{}}
		if st.backends == nil {
			st.backends = map[string]*silence{}
		}
		st.backends[backend] = b
	}
	b.alive = b.alive || alive
	if silent && len(b.users) < stallUsers {
		b.users[user] = struct{}{}
	}
	return b.verdict
}

// EndRound ends a round of the sweep, and returns the backends that have to be probed.
func (st *Stalls) EndRound() (suspects []string) {
	st.mu.Lock()
	defer st.mu.Unlock()
	for id, b := range st.backends {
		if len(b.users) == 0 {
			delete(st.backends, id)
			continue
		}
		suspects = append(suspects, id)
		b.verdict.all = len(b.users) >= stallUsers && !b.alive
		b.alive = false
		clear(b.users)
	}
	return suspects
}

// Probed records the outcome of a suspect's probe.
func (st *Stalls) Probed(backend string, began time.Time, failed bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	b := st.backends[backend]
	switch {
	case b == nil:
	case failed:
		b.verdict.failed = began
	default:
		b.verdict.failed = time.Time{}
	}
}
