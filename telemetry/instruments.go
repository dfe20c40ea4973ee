package telemetry

// Kind is what an instrument measures, in the words of the OpenTelemetry API.
type Kind string

// The kinds of instrument.
const (
	Counter   Kind = "counter"   // only grows
	UpDown    Kind = "updown"    // a sum that goes up and down; a gauge for Prometheus
	Gauge     Kind = "gauge"     // a value at the moment of reading
	Histogram Kind = "histogram" // a distribution, in buckets
)

// Attribute is one dimension of an instrument.
type Attribute struct {
	Key    string
	Values string // its possible values, for the documentation
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
// differ by a typing error.
const (
	nameBuildInfo          = "imapproxy.build.info"
	nameReloads            = "imapproxy.reloads"
	nameReloadTime         = "imapproxy.reload.time"
	nameReloadOK           = "imapproxy.reload.ok"
	nameConfigInfo         = "imapproxy.config.info"
	nameConfigTime         = "imapproxy.config.time"
	nameCertificateEnd     = "imapproxy.certificate.end"
	nameRevocationsEnd     = "imapproxy.revocations.end"
	nameResourceUsed       = "imapproxy.resource.used"
	nameResourceLimit      = "imapproxy.resource.limit"
	nameConsulAnswer       = "imapproxy.consul.answer"
	nameSessions           = "imapproxy.sessions"
	nameSessionsOpened     = "imapproxy.sessions.opened"
	nameSessionsClosed     = "imapproxy.sessions.closed"
	nameSessionDuration    = "imapproxy.session.duration"
	nameConnectionsRefused = "imapproxy.connections.refused"
	nameTLSHandshake       = "imapproxy.tls.handshake.duration"
	nameLogin              = "imapproxy.login.duration"
	nameLoginFailures      = "imapproxy.login.failures"
	nameLoginDelays        = "imapproxy.login.delays"
	namePolicy             = "imapproxy.auth_policy.duration"
	namePolicyUnasked      = "imapproxy.auth_policy.unasked"
	nameCommands           = "imapproxy.commands"
	nameCommandDuration    = "imapproxy.command.duration"
	nameCommandBackendWait = "imapproxy.command.backend_wait"
	nameCommandResumeWait  = "imapproxy.command.resume_wait"
	nameBackendAnswer      = "imapproxy.backend.answer.duration"
	nameRelayed            = "imapproxy.relayed"
	nameCompressed         = "imapproxy.compressed"
	nameCompressions       = "imapproxy.compressions"
	nameBackendDial        = "imapproxy.backend.dial.duration"
	nameBackendLogin       = "imapproxy.backend.login.duration"
	nameBackendConns       = "imapproxy.backend.connections"
	nameBackendStalls      = "imapproxy.backend.stalls"
	nameBackendRetries     = "imapproxy.backend.retries"
	nameShortages          = "imapproxy.shortages"
	nameBackendFlaps       = "imapproxy.backend.flaps"
	nameFailovers          = "imapproxy.failovers"
	nameBackends           = "imapproxy.backends"
	nameBackendsPaused     = "imapproxy.backends.paused"
	nameProblems           = "imapproxy.problems"
	nameLeavingProcesses   = "imapproxy.leaving.processes"
	nameLeavingSessions    = "imapproxy.leaving.sessions"
	nameBackendSessions    = "imapproxy.backend.sessions"
	namePins               = "imapproxy.pins"
	nameDiscoveryAge       = "imapproxy.discovery.age"
	nameDiscoveryUpdates   = "imapproxy.discovery.updates"
	nameParks              = "imapproxy.parks"
	nameParkRefusals       = "imapproxy.park.refusals"
	nameResume             = "imapproxy.resume.duration"
	nameRecovery           = "imapproxy.recovery.duration"
	nameViewsLost          = "imapproxy.views.lost"
	nameSavedConnections   = "imapproxy.park.saved.connections"
	nameSavedMemory        = "imapproxy.park.saved.memory"
	nameSavedLogins        = "imapproxy.park.saved.logins"
	nameParkMailboxes      = "imapproxy.park.mailboxes"
	nameParkHints          = "imapproxy.park.hints"
	nameParkWatches        = "imapproxy.park.watches"
	nameParkResyncs        = "imapproxy.park.resyncs"
	nameParkResyncDuration = "imapproxy.park.resync.duration"
	nameParkWaiting        = "imapproxy.park.resyncs.waiting"
	nameParkEvents         = "imapproxy.park.events"
	nameParkNotices        = "imapproxy.park.event.notices"
	nameParkForwarded      = "imapproxy.park.event.forwarded"
	namePoolGiven          = "imapproxy.pool.given"
	namePoolAsked          = "imapproxy.pool.asked"
	namePoolClosed         = "imapproxy.pool.closed"
	nameClusterEpoch       = "imapproxy.cluster.epoch"
	nameClusterAcked       = "imapproxy.cluster.acked"
	nameClusterIsolated    = "imapproxy.cluster.isolated"
	nameClusterProxies     = "imapproxy.cluster.proxies"
	nameClusterStays       = "imapproxy.cluster.stays"
	nameClusterLeaving     = "imapproxy.cluster.leaving.users"
	nameClusterHeld        = "imapproxy.cluster.leaving.held"
	nameClusterTurns       = "imapproxy.cluster.leaving.turns"
	nameClusterWaiting     = "imapproxy.cluster.claims.waiting"
	nameClusterLate        = "imapproxy.cluster.claims.late"
	nameClusterSwitches    = "imapproxy.cluster.switches"
	nameTelemetrySpans     = "imapproxy.telemetry.spans"
	nameTelemetryRecords   = "imapproxy.telemetry.log_records"
	nameTelemetryExports   = "imapproxy.telemetry.exports"
	nameTelemetryLogLines  = "imapproxy.telemetry.log_lines.dropped"
)

// Instruments returns the table of all instruments of the proxy, in the order of docs/metrics.md. Only this
// table has names, units and help texts. To add an instrument, add its row, its name above and the method
// that records it, then regenerate the documentation.
func Instruments() []Instrument {
	// A handshake, dial or command on a healthy network takes milliseconds; a
	// time-out takes up to a minute. Twelve bounds cover both ends.
	seconds := []float64{0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5, 20}
	// Sessions last from a second (scripts) to a week (desktop clients).
	lifetimes := []float64{1, 10, 60, 300, 1800, 7200, 28800, 86400, 604800}

	backend := Attribute{"backend", "the backend's name: its service id in Consul, as ID@NODE where several nodes have it"}
	verb := Attribute{"verb", "the command's name, from a closed set: " + verbList() + ". `OTHER` is every command that isn't in it"}
	verbAsThere := Attribute{"verb", "the command's name, as in `imapproxy_commands_total`"}
	status := Attribute{"status", "`OK`, `NO`, `BAD`, `closed` (the client closed its connection in IDLE), or `cut` (no tagged answer came)"}

	return []Instrument{
		{nameBuildInfo, Gauge, "", "Always 1. The labels say which build is running.",
			[]Attribute{{"version", "the proxy's version"}, {"go_version", "the Go release it was built with"}}, nil},

		{nameReloads, Counter, "{reload}", "Reloads of the configuration (SIGHUP).",
			[]Attribute{{"outcome", "`ok`, or `failed`: the old settings stay, `imapproxy status` says why"}}, nil},
		{nameReloadTime, Gauge, "s", "Time of the last reload, in Unix time. Absent until there was one.",
			nil, nil},
		{nameReloadOK, Gauge, "", "1 if the last reload succeeded, 0 if it failed. Absent until there was one.",
			nil, nil},
		{nameConfigInfo, Gauge, "", "Always 1. The label says which settings hold; proxies of one service with the same behaviour have the same digest.",
			[]Attribute{{"digest", "the digest of the running settings, as in `imapproxy proxies`"}}, nil},
		{nameConfigTime, Gauge, "s", "Time at which the running settings were read, in Unix time.",
			nil, nil},
		{nameCertificateEnd, Gauge, "s", "Time at which a certificate expires, in Unix time: one that clients see, or that of an authority whose certificates clients may log in by.",
			[]Attribute{{"of", "the listener's name, with the certificate's first name where it has several; the listener's name, `clients` and the authority's name; `admin` for the admin API"}}, nil},
		{nameRevocationsEnd, Gauge, "s", "Time at which a revocation list of `client_certificates` expires, in Unix time. After it no certificate of its authority is good.",
			[]Attribute{{"of", "the listener's name, `clients` and the authority's name"}}, nil},
		{nameResourceUsed, Gauge, "", "How much of a limited resource is used: a number, or bytes of memory.",
			[]Attribute{{"resource", "`descriptors`, `memory` (bytes), `sessions` (logged in)"}}, nil},
		{nameResourceLimit, Gauge, "", "The limit of a resource: RLIMIT_NOFILE; the least of GOMEMLIMIT, the control groups' limits and the machine's memory; limits.connections. Absent where there is none: with limits.connections = 0 descriptors limit the sessions.",
			[]Attribute{{"resource", "as in `imapproxy_resource_used`"}}, nil},

		// Sessions: what clients do.
		{nameSessions, Gauge, "{session}", "Client sessions that are open now, by the state of their backend connection.",
			[]Attribute{{"attachment", "`none` (not logged in), `attached` (has a backend connection), `parking` (is giving it up), `parked` (has none), `resuming` (is getting one back), `catching_up` (has one, and the client can't be told yet of messages that are gone), `ended` (is being closed)"}}, nil},
		{nameSessionsOpened, Counter, "{session}", "Client sessions that were accepted.",
			[]Attribute{{"listener", "the listener's name"}, {"tls", "`true` where the listener has TLS from the first byte, `false` for STARTTLS and none"}}, nil},
		{nameSessionsClosed, Counter, "{session}", "Client sessions that ended, by reason. docs/operations.md explains each reason.",
			[]Attribute{{"reason", "one of the reasons in docs/operations.md"}, {"attachment", "the state of its backend connection at that moment, as in `imapproxy_sessions`"}}, nil},
		{nameSessionDuration, Histogram, "s", "Duration of client sessions, from accept to the last byte. Counted when a session ends.",
			nil, lifetimes},
		{nameConnectionsRefused, Counter, "{connection}", "Connections and logins that were turned away by a limit or rule.",
			[]Attribute{{"reason", "`connections`, `per_ip` and `per_user` (the setting of limits), `prelogin` (closed before login to make room for another network's), `descriptors` (the process has no file descriptors left), `accept_error`, `proxy_protocol` (no usable PROXY header), `tls_handshakes` (closed before the handshake: limits.tls_handshakes), `guesses` (a login, refused because too many of its address or network wait; docs/authentication.md, Guessing)"}}, nil},
		{nameTLSHandshake, Histogram, "s", "Duration of TLS handshakes with clients.",
			[]Attribute{{"outcome", "`ok`, `failed`, or `timeout` (limits.prelogin_timeout)"}}, seconds},

		// Logins.
		{nameLogin, Histogram, "s", "Duration of login attempts, from the client's command to the answer. The delay after a failed login (limits.auth_failure_delay) is not included.",
			[]Attribute{{"mechanism", "the SASL mechanism (`PLAIN`, `LOGIN`, …), `LOGIN` for the LOGIN command as well, or `OTHER`"}, {"source", "the credential source that decided: `backend`, `passwd_file`, `http`, `ldap`, `sql`, `dovecot` or `oauth`, with the block's name if it has one (`ldap.staff`); empty where none did"}, {"outcome", "`ok`, or the reason of the failure (docs/authentication.md)"}}, seconds},
		{nameLoginFailures, Counter, "{attempt}", "Failed login attempts, by reason.",
			[]Attribute{{"reason", "one of the reasons in docs/authentication.md"}}, nil},
		{nameLoginDelays, Counter, "{attempt}", "Login attempts that waited before their password was checked, because of wrong passwords before (docs/authentication.md, Guessing).",
			[]Attribute{{"by", "what had the wrong passwords: the client's `address`, its `network`, or the `user`; or `policy`: the policy server has the login wait (docs/authentication.md, The policy server)"}}, nil},
		{namePolicy, Histogram, "s", "Duration of questions and reports to the policy server (auth_policy), a question's wait for its turn included.",
			[]Attribute{{"command", "`allow` or `report`"}, {"outcome", "of `allow`: `allowed`, `delayed`, `refused`; of `report`: `reported`; `failed` (no usable answer)"}}, seconds},
		{namePolicyUnasked, Counter, "{request}", "Questions that weren't asked since the policy server hadn't answered others, and reports that weren't sent since too many were waiting.",
			[]Attribute{{"command", "`allow` or `report`"}}, nil},

		// The relay.
		{nameCommands, Counter, "{command}", "Commands that were relayed to a backend, by name and status of the tagged response.",
			[]Attribute{verb, status}, nil},
		{nameCommandDuration, Histogram, "s", "Duration of commands, from the first byte of the command to the last byte of its tagged response, the wait for a backend connection included. Without IDLE, whose duration is the client's choice.",
			[]Attribute{verbAsThere, status}, seconds},
		{nameCommandBackendWait, Histogram, "s", "The part of a command's duration in which the proxy waited for the backend. Without IDLE.",
			[]Attribute{verbAsThere}, seconds},
		{nameCommandResumeWait, Histogram, "s", "The part of a command's duration in which its session had no backend connection, because it was parked or had lost its connection. Counted only for commands that waited for one.",
			[]Attribute{verbAsThere}, seconds},
		{nameRelayed, Counter, "By", "Bytes of IMAP that were relayed, without the overhead of TLS.",
			[]Attribute{{"direction", "`in` (client to backend) or `out` (backend to client)"}}, nil},
		{nameCompressed, Counter, "By", "Bytes of IMAP between the proxy and clients that compress (docs/compress.md), before and after compression. A session's are counted when it is parked and when it ends.",
			[]Attribute{{"direction", "`in` (from clients) or `out` (to clients)"}, {"form", "`text`, or `compressed` for what was sent for it, without the overhead of TLS"}}, nil},
		{nameCompressions, Counter, "{session}", "Sessions whose clients have turned compression on.", nil, nil},

		// Backends.
		{nameBackendDial, Histogram, "s", "Duration of TCP connects to backends, successful or not.",
			[]Attribute{backend, {"outcome", "`ok`, `timeout`, `cancelled` (the client went away), `shortage` (the proxy's own: `imapproxy_shortages_total`), or `dial` (refused, unreachable, …)"}}, seconds},
		{nameBackendLogin, Histogram, "s", "Duration of logins at backends, from the greeting to the tagged response.",
			[]Attribute{backend, {"outcome", "`ok`, `refused` (the credentials), `full` (the backend has no room), `shortage` (the proxy's own), `timeout`, `cancelled` (the client went away), or the stage that failed: `settings`, `tls`, `greeting`, `capability`, `login`, `verify` (the master login doesn't yield the user)"}}, seconds},
		{nameBackendAnswer, Histogram, "s", "The part of a command's duration in which the proxy waited for the backend, as `imapproxy_command_backend_wait_seconds`, by backend. Without IDLE.",
			[]Attribute{backend, {"class", "of the command: `fetch`, `search` (SEARCH, SORT, THREAD), `select` (SELECT, EXAMINE), `list` (LIST, LSUB, STATUS), `append`, `change` (STORE, COPY, EXPUNGE, CREATE, …), `other`"}, status}, seconds},
		{nameBackendConns, UpDown, "{connection}", "Connections to backends that are open now, by purpose.",
			[]Attribute{backend, {"kind", "`session` (a client uses it), `probe` (a health check), `watch` (learns of changes for parked sessions), `warm` (idle, kept for the user's next need)"}}, nil},
		{nameBackendStalls, Counter, "{connection}", "Connections of sessions that were given up since the backend didn't answer on them, without having ended them.",
			[]Attribute{backend, {"evidence", "`network` (its host acknowledges nothing), `down` (discovery says so), `probe` (a probe has failed), `all` (it is silent on all connections)"},
				{"outcome", "`goes_on` (the session gets another connection: `imapproxy_recovery_duration_seconds`), `ends`, `shared` (the session uses mailboxes of other users: it ends if one was selected on this connection, or in the middle of a command)"}}, nil},
		{nameBackendRetries, Counter, "{attempt}", "Logins that were tried again, on another backend or the same one, after the first attempt failed.",
			[]Attribute{{"reason", "the stage at which the backend failed: `dial`, `tls`, `greeting`, `capability`, `login`; `full` (it has no room); on the same backend: `room` (idle connections to it were closed), `closed` (it closed the connection, and a probe found it well)"}}, nil},
		{nameBackendFlaps, Counter, "{flap}", "Backends that discovery took away again shortly after they had come back.",
			[]Attribute{backend}, nil},
		{nameFailovers, Counter, "{user}", "Logins whose user got another backend than the first choice, because that was down or refused.",
			[]Attribute{{"reason", "`pin_down` (the user's pinned backend is down), `refused` (a backend refused the connection during this login), `down` (the first choice for a user without a pin is down)"}}, nil},

		{nameShortages, Counter, "{failure}", "Connections that the proxy couldn't accept or make because it lacked descriptors, ports or memory. They don't count as failures of a backend.",
			[]Attribute{{"of", "`descriptors` (the process's or the machine's limit of open files), `ports` (local ports towards a backend: backend_defaults.source_addresses adds some), `memory`"}, {"at", "`accept`, `dial`, `probe`, `handover` (another process of the proxy)"}}, nil},

		// Routing and discovery.
		{nameBackends, Gauge, "{backend}", "Backends that discovery lists, by state. A backend whose state isn't known yet (after a start) is in none.",
			[]Attribute{{"state", "`up`, `draining` or `down`"}}, nil},
		{nameBackendsPaused, Gauge, "{backend}", "Backends that operators have paused (imapproxy pause).", nil, nil},
		{nameProblems, Gauge, "{problem}", "What is wrong now, as `imapproxy status` lists it; 0 where all is well.",
			[]Attribute{{"kind", "the problems of docs/operations.md, “Problems”"}}, nil},
		{nameLeavingProcesses, Gauge, "{process}", "Older processes of this proxy that serve their sessions on after an upgrade. All other metrics are of the new process alone.", nil, nil},
		{nameLeavingSessions, Gauge, "{session}", "Sessions of those older processes.", nil, nil},
		{nameBackendSessions, Gauge, "{session}", "Sessions that are logged in, by the backend of their user. Parked sessions are included.",
			[]Attribute{backend}, nil},
		{namePins, Gauge, "{user}", "Users that are pinned to a backend, including those without a session whose routing.pin_grace hasn't passed.",
			nil, nil},
		{nameDiscoveryAge, Gauge, "s", "Time since discovery last gave a good answer. After a start from the cache file it counts from when that was saved. Absent until there is an answer.",
			nil, nil},
		{nameConsulAnswer, Gauge, "s", "Time at which Consul last answered, in Unix time; with a cluster block that of the last renewal of the proxy's Consul session. Absent without Consul, and until there is an answer. Without a cluster block an answer may take 69 seconds while nothing changes.",
			nil, nil},
		{nameDiscoveryUpdates, Counter, "{update}", "Answers of discovery, by what the proxy did with them.",
			[]Attribute{{"source", "`consul` or `static`"}, {"outcome", "`applied` (something changed), `unchanged`, `kept` (not believed: empty, or beyond routing.panic_threshold; the last good set stands), `saved` (no answer at the start; the cache file is used), `error` (no answer), `denied` (the token isn't enough)"}}, nil},

		// Parking (docs/parking.md).
		{nameParks, Counter, "{park}", "Attempts to park an idle session (to take its backend connection away).",
			[]Attribute{{"outcome", "`parked`; `ended` (the session ended meanwhile); or the reason why the session kept its connection (docs/operations.md, “Why isn't it parked”)"}, {"strategy", "how changes of the mailbox are found: `qresync`, `comparison`, or `none` (no mailbox is selected, or it can't be parked)"}}, nil},
		{nameParkRefusals, Counter, "{session}", "Idle sessions that can't be parked. A session counts once for each time that it becomes idle.",
			[]Attribute{{"reason", "why not (docs/operations.md, “Why isn't it parked”)"}}, nil},
		{nameResume, Histogram, "s", "Duration of resumes: from the moment that a parked session needs a backend connection until it can use one.",
			[]Attribute{{"outcome", "`ok`, or the reason for which the session was ended"}, {"source", "`pool` (a warm connection was used), `login` (a new connection was made), `none` (no connection was available)"}, {"wake", "what needed the connection: a command of the client (its name, as in `imapproxy_commands_total`), `DONE` (the mailbox couldn't be looked at without it), `lost_watch` (changes can't be noticed any more), `off` (parking was switched off), `expires` (the token that it logs in with at its backend expires soon), `doubt` (another client's login with the password that this session holds was refused), `lost` (the backend connection of an attached session was lost)"}}, seconds},
		{nameSavedConnections, Gauge, "{connection}", "The bill: connections to backends, and as many of their processes, that parking saves now: sessions that have logged in, less connections of sessions and watches and warm ones (docs/operations.md, What parking saves).",
			nil, nil},
		{nameSavedMemory, Gauge, "By", "The bill: memory of backends that parking saves now: imapproxy_park_saved_connections times park.backend_process_memory. Absent if that is 0.",
			nil, nil},
		{nameSavedLogins, Gauge, "{login}", "The bill: logins of clients that succeeded, less logins at backends that succeeded, since the start. It falls where parking costs logins.",
			nil, nil},
		{nameParkMailboxes, Gauge, "{mailbox}", "Mailboxes with parked sessions, by how the proxy learns of changes in them.",
			[]Attribute{{"watch", "`push` (events that the backend posts; no connection), `notify` (one connection for each user), `idle` (one connection for each user and mailbox), `poll` (a look now and then)"}}, nil},
		{nameParkWatches, Counter, "{watch}", "Changes in the state of watches. A watch tells the proxy about changes in a mailbox.",
			[]Attribute{{"outcome", "`renewed` (it failed and works again), `lost` (it was given up; its sessions get their connections back), `gone` (the mailbox is gone; its sessions end with BYE), `denied` (a session wasn't parked because a watch couldn't be set up)"}}, nil},
		{nameParkHints, Counter, "{hint}", "Hints that a mailbox with parked sessions may have changed, by source.",
			[]Attribute{{"source", "`push` (an event), `watch` (IDLE), `notify`, `poll`, `command` (another session of the user changed something), `sweep` (park.sweep_every)"}}, nil},
		{nameRecovery, Histogram, "s", "Duration of recoveries: from the moment that an attached session has lost its backend connection until the proxy knows which messages its client counts. A resume follows, or the session is parked.",
			[]Attribute{{"outcome", "`ok`, or the reason for which the session ended instead (docs/operations.md)"}}, seconds},
		{nameViewsLost, Counter, "{session}", "Sessions that were ended with the reason `view_lost`: it wasn't known exactly which messages the client counts.",
			[]Attribute{{"why", "`history` (the backend says that more messages have gone than there were: it has forgotten when), `no_history` (messages have gone unheard, and the backend has no QRESYNC), `added` (messages have come and gone unheard), `contradiction` (with what the client was told), `not_followed` (what the client was told can't be followed, or was too much), `no_uidnext`, `mod_sequences` (the backend has none any more, or can't say what has changed), `flags` (those that the client knows aren't known), `too_many` (`max_diff_messages`), `other`"}}, nil},
		{nameParkResyncs, Counter, "{resync}", "Resyncs: looks into a mailbox to find what has changed, for its parked sessions or for one that parks or resumes.",
			[]Attribute{{"outcome", "`ok` or `failed`"}, {"strategy", "`qresync` or `comparison`"}, {"reason", "the source of the first hint that led to it (as in `imapproxy_park_hints_total`), or `renewed` (the watch had been interrupted), `join` (something changed while a session was being parked, or it was parked outside IDLE), `look` (a parked client asked), `park`, `resume`"}}, nil},
		{nameParkResyncDuration, Histogram, "s", "Duration of resyncs, from the start until the last client is told. The wait for a turn is not included.",
			[]Attribute{{"outcome", "`ok` or `failed`"}, {"strategy", "`qresync` or `comparison`"}}, seconds},
		{nameParkWaiting, Gauge, "{mailbox}", "Mailboxes that wait for a resync now.",
			nil, nil},
		{nameParkEvents, Counter, "{event}", "Push events that were received, by format or by why they were refused.",
			[]Attribute{{"outcome", "the format (`own`, `cyrus`, `ox`), or `unauthorized` (a wrong token), `malformed` (no known format), `busy` (too many at once)"}}, nil},
		{nameParkNotices, Counter, "{notice}", "Notices in push events, each about one mailbox of one user, by what the proxy did with them.",
			[]Attribute{{"outcome", "`hint` (it led to a hint), `merged` (the same hint was waiting already), `unwanted` (no session is parked there), `bad_user` (no user can have that name), `lost` (the queue was full; the next sweep finds the change)"}}, nil},
		{nameParkForwarded, Counter, "{notice}", "Notices in push events that this proxy sent on to another one or received from one. A notice counts once for each other proxy.",
			[]Attribute{{"outcome", "`sent` (the other proxy took it), `lost` (too many waited for a proxy that was slow or down, or it left the service; the next sweep finds the change), `received` (another proxy sent it)"}}, nil},
		{namePoolGiven, Counter, "{connection}", "Backend connections that were offered to the pool of warm connections.",
			[]Attribute{{"use", "`session` or `watch`: what the connection is for; the two are never mixed"}}, nil},
		{namePoolAsked, Counter, "{connection}", "Requests for a warm connection. Each one that is granted saves a login at a backend.",
			[]Attribute{{"use", "`session` or `watch`"}, {"outcome", "`lent` (granted) or `none` (the pool had none that fits)"}}, nil},
		{namePoolClosed, Counter, "{connection}", "Warm connections that the pool closed or didn't take, by reason.",
			[]Attribute{{"reason", "`expired` (park.warm_for), `ended` (by the backend, or it sent something), `per_user` and `total` (park.warm_per_user, park.warm_connections), `forgotten` (the backend drains, is gone, refuses the user or has too many of theirs), `room` (the backend has no room for others, or the proxy no descriptors), `unclean` (not fit for another use), `off` (nothing is kept)"}}, nil},

		// Several proxies (docs/cluster.md).
		{nameClusterEpoch, Gauge, "", "Number of the fleet that this proxy goes by. Proxies whose numbers differ for longer than some seconds don't get the same answers from Consul.",
			nil, nil},
		{nameClusterAcked, Gauge, "", "Number of the newest fleet that this proxy has told the others it goes by.",
			nil, nil},
		{nameClusterIsolated, Gauge, "", "1 while this proxy is cut off from the others, else 0.",
			nil, nil},
		{nameClusterProxies, Gauge, "{proxy}", "Proxies that the others count with, this one included.",
			[]Attribute{{"state", "`living`, or `ended`: its Consul session has ended, and users that it may have connections for are moved only once it is removed"}}, nil},
		{nameClusterStays, Gauge, "", "Buckets and users that this proxy has connections for at another backend than the fleet sends them to. They are moved, or rest until they have no connection (rebalance_rate 0).",
			nil, nil},
		{nameClusterLeaving, Gauge, "{user}", "Users who have connections by this proxy at a backend that users leave: an operator drains it, or Consul calls it draining. Its decrease is the rate.",
			[]Attribute{{"backend", "the backend"}}, nil},
		{nameClusterHeld, Gauge, "{session}", "Sessions of this proxy at such a backend that couldn't be parked yet, by what holds them.",
			[]Attribute{{"backend", "the backend"}, {"reason", "why the session isn't parked (docs/parking.md)"}}, nil},
		{nameClusterTurns, Gauge, "s", "Time until all users at such a backend have had their first turn; 0: they have, and those who are left are asked again.",
			[]Attribute{{"backend", "the backend"}}, nil},
		{nameClusterWaiting, Gauge, "{login}", "Logins and resumes that wait now until the proxies agree on where their user is.",
			nil, nil},
		{nameClusterLate, Counter, "{login}", "Logins and resumes that have waited in vain (cluster.agree_within).",
			nil, nil},
		{nameClusterSwitches, Counter, "{fleet}", "Fleets that this proxy has switched to.",
			nil, nil},

		// Telemetry about itself.
		{nameTelemetrySpans, Counter, "{span}", "Spans of traces that were to be exported, by outcome.",
			[]Attribute{{"outcome", "`exported`, `failed` (the endpoint did not take them), `dropped` (the queue was full)"}}, nil},
		{nameTelemetryRecords, Counter, "{record}", "Log records that were to be exported by OTLP (telemetry.log.endpoint), by outcome.",
			[]Attribute{{"outcome", "as in `imapproxy_telemetry_spans_total`"}}, nil},
		{nameTelemetryExports, Counter, "{export}", "Requests to the OTLP endpoints, by outcome.",
			[]Attribute{{"signal", "`traces`, `metrics` or `logs`"}, {"outcome", "`ok` or `error`"}}, nil},
		{nameTelemetryLogLines, Counter, "{line}", "Log lines that were lost, by reason.",
			[]Attribute{{"reason", "`slow` (the log's reader or disk didn't keep up), `failed` (the write failed, as on a full disk)"}}, nil},
	}
}
