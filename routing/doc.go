// Package routing decides which backend a user goes to, and remembers it.
//
// It never knows what a session is: it publishes what changed (Watch, Pick.Void)
// and sessions act on it.
//
// # What is kept
//
// Three go-memdb tables, one schema function each, of rows that are never
// changed once stored:
//
//   - backends: the fleet as discovery described it last, and since when
//   - pins: user → backend, while the user has sessions and PinGrace after
//   - health: what real sessions met when they dialled; a row exists only
//     while a backend is refusing
//
// # The choice
//
// An explicit placement, else the pin, else weighted rendezvous over the
// backends that are up. The whole of it is the pure function choose, with its
// cases listed above it. The invariant that all else serves: the sessions of
// one user are on one backend. Where a pin has to move under sessions that
// live, they are told by Pick.Void and have to leave.
//
// # No goroutines
//
// The package starts none. Pins end by the clock: an ended one is treated as
// absent by whoever reads it, and each write takes a few of them away.
//
// Imports telemetry. Imported by cmd/imapproxy, internal/admin, internal/app,
// internal/wiring, proxy, routing/agree and routing/discovery.
package routing
