// Package park keeps parked sessions informed: an idle client's backend connection has been
// taken away, and the client is told of changes as if it still had one (RFC 9051 §5.2, §7.5.1; RFC 7162).
//
// The package is the hub. It is told by hints which mailboxes may have changed: by push events
// (package events), by watches (IDLE, NOTIFY) and by commands of the user's other sessions. A resync
// (package resync) finds the state of such a mailbox, once for all sessions parked on it, and each Member
// compares the state with what its own client knows (package view).
//
// Imports internal/fair, proxy/conn, proxy/imapclient, proxy/park/resync,
// proxy/park/view, proxy/upstream, proxy/wire and telemetry. Imported by
// cmd/imapproxy, internal/app, internal/peers, internal/wiring, proxy,
// proxy/park/events, proxy/session and the end-to-end tests.
package park
