package proxy

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

// crowded says that another connection to a client or a backend would come out of the half of
// the reserve that isn't theirs: files and the admin address need it.
func (l Limits) crowded(clients, backends int) bool {
	return l.Descriptors > 0 && clients+backends+l.reserve()/2 > l.Descriptors
}

// crowded is asked before a session or a watch gets another of so many connections to backends.
func (s *Server) crowded(backends int) bool {
	return s.set.Load().Limits.crowded(int(s.reg.total.Load()), backends)
}
