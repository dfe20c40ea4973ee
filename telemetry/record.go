package telemetry

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
)

// The recording methods. All may be called by any goroutine and never block. Their string arguments become
// labels of metrics: constants of the caller, or names that the operator chose (listeners, backends), never
// data of a client.

// Reloaded counts a reload of the configuration; ok: it succeeded.
func (t *Telemetry) Reloaded(ok bool) {
	if t.metrics == nil {
		return
	}
	outcome := "ok"
	if !ok {
		outcome = "failed"
	}
	t.metrics.reloads.Add(context.Background(), 1, with(label("outcome", outcome)))
}

// SessionOpened counts an accepted session. listener is the listener's name;
// tls says whether it begins with TLS.
func (t *Telemetry) SessionOpened(listener string, tls bool) {
	if t.metrics == nil {
		return
	}
	t.metrics.sessionsOpened.Add(context.Background(), 1, with(label("listener", listener), attribute.Bool("tls", tls)))
}

// SessionClosed counts a session's end. reason is the disconnect reason, attachment the state of its backend
// connection before the end, d the session's duration.
func (t *Telemetry) SessionClosed(reason, attachment string, d time.Duration) {
	if t.metrics == nil {
		return
	}
	t.metrics.sessionsClosed.Add(context.Background(), 1, with(label("reason", reason), label("attachment", attachment)))
	t.metrics.sessionDuration.Record(context.Background(), seconds(d))
}

// Compresses counts a session whose client has turned compression on.
func (t *Telemetry) Compresses() {
	if t.metrics != nil {
		t.metrics.compressions.Add(context.Background(), 1)
	}
}

// Compressed counts IMAP data between the proxy and a client: text bytes that compression made compressed bytes.
func (t *Telemetry) Compressed(d Direction, text, compressed int64) {
	if t.metrics == nil || text == 0 && compressed == 0 {
		return
	}
	way := label("direction", [...]string{"in", "out"}[d&1])
	t.metrics.compressed.Add(context.Background(), text, with(way, label("form", "text")))
	t.metrics.compressed.Add(context.Background(), compressed, with(way, label("form", "compressed")))
}

// Refused counts a connection that a limit or rule refused.
func (t *Telemetry) Refused(reason string) {
	if t.metrics == nil {
		return
	}
	t.metrics.connectionsRefused.Add(context.Background(), 1, with(label("reason", reason)))
}

// TLSHandshake records a handshake of a session's client. outcome is "ok" or a constant that says what went
// wrong. A trace is kept of slow and of sampled handshakes; those that fail fast are mostly scanners'.
func (t *Telemetry) TLSHandshake(session, outcome string, start, end time.Time) {
	took := end.Sub(start)
	if t.metrics != nil {
		t.metrics.tlsHandshake.Record(context.Background(), seconds(took), with(label("outcome", outcome)))
	}
	if t.keepsWork(false, took) {
		var err error
		if outcome != "ok" {
			err = errors.New(outcome)
		}
		t.workSpans(context.Background(), &work{name: spanTLS, start: start, end: end, session: session, outcome: outcome, err: err})
	}
}

// Login records a login attempt. mechanism is the name of a SASL mechanism, or "LOGIN-COMMAND"; an unknown
// one is recorded as "OTHER". source is the credential source that decided, "" if none did; outcome is "ok"
// or a constant that says what went wrong. kept is what LoginTrace.End returned: the trace is the measurement's exemplar.
func (t *Telemetry) Login(mechanism, source, outcome string, d time.Duration, kept trace.SpanContext) {
	if outcome == "ok" {
		t.tally.logins.Add(1)
	} else {
		t.tally.failed.Add(1)
	}
	if t.metrics == nil {
		return
	}
	t.metrics.login.Record(exemplified(kept), seconds(d),
		with(label("mechanism", knownMechanism(mechanism)), label("source", source), label("outcome", outcome)))
}

// LoginFailure counts a failed login attempt by its reason.
func (t *Telemetry) LoginFailure(reason string) {
	if t.metrics == nil {
		return
	}
	t.metrics.loginFailures.Add(context.Background(), 1, with(label("reason", reason)))
}

// LoginRefusedFor notes a login of a client that was refused because of a backend, for Recent. "": there was none.
func (t *Telemetry) LoginRefusedFor(backend string) {
	t.recent.at(backend).slot(t.now()).refused.Add(1)
}

// LoginDelayed counts a login attempt that waits before its password is checked, by what delays it.
func (t *Telemetry) LoginDelayed(by string) {
	if t.metrics == nil {
		return
	}
	t.metrics.loginDelays.Add(context.Background(), 1, with(label("by", by)))
}

