// Package park takes an idle client's backend connection away and gives it
// back, so that the client can't tell (RFC 9051 §5.2, §7.5.1; RFC 7162).
//
// Its pure half knows no sockets and no clocks: a View is what a client has been
// told of its mailbox, a State is what a resync found, Compare gives the
// Difference, which is rendered in the client's own dialect; Numbers translates
// message numbers while the client is owed EXPUNGE. The other half talks to
// backends: snapshots, resyncs, the pool of warm connections, and hints, which
// say when to look.
//
// Imports internal/fair, proxy/conn, proxy/upstream, proxy/wire and telemetry.
// Imported by cmd/imapproxy, internal/app, internal/wiring, proxy and the
// end-to-end tests.
package park
