// Package park keeps parked sessions informed: an idle client's backend connection has been
// taken away, and it is told of changes as if it still had it (RFC 9051 §5.2, §7.5.1; RFC 7162).
//
// The Hub looks at mailboxes that clients are parked on: hints say when, from push events
// (package events), watches (IDLE, NOTIFY) and commands of the user's other sessions; a resync finds
// the mailbox's state, which each Member compares with its own view (package view). Talk is the client
// that resyncs, watches and the proxy's sessions speak to backends with: ENABLE, SELECT,
// snapshots.
//
// Imports internal/fair, proxy/conn, proxy/park/view, proxy/upstream, proxy/wire
// and telemetry. Imported by cmd/imapproxy, internal/app, internal/wiring, proxy,
// proxy/park/events and the end-to-end tests.
package park
