// Package routing decides to which backend a user goes, and remembers it.
//
// It doesn't know sessions: it publishes changes (Watch, Pick.Void), and sessions
// act on them.
//
// # Data
//
// Three go-memdb tables, with one schema function each, whose rows are never
// changed after they are stored:
//
//   - backends: the fleet in discovery's last answer, and the time of each state
//   - pins: user → backend, while the user has sessions and for PinGrace after
//   - health: the dial failures of real sessions; a row exists only
//     while a backend refuses
//
// # The choice
//
// A user goes to their placement, else their pin, else to the winner of a weighted
// rendezvous over the backends that are up. The pure function choose implements it, with its
// cases listed above it. The invariant: all sessions of
// one user are on one backend. If a pin moves while the user has sessions,
// Pick.Void tells the sessions, and they have to leave.
//
// # No goroutines
//
// The package starts no goroutines. Pins end by the clock: readers treat an ended pin as
// absent, and each write removes a few ended pins.
//
// Imports telemetry. Imported by cmd/imapproxy, internal/admin, internal/app,
// internal/movetest, internal/wiring, proxy, proxy/session, routing/agree,
// routing/cluster and routing/discovery.
package routing