// Policy records a question or a report to the policy server. outcome is a constant.
func (t *Telemetry) Policy(command, outcome string, d time.Duration) {
	if t.metrics == nil {
		return
	}
	t.metrics.policy.Record(context.Background(), seconds(d), with(label("command", command), label("outcome", outcome)))
}

// PolicyUnasked counts a question or a report that the policy server wasn't sent.
func (t *Telemetry) PolicyUnasked(command string) {
	if t.metrics == nil {
		return
	}
	t.metrics.policyUnasked.Add(context.Background(), 1, with(label("command", command)))
}

// The evidence of a stall, which are the values of Stall's evidence.
const (
	StallNetwork = "network"
	StallDown    = "down"
	StallProbe   = "probe"
	StallAll     = "all"
)

// What becomes of a session whose connection was given up because its backend doesn't answer.
const (
	StallGoesOn = "goes_on" // it gets another connection
	StallEnds   = "ends"
	StallShared = "shared" // it uses mailboxes of other users: what it was doing on the connection decides
)

// Stall counts a connection that was given up because its backend doesn't answer.
func (t *Telemetry) Stall(backend, evidence, outcome string) {
	t.recent.at(backend).slot(t.now()).givenUp.Add(1)
	if t.metrics == nil {
		return
	}
	t.metrics.backendStalls.Add(context.Background(), 1, with(label("backend", backend), label("evidence", evidence), label("outcome", outcome)))
}

// BackendDial records a TCP connection made to a backend, or the failure to.
// outcome is "ok" or a constant that says what went wrong.
func (t *Telemetry) BackendDial(backend, outcome string, d time.Duration) {
	switch slot := t.recent.at(backend).slot(t.now()); outcome {
	case "ok":
		slot.timed(TimedDial, d)
	case "cancelled", "shortage": // not the backend's fault
	default:
		slot.failedDial.Add(1)
	}
	if t.metrics == nil {
		return
	}
	t.metrics.backendDial.Record(context.Background(), seconds(d), with(label("backend", backend), label("outcome", outcome)))
}

// BackendLogin records a login at a backend. outcome is "ok" or a constant that
// says what went wrong.
func (t *Telemetry) BackendLogin(backend, outcome string, d time.Duration) {
	slot := t.recent.at(backend).slot(t.now())
	if outcome == "ok" || outcome == "timeout" {
		slot.answered(d)
	}
	switch outcome {
	case "ok":
		slot.timed(TimedLogin, d)
		t.tally.backend.Add(1)
	case "cancelled", "shortage": // not the backend's fault
	default:
		slot.failedLogins.Add(1)
	}
	if t.metrics == nil {
		return
	}
	t.metrics.backendLogin.Record(context.Background(), seconds(d), with(label("backend", backend), label("outcome", outcome)))
}

// BackendConns counts connections to a backend up and down. kind says what the
// connection is for ("session", "probe"); each +1 needs its -1 with the same
// arguments.
func (t *Telemetry) BackendConns(backend, kind string, delta int) {
	if t.metrics == nil {
		return
	}
	t.metrics.backendConns.Add(context.Background(), int64(delta), with(label("backend", backend), label("kind", kind)))
}

// Retry counts a login that is tried again on another backend.
func (t *Telemetry) Retry(reason string) {
	if t.metrics == nil {
		return
	}
	t.metrics.backendRetries.Add(context.Background(), 1, with(label("reason", reason)))
}

// Flap counts a backend that discovery took away again, shortly after it had come back.
func (t *Telemetry) Flap(backend string) {
	if t.metrics == nil {
		return
	}
	t.metrics.backendFlaps.Add(context.Background(), 1, with(label("backend", backend)))
}

// Failover counts a user who was sent to another backend because their own was down.
func (t *Telemetry) Failover(reason string) {
	if t.metrics == nil {
		return
	}
	t.metrics.failovers.Add(context.Background(), 1, with(label("reason", reason)))
}

// Discovery counts an answer of a source of backends. outcome is "applied",
// "unchanged", "kept" (suspicious, the last good set stands) or "error".
func (t *Telemetry) Discovery(source, outcome string) {
	if t.metrics == nil {
		return
	}
	t.metrics.discoveryUpdates.Add(context.Background(), 1, with(label("source", source), label("outcome", outcome)))
}

// knownMechanism keeps the mechanism label a closed set. The LOGIN command, which the log distinguishes from
// the SASL mechanism LOGIN, has the same label.
func knownMechanism(m string) string {
	switch m {
	case "LOGIN-COMMAND":
		return "LOGIN"
	case "LOGIN", "PLAIN", "EXTERNAL", "ANONYMOUS", "CRAM-MD5", "OAUTHBEARER", "XOAUTH2",
		"SCRAM-SHA-1", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", "GSSAPI":
		return m
	}
	return "OTHER"
}
