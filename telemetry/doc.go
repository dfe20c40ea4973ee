// Package telemetry has the proxy's metrics, traces and
// logs, and the type Secret, which keeps secrets out of all three.
//
// Three rules hold here:
//
//   - Telemetry never blocks a session. Recording is an atomic operation or a short lock in
//     memory. Data that leaves the process goes through bounded queues, which
//     drop what doesn't fit and count it.
//   - A part that is off costs nothing. Without a reader there are no instruments,
//     without a trace exporter there is no tracer; methods return at once.
//   - No metric carries a user, a session or an address. Those belong in
//     traces and logs. A metric's attributes come from closed sets, or from the
//     operator's own names (listeners, backends).
//
// One table, in instruments.go, lists all instruments. docs/metrics.md is
// generated from it, and a test compares the two.
//
// Imports proxy/wire. Imported by cmd/imapproxy, internal/admin, internal/app,
// internal/peers, internal/wiring, proxy, proxy/auth, proxy/auth/authpolicy,
// proxy/auth/dovecotauth, proxy/auth/ldapauth, proxy/auth/oauthauth,
// proxy/auth/sqlauth, proxy/park, proxy/park/events, proxy/session,
// proxy/upstream, routing, routing/cluster, routing/discovery,
// telemetry/metricsdoc and the end-to-end tests.
package telemetry
