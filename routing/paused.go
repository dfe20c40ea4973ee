package routing

import "time"

// A paused backend is about to be restarted by an operator: no connection to it is made, its users stay its
// users, and their sessions and logins wait. Discovery's answer that it is down, and probes, don't count
// meanwhile. Where several proxies agree (Agreement), their fleet says which backends are paused (SetPauses);
// otherwise operators ask this proxy (Pause, Resume).

const (
	// MaxPause is the longest pause.
	MaxPause = 10 * time.Minute
	// PauseSettles is for how long after a pause discovery's answer that the backend is down doesn't count:
	// a check may notice a restart only after it.
	PauseSettles = 30 * time.Second
	// PausedReason is the reason of the state of a backend that is up only because it is or was paused.
	PausedReason = "paused by an operator"
)

// Pause is a backend that an operator has paused.
type Pause struct {
	Backend string // ID
	Since   time.Time
	Until   time.Time
	By      string
}

// pauses is never changed; each change stores another one and closes changed.
type pauses struct {
	of      map[string]Pause
	changed chan struct{}
}
