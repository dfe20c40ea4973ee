package session

import "time"

// Limits bound what clients may have. Zero is no limit for counts, and the
// default for times.
type Limits struct {
	Connections      int           // sessions that have logged in
	Prelogin         int           // connections that haven't; the oldest of the busiest network goes
	Descriptors      int           // files that the process may have open: some are kept for other than clients
	PerIP            int           // from one address (IPv6: one /64)
	PerUser          int           // sessions of one user
	UnprovedLogins   int           // logins at a time at one backend that is to prove their passwords; 0: 32
	PreloginTimeout  time.Duration // from accept to the end of the login; 0: 60 s
	IdleTimeout      time.Duration // nothing said either way; 0: 31 min; RFC 9051 §5.4 asks for at least 30
	AuthFailureDelay time.Duration // before NO [AUTHENTICATIONFAILED]; 0: 2 s, negative: none
}

// Defaults of Limits.
const (
	DefaultPreloginTimeout  = time.Minute
	DefaultIdleTimeout      = 31 * time.Minute
	DefaultAuthFailureDelay = 2 * time.Second
)

// WithDefaults fills in the times that were left zero.
func (l Limits) WithDefaults() Limits {
	l.PreloginTimeout = OrDefault(l.PreloginTimeout, DefaultPreloginTimeout)
	l.IdleTimeout = OrDefault(l.IdleTimeout, DefaultIdleTimeout)
	l.AuthFailureDelay = OrDefault(l.AuthFailureDelay, DefaultAuthFailureDelay)
	return l
}

// OrDefault is d, the default where it is 0, and 0 where it is negative.
func OrDefault(d, def time.Duration) time.Duration {
	switch {
	case d == 0:
		return def
	case d < 0:
		return 0
	}
	return d
}

// reserve is how many file descriptors are kept from clients: for the log and
// certificate files, Consul, the admin address, listeners, probes, and the backend
// connections of logins and resumes that are under way.
func (l Limits) reserve() int { return min(64+l.Descriptors/32, l.Descriptors/2) }

// maxPrelogin bounds prelogin where it isn't said: half a GB of silent clients under TLS.
const maxPrelogin = 16384

// prelogin is how many clients may be connected that haven't logged in, while there are so
// many sessions that have, and connections to backends; 0: no limit. Where
// it isn't said, it is a quarter of what there is for clients, maxPrelogin at most: many more than
// log in at a time, and few enough that those who have logged in aren't kept out, nor the
// memory taken from them. Where
// sessions have taken more than the rest, it is what they have left: silent
// clients give way to those that log in.
func (l Limits) prelogin(sessions, backends int) int {
	if l.Descriptors == 0 {
		return l.Prelogin
	}
	most := l.Prelogin
	if most <= 0 {
		most = min((l.Descriptors-l.reserve())/4, maxPrelogin)
	}
	return max(min(most, l.left(sessions, backends)), 1)
}

// left is how many descriptors there are for clients that haven't logged in.
func (l Limits) left(sessions, backends int) int {
	return l.Descriptors - l.reserve() - sessions - backends
}

// Crowded says that another connection to a client or a backend would come out of the half of
// the reserve that isn't theirs: files and the admin address need it.
func (l Limits) Crowded(clients, backends int) bool {
	return l.Descriptors > 0 && clients+backends+l.reserve()/2 > l.Descriptors
}
