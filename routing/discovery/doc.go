// Package discovery is where the fleet is learnt from: Consul, or a static
// list whose backends are probed. It also puts the proxy itself into Consul.
//
// No other package knows consul/api.
//
// A source hands over whole snapshots and says nothing when it knows nothing:
// an error, a time-out or an agent that hangs never reaches routing, which so
// keeps the last good set.
//
// Imports routing and telemetry. Imported by cmd/imapproxy, internal/app and
// internal/wiring.
package discovery

import (
	"context"

	"imapproxy/routing"
)

// Source learns backends.
type Source interface {
	// Run calls apply, from one goroutine, with each set it learns, the first
	// as soon as it can. It returns nil when ctx ends and everything that it
	// started has ended; it never gives up before.
	Run(ctx context.Context, apply func(routing.Snapshot)) error
}

// Keeper is a Source that keeps the last good set over a restart.
type Keeper interface {
	// Keep is told of each set that was taken whole, by the apply that was given it.
	Keep(routing.Snapshot)
}

// PlacementSource knows for some users which backend they belong to.
type PlacementSource interface {
	// Placement returns the id of the user's backend, false where none is set.
	// An error says nothing about the user: it may be tried again. Under
	// separate storage the caller must not go on without an answer.
	Placement(ctx context.Context, user string) (string, bool, error)
}
