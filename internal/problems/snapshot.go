package problems

import "time"

// Snapshot is the state of a proxy at one moment. What is nil or zero isn't known, or isn't there.
type Snapshot struct {
	Now          time.Time
	Started      time.Time
	Version      string
	Backends     []Backend
	Refused      int     // logins of the last five minutes, since there was no backend for them
	Separate     bool    // storage is separate: each user has one home
	Consul       *Consul // nil: nothing comes from Consul
	Isolated     string  // how it goes on while it is cut off from the other proxies: serve, hold; "": it isn't
	Proxies      []Proxy // the other ones
	Policy       Policy
	Certificates []Cert
	Reload       *Reload // the last one, if it failed
	Descriptors  Use
	Memory       Use // bytes
	Sessions     Use
	Shortages    []Shortage
	Watches      Watches
	Push         *Push  // nil: push events are off
	UnknownTLS   string // why idle clients' buffers inside crypto/tls are left alone; "": they aren't
}

// Backend is what is known of a backend. The last four are of the last five minutes.
type Backend struct {
	Name, State, Reason string // State: up, draining, down
	Weight              int    // 0: no new users
	Since               time.Time
	Kept, Gone, Paused  bool
	Suspect             bool // it can't be reached
	Failures            int  // dials in a row
	LastError           string

	Waiting int // sessions that wait for a connection to it
	Answers int // logins and commands
	Slow    int // of these, those that took SlowAfter and longer
	Refused int // logins of clients
	GivenUp int // connections on which it was silent
}

// Consul is when something last came from there.
type Consul struct {
	Answered time.Time // zero: never
	Saved    bool      // the set of backends is the one from disk
	Outage   time.Time // since when there is no fleet in Consul that the proxies can go by; zero: there is one
}

// Proxy is another proxy of the service.
type Proxy struct {
	Name, Version string
	Lives         bool // its Consul session does
}

// Policy is how well the policy server answers.
type Policy struct {
	Failures int       // questions and reports in a row without an answer
	Since    time.Time // the first of them
	Error    string    // of the last
	Rejects  bool      // logins are refused meanwhile
}

// Cert is a certificate that the proxy shows, or what it verifies clients' certificates by.
type Cert struct {
	Of        string // the listener, with the certificate's name where it has several, or with "clients" and an authority's name; or admin
	List      bool   // it is the authority's revocation list
	NotBefore time.Time
	NotAfter  time.Time
	Error     string // why its files can't be read again; "": they can
}

// Reload is a reload that failed.
type Reload struct {
	At    time.Time
	Error string // the first mistake, with file and line
}

// Use is how much of a limit is used.
type Use struct {
	Used, Limit int64 // Limit 0: there is none, or it isn't known
}

// Shortage is something that the proxy ran out of.
type Shortage struct {
	Of, At, Error string
	Last          time.Time
}

// Watches counts watches that were given up.
type Watches struct {
	Lost uint64 // since the start
	Last time.Time
}

// Push is what push events have come.
type Push struct {
	Mailboxes int       // that rely on them
	Last      time.Time // zero: none
	Refused   time.Time // the last one that was; zero: none
	Why       string    // it was refused
}
