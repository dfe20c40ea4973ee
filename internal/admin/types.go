package admin

import "time"

// Status is GET /v1/status.
type Status struct {
	// Problems are what an operator should know of, the worst first (docs/operations.md, “Problems”).
	Problems      []Problem  `json:"problems"`
	Proxy         Proxying   `json:"proxy"`
	Version       string     `json:"version"`
	Hostname      string     `json:"hostname"`
	State         string     `json:"state"` // StateStarting, StateReady, StateLameDuck or StateDraining
	Time          time.Time  `json:"time"`
	Started       time.Time  `json:"started"`
	UptimeSeconds int64      `json:"uptime_seconds"`
	Listeners     []Listener `json:"listeners"` // by name
	Sessions      int64      `json:"sessions"`  // all, those before login included
	// Attachments counts sessions by the state of their backend connection.
	Attachments        map[string]int64 `json:"attachments"`
	BackendConnections int64            `json:"backend_connections"` // held by sessions
	// Backends counts the fleet by state: up, draining, down.
	Backends  map[string]int `json:"backends"`
	Discovery Discovery      `json:"discovery"`
	// Agreement is this proxy's part in what the proxies of the service agree on; null: they don't agree with each other.
	Agreement *Agreement `json:"agreement"`
	Parking   *Parking   `json:"parking"` // null: off
	Reload    *Reload    `json:"reload"`  // the last one; null: there was none
	// Certificates says when those in use end, the first one first; Resources how much is used of what has a limit.
	Certificates []CertificateEnd `json:"certificates"`
	Resources    []Resource       `json:"resources"`
	// Leaving are the older processes of this proxy that still serve sessions, after an upgrade, the latest first.
	Leaving []Leaving `json:"leaving"`
	// Shortages are what the proxy itself has run out of since the start, the latest first.
	Shortages []Shortage `json:"shortages"`
}

// Problem is one thing that is wrong.
type Problem struct {
	Kind     string     `json:"kind"`     // as the label of imapproxy_problems
	Critical bool       `json:"critical"` // clients are refused or wait now
	Subject  string     `json:"subject"`  // the backend, listener, proxy or resource; "": the proxy itself
	Text     string     `json:"text"`     // a sentence, without the subject
	Since    *time.Time `json:"since"`    // null: unknown
}

// Proxying describes a proxy as one of several.
type Proxying struct {
	ID     string `json:"id"`     // of the process
	Name   string `json:"name"`   // its registered name, or its host's name
	Config string `json:"config"` // a digest of the settings that the proxies of a service have in common; "": unknown
	// Epoch is the newest set of backends that the proxy has agreed to; null: the proxies don't agree on one.
	Epoch *int64 `json:"epoch"`
	// Isolated is the proxy's mode while it is cut off from the others: serve, hold; "": it isn't cut off.
	Isolated string `json:"isolated"`
}

// Agreement is a proxy's part in what all proxies agree on (docs/cluster.md).
type Agreement struct {
	State string `json:"state"` // joining, joined, isolated, leaving, left
	Epoch uint64 `json:"epoch"` // of the fleet that it uses
	Acked uint64 `json:"acked"` // the newest one that it has acknowledged to the others
	Users int    `json:"users"` // who have connections to backends through it
	Stays int    `json:"stays"` // buckets and users of them who are to be moved
	// Resting is how many of Stays are left where they are until the users have no connection (rebalance_rate 0).
	Resting int `json:"resting"`
	// Moving is Stays and Resting in words; "": all users are where they are to be.
	Moving string `json:"moving"`
	// Waiting is how many logins and resumes wait for the proxies to agree.
	Waiting int64      `json:"waiting"`
	Renewed *time.Time `json:"renewed"` // when the last renewal of its Consul session was sent that succeeded; null: none was
	// Outage is since when there is no fleet in Consul that it can go by; null: there is one.
	Outage *time.Time `json:"outage"`
	// MovesEnd is when the last bucket is moved for the first time; null: no proxy has users who are to be moved, or all of them rest.
	MovesEnd *time.Time   `json:"moves_end"`
	Proxies  []AgreedPeer `json:"proxies"` // all that the others take into account, by id
}

// AgreedPeer is a proxy as its key in Consul tells of it.
type AgreedPeer struct {
	ID          string    `json:"id"` // of the process
	Host        string    `json:"host"`
	Admin       string    `json:"admin"` // address of its admin API
	Version     string    `json:"version"`
	Started     time.Time `json:"started"`
	Acked       uint64    `json:"acked"`
	Stays       int       `json:"stays"`
	Unreachable []string  `json:"unreachable"` // backends that it can't reach
	// Session: its Consul session exists. If it doesn't, Removed is when the others stop waiting for the proxy; null: not known
	// yet.
	Session bool       `json:"session"`
	Removed *time.Time `json:"removed"`
}

