package telemetry

import "go.opentelemetry.io/otel/trace"

// Span is one row of the table of spans.
type Span struct {
	Name       string
	Within     []string // the spans of whose trace it is a part; nil: it begins a trace
	Kind       trace.SpanKind
	Help       string
	Attributes []Attribute
}

// Spans returns the table of all spans, in the order of docs/traces.md, which is generated from it. A test compares it with what the code sets.
func Spans() []Span {
	session := Attribute{"session.id", "the session's id, as in the log and on the admin page"}
	user := []Attribute{{"user.name", "the user, with telemetry.personal = \"full\""}, {"user.hash", "a hash of it, with \"hashed\""}}
	client := []Attribute{{"client.address", "the client's address, or a hash of it; not with telemetry.personal = \"none\""}, {"client.port", "its port, with \"full\""}}
	backend := Attribute{"imapproxy.backend", "the backend, as metrics name it"}
	outcome := Attribute{"imapproxy.outcome", "`ok`, or what went wrong: the constant of the metric of the same piece of work"}
	failed := Attribute{"error.type", "of one that failed: a constant that says how"}
	mailbox := Attribute{"imapproxy.mailbox", "the mailbox, or a hash of it; not with telemetry.personal = \"none\""}
	strategy := Attribute{"imapproxy.park.strategy", "how the mailbox is resynced: `qresync`, `comparison`, `none`"}
	watch := Attribute{"imapproxy.park.watch", "what tells the proxy of changes: `push`, `notify`, `idle`, `poll`, `none`"}
	remote := []Attribute{
		{"server.address", "the backend's host"}, {"server.port", "its port"}, {"network.transport", "`tcp`"}, {"network.protocol.name", "`imap`"}, backend, failed,
	}
	join := func(lists ...[]Attribute) (all []Attribute) {
		for _, l := range lists {
			all = append(all, l...)
		}
		return all
	}
	one := func(a ...Attribute) []Attribute { return a }
	client1, server, internal := trace.SpanKindClient, trace.SpanKindServer, trace.SpanKindInternal
	login := []string{spanLogin}
	command := commandPrefix + "VERB"
	parts := func(names ...string) []string { return names }

	connecting := parts(spanLogin, spanResume, spanRecover, spanResync, spanWatch)

	rows := []Span{
		{spanTLS, nil, internal, "A TLS handshake with a client. Kept if it was slow, and a share of the others; failed ones are mostly scanners'.", one(outcome, session)},

		{spanLogin, nil, server, "A login, from the client's command to the answer.", join(one(session, outcome), user, client, one(backend, failed))},
		{PhaseExchange, login, internal, "The client's part of AUTHENTICATE.", nil},
		{PhaseDelay, login, internal, "Waiting, since the login may be a guess at a password (docs/authentication.md, \"Guessing\").", nil},
		{PhasePolicy, login, internal, "Asking the policy server, and waiting because of its answer.", nil},
		{PhaseAuth, login, internal, "Asking the credential sources.", one(Attribute{"imapproxy.auth.source", "the source that decided, as in metrics"})},
		{PhaseHashTurn, login, internal, "Within `auth`: waiting for the turn to hash a password.", nil},
		{PhaseHash, login, internal, "Within `auth`: hashing a password.", nil},
		{PhasePlacement, login, internal, "Asking Consul on which backend the user is.", nil},
		{PhasePick, login, internal, "Choosing the backend, with the agreement of the other proxies.", nil},
		{PhasePaused, login, internal, "Waiting for the end of the backend's pause.", nil},
		{PhaseTurn, login, internal, "Waiting for a place among the logins at the backend.", nil},
		{PhasePool, login, internal, "Checking that a pooled connection is alive.", nil},
		{PhaseDial, connecting, client1, "The TCP connect to the backend.", remote},
		{PhaseBackendTLS, connecting, client1, "The TLS handshake with the backend, within `backend_login`.", remote},
		{PhaseBackendLogin, connecting, client1, "The login at the backend, from the connect to its OK and the capabilities.", remote},
		{PhaseVerify, connecting, client1, "Asking the backend whether a master login yields the intended user.", remote},

		{command, nil, server, "A command, from its first byte to the last byte of its answer; VERB is its name, as in metrics. It links to its session's login.", join(one(
			Attribute{"imap.command", "the command's name"}, Attribute{"imap.status", "`OK`, `NO`, `BAD`, `closed`, `cut`, as in `imapproxy_commands_total`"}, session, backend), user, client, one(
			Attribute{"imapproxy.bytes_in", "bytes of the command"}, Attribute{"imapproxy.bytes_out", "bytes of its answer"},
			Attribute{"imapproxy.resume_wait", "seconds without a backend connection; absent if it had one"},
			Attribute{"imapproxy.forward", "seconds until the backend had the whole command"},
			Attribute{"imapproxy.backend_wait", "seconds of waiting for the backend"},
			Attribute{"imapproxy.client_wait", "seconds in which the client didn't read"}, failed))},
		{spanRelay, parts(command), client1, "The backend's part of a command: it begins when the backend had the command, and lasts as long as the proxy waited for the answer. Not of IDLE.", remote},

		{spanPark, nil, internal, "A session gives up its backend connection. It links to its session's login.", join(one(session, outcome, backend, mailbox), user, one(
			Attribute{"imapproxy.park.way", "`idle`, `selected` or `unselected`"}, strategy, watch, Attribute{"imapproxy.park.tries", "how often the messages of the view were requested"}))},
		{StepSubscribe, parts(spanPark), internal, "Waiting until changes of the mailbox are watched.", nil},
		{StepFlags, parts(spanPark), client1, "Reading all flags, if the strategy is comparison.", remote},
		{StepDone, parts(spanPark, spanWatch), client1, "Ending the backend's IDLE.", remote},
		{StepSnapshot, parts(spanPark, spanResume, spanRecover), client1, "Finding the messages that the client counts.", remote},
		{StepDeselect, parts(spanPark), client1, "Deselecting the mailbox.", remote},
		{StepRelease, parts(spanPark), internal, "Giving the connection to the pool, or closing it.", nil},
		{StepBack, parts(spanPark), client1, "The park has failed: the backend enters IDLE again.", remote},

		{spanResume, parts(command, ""), internal, "A session gets a backend connection back: a part of the command's trace that waits for it, otherwise a trace of its own, which links to its session's login.", join(one(session, outcome, backend, mailbox), user, one(
			Attribute{"imapproxy.resume.wake", "the command's name, or what else woke the session"}, Attribute{"imapproxy.resume.source", "`pool`, `login` or `none`"},
			Attribute{"imapproxy.resume.attempts", "how many attempts it took"}, Attribute{"imapproxy.resume.owed", "expunged messages that the client can't be told of during this command"}))},
		{StepTurn, parts(spanResume, spanRecover, spanWatch), internal, "Waiting for the user's turn at the backend.", nil},
		{StepPool, parts(spanResume, spanRecover), internal, "Taking a connection from the pool.", nil},
		{StepLogin, parts(spanResume, spanRecover, spanWatch), internal, "Logging in on a new connection, or taking one from the pool for a watch; `dial`, `backend_tls`, `backend_login` and `verify` are parts of it.", nil},
		{StepEnable, parts(spanResume, spanRecover, spanWatch), client1, "ENABLE, for what the client had enabled, or what a watch needs.", remote},
		{StepSelect, parts(spanResume, spanWatch), client1, "SELECT or EXAMINE.", remote},
		{StepDifference, parts(spanResume), client1, "Finding the changes since the client's view.", remote},
		{StepTell, parts(spanResume, spanResync), internal, "Telling the changes to the client, or to all parked sessions.", nil},
		{StepIdle, parts(spanResume, spanWatch), client1, "Entering IDLE at the backend, for a client in IDLE or a watch.", remote},
		{StepAttempt, parts(spanResume, spanRecover), internal, "An attempt that failed.", nil},
		{StepPause, parts(spanResume, spanRecover), internal, "Waiting for the next attempt.", nil},

		{spanRecover, nil, internal, "Finding what a client counts, after its backend connection was lost. It links to its session's login, and a resume follows.", join(one(session, outcome, backend), user, one(
			Attribute{"imapproxy.recover.attempts", "how many attempts it took"}))},

		{spanResync, nil, internal, "Finding the changes in a mailbox, for all sessions that are parked on it.", join(one(outcome, backend, mailbox), user, one(strategy, watch,
			Attribute{"imapproxy.resync.reason", "what led to it: the source of a hint, `renewed`, `join`, `look`, `park`, `resume`"}, Attribute{"imapproxy.resync.views", "the number of views for which it was made"}))},
		{StepConnect, parts(spanResync, spanRecover), internal, "Waiting for the turn, and connecting; `dial`, `backend_tls`, `backend_login` and `verify` are parts of it.", nil},
		{StepResync, parts(spanResync, spanWatch), client1, "EXAMINE, and the commands after it.", remote},

		{spanWatch, nil, internal, "What is said on a watch's own connection until the backend watches: at its beginning, after a hint, and before the backend would end it.", join(one(outcome, backend, mailbox), user, one(watch,
			Attribute{"imapproxy.watch.connects", "whether it is on a new connection"}))},
		{StepNotify, parts(spanWatch), client1, "NOTIFY, for the mailboxes that are watched.", remote},
	}
	return rows
}
