// Package discovery has the sources of backends: Consul, and a static
// list whose backends are probed. It also registers the proxy itself in Consul.
//
// No other package imports consul/api.
//
// A source provides whole snapshots, and none if it has no answer: errors, time-outs and agents that hang
// never reach routing, which then keeps the last good set.
//
// Imports routing and telemetry. Imported by cmd/imapproxy, internal/app,
// internal/wiring, proxy and routing/cluster.
package discovery

import (
	"context"

	"imapproxy/routing"
)

// Source provides sets of backends.
type Source interface {
	// Run calls apply, from one goroutine, with each set that it learns, the first as soon as possible. It
	// returns nil when ctx has ended and its goroutines have ended; it doesn't return before.
	Run(ctx context.Context, apply func(routing.Snapshot)) error
}

// Keeper is a Source that saves the last good set for the next start.
type Keeper interface {
	// Keep is called with each set that was applied whole, by the apply function of Run.
	Keep(routing.Snapshot)
}

// PlacementWriter is a PlacementSource whose placements can be changed.
type PlacementWriter interface {
	// Place changes the user's placement from one backend's id to another's; from = "": the user has none. ErrNotPlaced: it isn't from any more.
	Place(ctx context.Context, user, from, to string) error
}

// PlacementLister is a PlacementSource that can list the users who have a placement.
type PlacementLister interface {
	// Placed returns the names of at most max of them, in order.
	Placed(ctx context.Context, max int) ([]string, error)
}

// PlacementSource has the placements of some users.
type PlacementSource interface {
	// Placement returns the id of the user's backend, false if none is set. An error says nothing about the
	// user; the caller may try again. With separate storage the caller must not continue without an answer.
	Placement(ctx context.Context, user string) (string, bool, error)
}