// Leaving is an older process of this proxy, which serves its sessions after an upgrade.
type Leaving struct {
	ID       string    `json:"id"` // as Proxying.ID; "": it hasn't said yet
	PID      int       `json:"pid"`
	Version  string    `json:"version"`
	Sessions int       `json:"sessions"`
	Until    time.Time `json:"until"` // when the last ones end
}

// Shortage is a resource that the proxy itself ran out of, at one place.
type Shortage struct {
	Of    string    `json:"of"` // descriptors, ports, memory
	At    string    `json:"at"` // accept, dial, probe, handover
	Count int64     `json:"count"`
	Last  time.Time `json:"last"`
	Error string    `json:"error"` // the last error
}

// Reload is the result of the last reload of the configuration.
type Reload struct {
	Time  time.Time `json:"time"`
	OK    bool      `json:"ok"`    // false: the old settings stay
	Error string    `json:"error"` // why it failed: the first mistake; "" if it succeeded
	// NeedRestart are the settings whose new value a reload couldn't take; null where it failed.
	NeedRestart []string `json:"need_restart"`
}

// Parking describes the work for sessions without a backend connection
// (docs/parking.md).
type Parking struct {
	Enabled bool `json:"enabled"` // false: it was switched off, and its connections are being closed
	// WatchConnections and WarmConnections count connections to backends that belong to no session: those of
	// watches of mailboxes, and those that wait for reuse.
	WatchConnections int64 `json:"watch_connections"`
	WarmConnections  int64 `json:"warm_connections"`
	// Mailboxes counts the watched mailboxes by the source of hints of changes: push, notify, idle, poll.
	Mailboxes map[string]int64 `json:"mailboxes"`
	Waiting   int64            `json:"waiting"` // mailboxes that wait for a resync

	// The following count from the start.
	Hints   map[string]int64 `json:"hints"`   // by source
	Resyncs map[string]int64 `json:"resyncs"` // by outcome: ok, failed
	Events  map[string]int64 `json:"events"`  // push events by outcome; null: they are off
	// Forwarded counts what push events said that went to or came from the other proxies: sent, lost, received; null: nothing yet.
	Forwarded map[string]int64 `json:"forwarded"`
}

// States of a Status.
const (
	StateStarting = "starting" // no set of backends is known yet
	StateReady    = "ready"
	StateLameDuck = "lame_duck" // it stops soon, and accepts clients until then
	StateDraining = "draining"  // it stops: no new sessions
)

// Listener is an address that clients connect to.
type Listener struct {
	Name    string `json:"name"`
	Address string `json:"address"` // as bound, host:port
}

// Discovery tells the age of the set of backends.
type Discovery struct {
	LastGood   *time.Time `json:"last_good"`   // null: never
	AgeSeconds *int64     `json:"age_seconds"` // since LastGood
	// Saved: there was no live answer since the start; the set was read from disk
	// (discovery.consul.cache_file).
	Saved bool `json:"saved"`
}

// Backends is GET /v1/backends.
type Backends struct {
	Backends []Backend `json:"backends"` // by id
	// Drains are the backends that users leave, with how far this proxy is; those that operators drain also while they aren't listed.
	Drains []Drain `json:"drains"`
	// Pauses are the backends that operators have paused, with what this proxy still has there.
	Pauses []Pause `json:"pauses"`
	// Differences are the capabilities in which the backends differ, as far as they are known.
	Differences []Difference `json:"differences"`
}

// Difference is a capability that some backends have and others don't.
type Difference struct {
	Capability string   `json:"capability"`
	Have       []string `json:"have"` // the backends' names
	Lack       []string `json:"lack"`
}

