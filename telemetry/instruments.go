package telemetry

// Kind is what an instrument measures, in the words of the OpenTelemetry API.
type Kind string

// The kinds of instrument.
const (
	Counter   Kind = "counter"   // only grows
	UpDown    Kind = "updown"    // a sum that goes up and down; a gauge for Prometheus
	Gauge     Kind = "gauge"     // a value as it stands when it is read
	Histogram Kind = "histogram" // a distribution, in buckets
)

// Attribute is one dimension of an instrument.
type Attribute struct {
	Key    string
	Values string // what it can say, for the documentation
}

// Instrument is one row of the table.
type Instrument struct {
	Name       string // the OpenTelemetry name; Prometheus' follows from it
	Kind       Kind
	Unit       string // UCUM: "s", "By", or an annotation such as "{session}"
	Help       string
	Attributes []Attribute
	Buckets    []float64 // of a Histogram, in its unit
}

// The names of the instruments, so that a recording method and the table can't
// drift apart by a typing error.
const (
	nameBuildInfo          = "imapproxy.build.info"
	nameReloads            = "imapproxy.reloads"
	nameSessions           = "imapproxy.sessions"
	nameSessionsOpened     = "imapproxy.sessions.opened"
	nameSessionsClosed     = "imapproxy.sessions.closed"
	nameSessionDuration    = "imapproxy.session.duration"
	nameConnectionsRefused = "imapproxy.connections.refused"
	nameTLSHandshake       = "imapproxy.tls.handshake.duration"
	nameLogin              = "imapproxy.login.duration"
	nameLoginFailures      = "imapproxy.login.failures"
	nameCommands           = "imapproxy.commands"
	nameCommandDuration    = "imapproxy.command.duration"
	nameCommandBackendWait = "imapproxy.command.backend_wait"
	nameRelayed            = "imapproxy.relayed"
	nameBackendDial        = "imapproxy.backend.dial.duration"
	nameBackendLogin       = "imapproxy.backend.login.duration"
	nameBackendConns       = "imapproxy.backend.connections"
	nameBackendRetries     = "imapproxy.backend.retries"
	nameFailovers          = "imapproxy.failovers"
	nameBackends           = "imapproxy.backends"
	nameBackendSessions    = "imapproxy.backend.sessions"
	namePins               = "imapproxy.pins"
	nameDiscoveryAge       = "imapproxy.discovery.age"
	nameDiscoveryUpdates   = "imapproxy.discovery.updates"
	nameParks              = "imapproxy.parks"
	nameParkRefusals       = "imapproxy.park.refusals"
	nameResume             = "imapproxy.resume.duration"
	nameParkMailboxes      = "imapproxy.park.mailboxes"
	nameParkHints          = "imapproxy.park.hints"
	nameParkWatches        = "imapproxy.park.watches"
	nameParkResyncs        = "imapproxy.park.resyncs"
	nameParkResyncDuration = "imapproxy.park.resync.duration"
	nameParkWaiting        = "imapproxy.park.resyncs.waiting"
	nameParkEvents         = "imapproxy.park.events"
	nameParkNotices        = "imapproxy.park.event.notices"
	namePoolGiven          = "imapproxy.pool.given"
	namePoolAsked          = "imapproxy.pool.asked"
	namePoolClosed         = "imapproxy.pool.closed"
	nameTelemetrySpans     = "imapproxy.telemetry.spans"
	nameTelemetryExports   = "imapproxy.telemetry.exports"
	nameTelemetryLogLines  = "imapproxy.telemetry.log_lines.dropped"
)

