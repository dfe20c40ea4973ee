package session

import "time"

// Limits bound what clients may use. Zero means no limit for counts and the default for times.
type Limits struct {
	Connections      int           // sessions that have logged in
	Prelogin         int           // connections that haven't; the oldest one of the busiest network is closed
	Descriptors      int           // files that the process may have open; some are reserved for other uses
	PerIP            int           // from one address (IPv6: one /64)
	PerUser          int           // sessions of one user
	UnprovedLogins   int           // concurrent logins at one backend that is to prove their passwords; 0: 32
	PreloginTimeout  time.Duration // from accept to the end of the login; 0: 60 s
	IdleTimeout      time.Duration // no byte from either side; 0: 31 min; RFC 9051 §5.4 asks for at least 30
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

// OrDefault returns d, def if d is 0, and 0 if d is negative.
func OrDefault(d, def time.Duration) time.Duration {
	switch {
	case d == 0:
		return def
	case d < 0:
		return 0
	}
	return d
}

// reserve is how many file descriptors are reserved for other uses than clients: log and certificate files,
// Consul, the admin address, listeners, probes, and the backend connections of logins and resumes in progress.
func (l Limits) reserve() int { return min(64+l.Descriptors/32, l.Descriptors/2) }

// maxPrelogin bounds prelogin if the setting is 0: silent clients under TLS then take half a GB.
const maxPrelogin = 16384

// prelogin is how many clients that haven't logged in may be connected, given the number of logged-in sessions
// and of connections to backends; 0: no limit. If the setting is 0, it is a quarter of the descriptors for
// clients and at most maxPrelogin: many more than log in at the same time, and few enough to leave descriptors
// and memory to logged-in clients. If sessions have taken more than the rest, it is what they have left:
// silent clients give way to clients that log in.
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

// Crowded says whether another connection to a client or a backend would use the half of the reserve that is
// kept for files and the admin address.
func (l Limits) Crowded(clients, backends int) bool {
	return l.Descriptors > 0 && clients+backends+l.reserve()/2 > l.Descriptors
}
