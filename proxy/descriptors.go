package proxy

// reserve is how many file descriptors are kept from clients: for the log and
// certificate files, Consul, the admin address, listeners, probes, and the backend
// connections of logins and resumes that are under way.
func (l Limits) reserve() int { return min(64+l.Descriptors/32, l.Descriptors/2) }

// prelogin is how many clients may be connected that haven't logged in; 0: no limit. Where
// it isn't said, a quarter of what there is for clients: many more than
// log in at a time, and few enough that those who have logged in aren't kept out.
func (l Limits) prelogin() int {
	if l.Prelogin > 0 || l.Descriptors == 0 {
		return l.Prelogin
	}
	return max((l.Descriptors-l.reserve())/4, 1)
}
