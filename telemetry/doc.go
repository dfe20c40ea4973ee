// Package telemetry is what the proxy tells about itself: metrics, traces and
// logs, and the one type that keeps secrets out of all three.
//
// Three rules hold here:
//
//   - It never blocks a session. Recording is an atomic or a short lock in
//     memory; what has to leave the process goes through bounded queues that
//     drop, and count what they dropped.
//   - What is off costs nothing. Without a reader there are no instruments,
//     without a trace exporter there is no tracer; methods return at once.
//   - No metric carries a user, a session or an address. Those belong in
//     traces and logs. A metric's attributes come from closed sets, or from the
//     operator's own names (listeners, backends).
//
// Instruments stand in one table, in instruments.go; docs/metrics.md is
// generated from it and a test compares the two.
//
// Imports proxy/wire. Imported by cmd/imapproxy, internal/admin, internal/app,
// internal/peers, internal/wiring, proxy, proxy/auth, proxy/park,
// proxy/park/events, proxy/upstream, routing, routing/discovery,
// telemetry/metricsdoc and the end-to-end tests.
package telemetry
