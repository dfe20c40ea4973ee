package session

import (
	"errors"
	"time"

	"imapproxy/proxy/park"
	"imapproxy/proxy/upstream"
)

// ParkOptions say when sessions are parked. With the zero value, none is parked.
type ParkOptions struct {
	Hub        *park.Hub      // nil: no session is parked
	Pool       *upstream.Pool // the pool of warm connections; not nil if Hub isn't
	Linger     time.Duration  // in IDLE: time since the client's last byte
	QuietAfter time.Duration  // outside IDLE: time since the client's last byte; 0: never
	Keepalive  time.Duration  // between "Still here" lines to parked clients in IDLE; 0: 2 min, negative: none
	// ResumeConcurrency bounds the resumes that run at a time per backend; 0: 32. ResumeRate bounds how many
	// begin per second; 0: no limit.
	ResumeConcurrency, ResumeRate int
	// A resume that fails is tried again for ResumeWithin, then the session ends. ResumeTry bounds one
	// attempt, so that a connection that hangs doesn't delay one that would work. 0: the defaults.
	ResumeWithin, ResumeTry time.Duration
}

// Defaults of ParkOptions.
const (
	// DefaultResumeWithin is long enough for a backend that restarts.
	DefaultResumeWithin = 45 * time.Second
	DefaultResumeTry    = 20 * time.Second
	// defaultResumes is how many resumes run at a time per backend.
	defaultResumes = 32
)

// KeepaliveEvery is the interval of "Still here" lines to parked clients in IDLE; 0: none.
func (o ParkOptions) KeepaliveEvery() time.Duration { return OrDefault(o.Keepalive, 2*time.Minute) }

// ResumesAtATime is how many resumes run at a time per backend.
func (o ParkOptions) ResumesAtATime() int {
	if o.ResumeConcurrency <= 0 {
		return defaultResumes
	}
	return o.ResumeConcurrency
}

// refused closes pooled connections after a backend has refused the login of k's user: all that were opened
// with a credential that the backend no longer accepts, or all of the user's if the backend's limit of
// connections per user is reached. again says that another attempt may succeed.
func (o *ParkOptions) refused(k upstream.PoolKey, user string, err error) (again bool) {
	var refused *upstream.Refused
	var down *upstream.Unavailable
	switch {
	case errors.As(err, &refused):
		o.Pool.ForgetCredential(k)
	case errors.As(err, &down) && down.AtLimit():
		return o.Pool.ForgetUser(user) > 0
	}
	return false
}
