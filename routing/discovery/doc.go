// Package discovery has the sources of backends: Consul, and a static
// list whose backends are probed. It also registers the proxy itself in Consul.
//
// No other package imports consul/api.
//
// A source provides whole snapshots, and none if it has no answer:
// an error, a time-out or an agent that hangs never reaches routing, which
// therefore keeps the last good set.
//
// Imports routing and telemetry. Imported by cmd/imapproxy, internal/app,
// internal/wiring and routing/cluster.
package discovery

import (
	"context"

	"imapproxy/routing"
)

// Source provides sets of backends.
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

// PlacementSource has the placements of some users.
type PlacementSource interface {
	// Placement returns the id of the user's backend, false where none is set.
	// An error says nothing about the user: it may be tried again. Under
	// separate storage the caller must not go on without an answer.
	Placement(ctx context.Context, user string) (string, bool, error)
}