// Instruments returns the table of all instruments of the proxy, in the order
// in which docs/metrics.md shows them. It is the only place where a name, a unit
// or a help text stands; to add an instrument, add its row, its name above and
// the method that records it, then regenerate the documentation.
func Instruments() []Instrument {
	// A handshake, dial or command on a healthy network takes milliseconds; a
	// time-out takes up to a minute. Twelve bounds cover both ends.
	seconds := []float64{0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 20}
	// Sessions last from a script's second to a desktop client's week.
	lifetimes := []float64{1, 10, 60, 300, 1800, 7200, 28800, 86400, 604800}

	backend := Attribute{"backend", "the backend's id"}
	verb := Attribute{"verb", "the command's name from a closed set (`UID FETCH`, `IDLE`, …), `OTHER` for all else"}
	status := Attribute{"status", "`OK`, `NO`, `BAD`, or `cut` (no tagged answer came)"}

	return []Instrument{
		{nameBuildInfo, Gauge, "", "Always 1; its labels say which build is running.",
			[]Attribute{{"version", "the proxy's version"}, {"go_version", "the Go release it was built with"}}, nil},

		{nameReloads, Counter, "{reload}", "Reloads of the configuration (SIGHUP).",
			[]Attribute{{"outcome", "`ok`, or `failed`: the old settings stay, `imapproxy status` says why"}}, nil},

		// Sessions: what clients do.
		{nameSessions, Gauge, "{session}", "Sessions now, by where their backend connection stands.",
			[]Attribute{{"attachment", "`none` (not logged in), `attached`, `parking`, `parked` (no backend connection), `resuming`, `ended` (told to go, and going)"}}, nil},
		{nameSessionsOpened, Counter, "{session}", "Sessions accepted.",
			[]Attribute{{"listener", "the listener's name"}, {"tls", "`true` where the listener begins with TLS"}}, nil},
		{nameSessionsClosed, Counter, "{session}", "Sessions ended, by why: docs/operations.md says which of them get a BYE.",
			[]Attribute{{"reason", "the disconnect reason, a constant of the proxy"}, {"attachment", "where the session's backend connection stood then, as in imapproxy_sessions"}}, nil},
		{nameSessionDuration, Histogram, "s", "How long sessions lasted, from accept to the last byte.",
			nil, lifetimes},
		{nameConnectionsRefused, Counter, "{connection}", "Connections turned away before they became sessions, and logins turned away by a limit.",
			[]Attribute{{"reason", "which limit or rule"}}, nil},
		{nameTLSHandshake, Histogram, "s", "TLS handshakes with clients.",
			[]Attribute{{"outcome", "`ok`, or what went wrong"}}, seconds},

		// Logins.
		{nameLogin, Histogram, "s", "Login attempts, from the client's command to the answer; the delay after a failure is not in it.",
			[]Attribute{{"mechanism", "`LOGIN`, `PLAIN`, … or `OTHER`"}, {"source", "the credential source that decided, empty where none did"}, {"outcome", "`ok`, or what went wrong"}}, seconds},
		{nameLoginFailures, Counter, "{attempt}", "Failed login attempts, by why.",
			[]Attribute{{"reason", "the failure reason, a constant of the proxy"}}, nil},

		// The relay.
		{nameCommands, Counter, "{command}", "Commands relayed, by name and tagged status.",
			[]Attribute{verb, status}, nil},
		{nameCommandDuration, Histogram, "s", "From a command's first byte to its tagged answer's last. IDLE is left out: it lasts as long as the client wishes.",
			[]Attribute{verb, status}, seconds},
		{nameCommandBackendWait, Histogram, "s", "The part of a command's time in which the proxy waited for the backend. IDLE is left out.",
			[]Attribute{verb}, seconds},
		{nameRelayed, Counter, "By", "Bytes of IMAP relayed, without what TLS adds.",
			[]Attribute{{"direction", "`in` (client to backend) or `out` (backend to client)"}}, nil},

		// Backends.
		{nameBackendDial, Histogram, "s", "TCP connections to backends, made or failed.",
			[]Attribute{backend, {"outcome", "`ok`, or what went wrong"}}, seconds},
		{nameBackendLogin, Histogram, "s", "Logins at backends, from the greeting to the tagged answer.",
			[]Attribute{backend, {"outcome", "`ok`, or what went wrong"}}, seconds},
		{nameBackendConns, UpDown, "{connection}", "Connections to backends that are open now.",
			[]Attribute{backend, {"kind", "what it is for: `session`, `probe`, `watch` (looks after the mailboxes of parked sessions), `warm` (waits to be used again)"}}, nil},
		{nameBackendRetries, Counter, "{attempt}", "Logins tried again on another backend after one failed.",
			[]Attribute{{"reason", "what the first backend did"}}, nil},
		{nameFailovers, Counter, "{user}", "Users given a new backend because theirs was down.",
			[]Attribute{{"reason", "what voided the pin"}}, nil},

		// Routing and discovery.
		{nameBackends, Gauge, "{backend}", "Backends known, by state.",
			[]Attribute{{"state", "`up`, `draining` or `down`"}}, nil},
		{nameBackendSessions, Gauge, "{session}", "Sessions routed to a backend.",
			[]Attribute{backend}, nil},
		{namePins, Gauge, "{user}", "Users pinned to a backend, those within pin_grace included.",
			nil, nil},
		{nameDiscoveryAge, Gauge, "s", "How long ago the discovery last gave a good answer, before a restart included where the set was kept on disk. Absent until there is one.",
			nil, nil},
		{nameDiscoveryUpdates, Counter, "{update}", "Answers of the discovery, by what was done with them.",
			[]Attribute{{"source", "`consul` or `static`"}, {"outcome", "`applied`, `unchanged`, `kept` (a suspicious answer; the last good set stands), `saved` (none at the start; the set kept on disk is used), `error`"}}, nil},

		// Parking (docs/parking.md).
		{nameParks, Counter, "{park}", "Attempts to take an idle session's backend connection away.",
			[]Attribute{{"outcome", "`parked`, or why the session kept its connection: docs/operations.md, “Why isn't it parked”; `ended`: the session ended meanwhile"}, {"strategy", "how the mailbox is looked at meanwhile: `qresync`, `comparison`, or `none` where no mailbox is selected, or it can't be parked"}}, nil},
		{nameParkRefusals, Counter, "{session}", "Sessions that were quiet for long enough and weren't parked, counted once for each time that they fell quiet.",
			[]Attribute{{"reason", "what keeps the session's backend connection: docs/operations.md, “Why isn't it parked”"}}, nil},
		{nameResume, Histogram, "s", "Giving a parked session a backend connection again, from what it needed one for until that can go on.",
			[]Attribute{{"outcome", "`ok`, or what ended the session instead"}, {"source", "`pool`: on a warm connection; `login`: after a login; `none`: it got none"}, {"wake", "what needed it: the client's command from the set of `verb` above, `DONE` (the mailbox couldn't be looked at), `lost_watch` (no hints any more), `off` (parking was switched off)"}}, seconds},
		{nameParkMailboxes, Gauge, "{mailbox}", "Mailboxes that are looked after for parked sessions, by where hints of changes come from.",
			[]Attribute{{"watch", "`push` (events of the backend, no connection), `notify`, `idle`, `poll`"}}, nil},
		{nameParkWatches, Counter, "{watch}", "What became of watches, and of wishes for one.",
			[]Attribute{{"outcome", "`renewed` (failed, and stands again), `lost` (given up: its sessions get their connections back), `gone` (the mailbox is gone: its sessions end with BYE), `denied` (none to be had for a session that was to be parked)"}}, nil},
		{nameParkHints, Counter, "{hint}", "Hints that a mailbox with parked sessions may have changed.",
			[]Attribute{{"source", "`push`, `watch`, `notify`, `poll`, `command` (relayed for the same user), `sweep`"}}, nil},
		{nameParkResyncs, Counter, "{resync}", "Looks into mailboxes for their parked sessions, and for one that parks or resumes.",
			[]Attribute{{"outcome", "`ok` or `failed`"}, {"strategy", "`qresync` or `comparison`"}, {"reason", "the source of the first hint that led to it, or `renewed` (the watch had stood still), `join` (something was heard while the session was being parked, or it was parked outside IDLE), `look` (a parked client asked), `park`, `resume`"}}, nil},
		{nameParkResyncDuration, Histogram, "s", "How long a resync took, from when it may begin to the last client told; the wait for its turn isn't in it.",
			[]Attribute{{"outcome", "`ok` or `failed`"}, {"strategy", "`qresync` or `comparison`"}}, seconds},
		{nameParkWaiting, Gauge, "{mailbox}", "Mailboxes that wait for a resync.",
			nil, nil},
		{nameParkEvents, Counter, "{event}", "Push events received.",
			[]Attribute{{"outcome", "the format that was understood (`own`, `cyrus`, `ox`), or `unauthorized`, `malformed`, `busy`"}}, nil},
		{nameParkNotices, Counter, "{notice}", "What push events said of users' mailboxes, by what became of it.",
			[]Attribute{{"outcome", "`hint`, `merged` (such a hint waited already), `unwanted` (nobody is parked there), `bad_user` (no user can have that name), `lost` (no room: the sweep will find it)"}}, nil},
		{namePoolGiven, Counter, "{connection}", "Connections left to the pool of warm ones.",
			[]Attribute{{"use", "`session` or `watch`: they are never mixed"}}, nil},
		{namePoolAsked, Counter, "{connection}", "Wishes for a warm connection, each of which saves a login where it is granted.",
			[]Attribute{{"use", "as above"}, {"outcome", "`lent` or `none`"}}, nil},
		{namePoolClosed, Counter, "{connection}", "Connections that the pool closed, or didn't take.",
			[]Attribute{{"reason", "`expired` (park.warm_for), `ended` (by the backend, or it said something), `per_user` and `total` (park.warm_per_user, park.warm_connections), `forgotten` (the backend drains, is gone, refuses the user or has too many of his), `unclean` (not fit for another use), `off` (nothing is kept)"}}, nil},

		// Telemetry about itself.
		{nameTelemetrySpans, Counter, "{span}", "Spans that were to be exported.",
			[]Attribute{{"outcome", "`exported`, `failed` (the endpoint did not take them), `dropped` (the queue was full)"}}, nil},
		{nameTelemetryExports, Counter, "{export}", "Requests to the OTLP endpoints.",
			[]Attribute{{"signal", "`traces` or `metrics`"}, {"outcome", "`ok` or `error`"}}, nil},
		{nameTelemetryLogLines, Counter, "{line}", "Log lines that were lost.",
			[]Attribute{{"reason", "`slow` (the log's reader or disk didn't keep up), `failed` (the write failed, as on a full disk)"}}, nil},
	}
}
