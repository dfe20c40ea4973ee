package admin

// BackendLately is what one proxy has seen of a backend in the last minutes.
type BackendLately struct {
	Seconds int     `json:"seconds"` // that are counted
	Dial    Lasting `json:"dial"`    // TCP connects that succeeded
	Login   Lasting `json:"login"`   // logins that succeeded, from the established connection on
	Answer  Lasting `json:"answer"`  // commands, from their last byte to the first byte of the backend's answer
	// Slow counts logins and commands of two seconds and longer.
	Slow         int `json:"slow"`
	FailedDials  int `json:"failed_dials"`
	FailedLogins int `json:"failed_logins"` // those with a wrong password included
	// RefusedLogins counts clients' logins that were refused because of it; Silent the connections that were given up since it was silent on them.
	RefusedLogins int `json:"refused_logins"`
	Silent        int `json:"silent"`
}

// Lasting says how long something took.
type Lasting struct {
	Count int     `json:"count"`
	P50   float64 `json:"p50"` // milliseconds; 0: there were none
	P99   float64 `json:"p99"`
}
