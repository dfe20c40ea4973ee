package admin

import "time"

// History is GET /v1/history: an hour of samples, and the bill.
type History struct {
	EverySeconds int      `json:"every_seconds"` // between samples
	Samples      []Sample `json:"samples"`       // the oldest first
	Bill         Bill     `json:"bill"`
	// The limits of Sample.Descriptors and Sample.Memory; 0: none is known.
	DescriptorLimit int64 `json:"descriptor_limit"`
	MemoryLimit     int64 `json:"memory_limit"`
}

// Sample is the proxy at one moment, and what has happened since the sample before.
type Sample struct {
	Time        time.Time `json:"time"`
	Sessions    int64     `json:"sessions"`    // all, those before login included
	LoggedIn    int64     `json:"logged_in"`   // without parking as many connections to backends would be needed
	Parked      int64     `json:"parked"`      // of these
	Connections int64     `json:"connections"` // to backends: of sessions, watches, and warm ones
	Descriptors int64     `json:"descriptors"`
	Memory      int64     `json:"memory"` // bytes
	// Since the sample before:
	Logins        int64 `json:"logins"`         // of clients that succeeded
	FailedLogins  int64 `json:"failed_logins"`  // of clients
	BackendLogins int64 `json:"backend_logins"` // at backends
	Commands      int64 `json:"commands"`       // without IDLE
	P50           Times `json:"p50"`            // of these commands
	P99           Times `json:"p99"`
}

// Times are a quantile of commands' times and of its parts, in milliseconds.
type Times struct {
	All     float64 `json:"all"`
	Client  float64 `json:"client"`  // the client didn't read
	Proxy   float64 `json:"proxy"`   // the command was on its way to the backend
	Backend float64 `json:"backend"` // the proxy waited for the backend
	Resume  float64 `json:"resume"`  // the session had no backend connection
}

// Bill is what parking saves.
type Bill struct {
	// BackendProcessMemory is park.backend_process_memory, in bytes; 0: it isn't given, and memory isn't known.
	BackendProcessMemory int64  `json:"backend_process_memory"`
	Now                  Saved  `json:"now"`  // of the last sample
	Hour                 Saved  `json:"hour"` // means over the last 60 minutes, or since the start
	Day                  Saved  `json:"day"`  // means over the last 24 hours, or since the start
	Formula              string `json:"formula"`
}

// Saved is what parking has saved in a time.
type Saved struct {
	Seconds     int64   `json:"seconds"`      // that were measured
	LoggedIn    float64 `json:"logged_in"`    // sessions, on average
	Connections float64 `json:"connections"`  // to backends, on average
	Saved       float64 `json:"saved"`        // LoggedIn less Connections: connections, and processes of backends
	SavedMemory int64   `json:"saved_memory"` // bytes: Saved times BackendProcessMemory
	// Logins are the clients', BackendLogins those at backends; the difference is saved. It is negative where parking costs logins.
	Logins        int64 `json:"logins"`
	BackendLogins int64 `json:"backend_logins"`
	SavedLogins   int64 `json:"saved_logins"`
}

// Formula says how Saved is computed. docs/operations.md explains it.
const Formula = "connections saved = sessions that have logged in - connections to backends (of sessions, watches, and warm ones); " +
	"processes saved = connections saved; memory saved = processes saved × park.backend_process_memory; " +
	"logins saved = successful logins of clients - successful logins at backends"

// Changes is GET /v1/changes: the last events of the service, the latest first.
type Changes struct {
	Changes []Change `json:"changes"`
}

// Change is a line of the log about the service as a whole.
type Change struct {
	Time    time.Time `json:"time"`
	Level   string    `json:"level"` // info, warn, error
	Message string    `json:"message"`
	Fields  []Field   `json:"fields"` // in the log's order
}

// Field is a name and a value of a log line.
type Field struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// EndedSessions is GET /v1/ended: the last sessions that have ended, the latest first.
type EndedSessions struct {
	Sessions []EndedSession    `json:"sessions"`
	Reasons  map[string]string `json:"reasons"` // descriptions of the reasons in this answer
}

// EndedSession is a session that has ended.
type EndedSession struct {
	ID       string    `json:"id"`
	Time     time.Time `json:"time"` // of its end
	Reason   string    `json:"reason"`
	User     string    `json:"user"`
	Backend  string    `json:"backend"`
	Client   string    `json:"client"`
	Listener string    `json:"listener"`
	Duration string    `json:"duration"`
	Commands string    `json:"commands"`
	BytesIn  string    `json:"bytes_in"`
	BytesOut string    `json:"bytes_out"`
}

// Failing is GET /v1/failing: the addresses, networks and users whose logins have failed lately.
type Failing struct {
	Since     time.Time      `json:"since"` // what is counted: 15 minutes, or less where there were very many
	Failures  int            `json:"failures"`
	Addresses []FailingCount `json:"addresses"` // those with the most failures first, 20 at most of each list
	Networks  []FailingCount `json:"networks"`  // /24 and /64
	Users     []FailingCount `json:"users"`
	Reasons   []FailingCount `json:"reasons"`
}

// FailingCount is an address, a network, a user or a reason.
type FailingCount struct {
	Name     string    `json:"name"`
	Failures int       `json:"failures"`
	Last     time.Time `json:"last"`
	Reason   string    `json:"reason"` // of the last one
}

// SlowCommands is GET /v1/slow: the last commands that took telemetry.traces.slow and longer, the latest first.
type SlowCommands struct {
	Commands []SlowCommand `json:"commands"`
}

// SlowCommand is one of them.
type SlowCommand struct {
	Session string `json:"session"`
	User    string `json:"user"`
	Backend string `json:"backend"`
	SessionCommand
}

// SessionCommands is GET /v1/commands: what a session did lately, the latest first.
type SessionCommands struct {
	Session     string             `json:"session"`
	Commands    []SessionCommand   `json:"commands"`    // the last 20, as far as they are among the last 16,384 of all sessions
	Attachments []AttachmentChange `json:"attachments"` // the last 50, as far as they are among the last 8,192 of all sessions
}

// SessionCommand is one command. Its times are in seconds.
type SessionCommand struct {
	Time    time.Time `json:"time"` // of its end
	Command string    `json:"command"`
	Status  string    `json:"status"`
	Took    float64   `json:"took"`
	Client  float64   `json:"client"`
	Proxy   float64   `json:"proxy"`
	Waited  float64   `json:"backend_wait"`
	Resume  float64   `json:"resume"`
	// TraceID is the id of its trace, if one was kept; TraceURL leads there, if telemetry.trace_url is set.
	TraceID  string `json:"trace_id"`
	TraceURL string `json:"trace_url"`
}

// AttachmentChange is a change of the state of a session's backend connection.
type AttachmentChange struct {
	Time time.Time `json:"time"`
	From string    `json:"from"`
	To   string    `json:"to"`
}

// Access is GET /v1/access: what the caller may do.
type Access struct {
	Change bool   `json:"change"` // the caller may use the verbs
	Why    string `json:"why"`    // if not
	Token  bool   `json:"token"`  // if not: the operator's token would permit it
}