// Backend is one IMAP server of the fleet.
type Backend struct {
	ID         string    `json:"id"`        // its name, which may change
	StableID   string    `json:"stable_id"` // the id to which users are pinned, which doesn't change
	Address    string    `json:"address"`
	State      string    `json:"state"`  // up, draining, down
	Reason     string    `json:"reason"` // of the state, in a few words
	Since      time.Time `json:"since"`  // since when it has this state
	Weight     int       `json:"weight"`
	Tags       []string  `json:"tags"`
	TLS        string    `json:"tls"` // none, starttls, implicit; "": backend_defaults
	ServerName string    `json:"server_name"`
	Datacenter string    `json:"datacenter"`
	Node       string    `json:"node"`
	Pins       int       `json:"pins"`     // users, those in their grace included
	Sessions   int       `json:"sessions"` // logged in
	// UserShare is its part of this proxy's users, WeightShare its part of the weights of the backends that are up; 0 to 1.
	UserShare   float64 `json:"user_share"`
	WeightShare float64 `json:"weight_share"`
	// Attachments counts its sessions by the state of their backend connection.
	Attachments map[string]int `json:"attachments"`
	// Lately is what this proxy has seen of it in the last five minutes.
	Lately BackendLately `json:"lately"`
	// Kept: discovery took it away; the panic threshold keeps it.
	Kept bool `json:"kept"`
	// Damped: it flaps, and gets no new users until it has been usable for a while.
	Damped bool `json:"damped"`
	Flaps  int  `json:"flaps"` // how often discovery took it away lately
	// Gone: discovery no longer lists it, users are still pinned to it.
	Gone bool `json:"gone"`
	// Connections counts this proxy's logged-in connections there; from Bound on no connection is kept for
	// reuse; 0: no bound.
	Connections int `json:"connections"`
	Bound       int `json:"bound"`
	// Suspect: so many dials failed in a row that new users go to other backends.
	Suspect     bool       `json:"suspect"`
	Failures    int        `json:"failures"` // dials in a row
	LastFailure *time.Time `json:"last_failure"`
	LastError   string     `json:"last_error"`
	// Capabilities is what clients are told of there after login, without what the proxy takes over; CapabilitiesFrom says where that is known from: login,
	// greeting; "": it isn't known.
	Capabilities     []string `json:"capabilities"`
	CapabilitiesFrom string   `json:"capabilities_from"`
}

// Sessions is GET /v1/sessions.
type Sessions struct {
	Sessions []Session         `json:"sessions"` // by id
	Reasons  map[string]string `json:"reasons"`  // descriptions of the values of NotParked in this page
	Next     string            `json:"next"`     // the next page's after; "": this is the last
	// Leaving are the older processes of this proxy, after an upgrade. Their sessions aren't in the page.
	Leaving []Leaving `json:"leaving"`
}

// Session is one client connection.
type Session struct {
	ID           string    `json:"id"`
	User         string    `json:"user"`    // "" before login
	Backend      string    `json:"backend"` // its name; "" before login
	Why          string    `json:"why"`     // the rule that chose the backend
	Client       string    `json:"client"`  // address:port
	Listener     string    `json:"listener"`
	TLS          bool      `json:"tls"`
	Compressed   bool      `json:"compressed"` // the client has turned compression on
	State        string    `json:"state"`      // IMAP's: not authenticated, authenticated, selected, logout
	Attachment   string    `json:"attachment"` // the state of its backend connection
	NotParked    string    `json:"not_parked"` // the reason why it isn't parked; "": none
	Idle         bool      `json:"idle"`       // in IDLE
	InFlight     int       `json:"in_flight"`  // commands that wait for their answers
	Started      time.Time `json:"started"`
	LastActivity time.Time `json:"last_activity"`
	BytesIn      int64     `json:"bytes_in"`  // from the client
	BytesOut     int64     `json:"bytes_out"` // to the client
	Commands     int64     `json:"commands"`
	TraceID      string    `json:"trace_id"`  // of its login's trace, if that was kept
	TraceURL     string    `json:"trace_url"` // leads there, if telemetry.trace_url is set
}

// Health is GET /healthz and /readyz.
type Health struct {
	OK     bool   `json:"ok"`
	Reason string `json:"reason,omitempty"` // why not
}

// Error is every answer that isn't a success.
type Error struct {
	Error ErrorBody `json:"error"`
}

// ErrorBody says what was wrong.
type ErrorBody struct {
	Code    string `json:"code"` // one of the Code constants
	Message string `json:"message"`
}

// Codes of an Error.
const (
	CodeBadRequest   = "bad_request"        // 400: a parameter
	CodeUnauthorized = "unauthorized"       // 401: no token, or a wrong one
	CodeForbidden    = "forbidden_host"     // 403: the Host header isn't this machine
	CodeNoToken      = "no_token"           // 403: the request changes something, and there is no token_file
	CodeReadOnly     = "read_only"          // 403: the same, with the token of read_token_file
	CodeNotFound     = "not_found"          // 404
	CodeSelf         = "self"               // 508: a proxy that asked its peers has asked itself
	CodeMethod       = "method_not_allowed" // 405
	CodeUnavailable  = "unavailable"        // 503: try again
)
