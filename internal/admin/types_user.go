package admin

import "time"

// FlushAnswer is the answer of POST /v1/flush.
type FlushAnswer struct {
	User            string `json:"user"`
	Pin             string `json:"pin"`              // none; now: it is gone; at_end: it goes with the last session
	WarmConnections int    `json:"warm_connections"` // that were closed, and with them the cached credentials
}

// User is GET /v1/user: one user, as one proxy knows them.
type User struct {
	User string `json:"user"`
	Pin  *Pin   `json:"pin"` // null: none
	// Goes is the backend to which a login of the user would go now, Why the rule that chooses it, Error the
	// reason if there is none.
	Goes  string `json:"goes"`
	Why   string `json:"why"`
	Error string `json:"error"`
	// Placement is the user's placement in Consul, if the proxy reads placements from there, or the one that the configuration has
	// for their domain; "": none.
	Placement string `json:"placement"`
	// Override is the backend to which an operator has moved the user, or to which a placement sends them with shared storage; "": none.
	Override        string    `json:"override"`
	Stay            *string   `json:"stay"` // null: the proxies don't agree on users' backends yet
	Sessions        []Session `json:"sessions"`
	More            bool      `json:"more"` // there are more sessions than these
	WarmConnections int       `json:"warm_connections"`
	Failures        []Failure `json:"failures"` // the latest first
}

// Pin describes a user's pin.
type Pin struct {
	Backend   string     `json:"backend"`
	Placement string     `json:"placement"` // the placement for which it was made
	Since     time.Time  `json:"since"`
	Ends      *time.Time `json:"ends"`     // null: there are sessions
	Sessions  int        `json:"sessions"` // logged in
	Holding   int        `json:"holding"`  // of these, with a connection to the backend
	Flushed   bool       `json:"flushed"`  // it ends with the last session
}

// Failure is a failed login or resume.
type Failure struct {
	Time    time.Time `json:"time"`
	What    string    `json:"what"` // login, resume
	Reason  string    `json:"reason"`
	Client  string    `json:"client"`
	Backend string    `json:"backend"`
	Error   string    `json:"error"`
}
