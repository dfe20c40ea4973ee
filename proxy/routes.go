package proxy

import (
	"cmp"
	"context"
	"errors"
	"time"

	"imapproxy/routing"
)

// Other programs have to use the same backend as a user's IMAP sessions: a second server that writes the user's indexes, as
// LMTP, POP3 and ManageSieve do, damages them. Server.Route tells them the backend, and holds the user there for a while.

const (
	// DefaultRouteFor is the default of Options.RouteFor.
	DefaultRouteFor = 5 * time.Second
	// routeWithin bounds the time that a Route waits for discovery's next answers.
	routeWithin = 2 * time.Second
)

// ErrManyRoutes: too many users are held by routes. One that ends makes room.
var ErrManyRoutes = errors.New("too many lookups of routes are held at a time")

// Route is where a user's mail is served.
type Route struct {
	User    string // the canonical name
	Backend routing.Backend
	Why     routing.Why
	// For is how long the answer holds: so long the user isn't sent elsewhere.
	For time.Duration
}

// Route returns the backend at which the user's sessions are or would be, and holds the user there for Options.RouteFor at
// least, as a session does that logs in: a switch to another backend waits for it. name is as a client would send it. Errors are those of
// auth.Names.Normalize and of routing.Router.Pick, ErrManyRoutes, and that of a placement that can't be asked.
//
// A user who is held already is held for as long as before, and longer only by a new decision of where the user belongs; so
// lookups that come all the time don't keep a user from leaving.
func (s *Server) Route(ctx context.Context, name string) (Route, error) {
	set := s.set.Load()
	user, err := set.Names.Normalize(name)
	if err != nil {
		return Route{}, err
	}
	long := cmp.Or(set.RouteFor, DefaultRouteFor)
	if p := s.routes.at(user, s.now().Add(long)); p != nil {
		return Route{User: user, Backend: *p.Current(), Why: p.Why, For: long}, nil
	}
	if !s.routes.enter() {
		return Route{}, ErrManyRoutes
	}
	placement, err := s.placementOf(ctx, user)
	if err != nil {
		s.routes.leave()
		return Route{}, err
	}
	p, err := set.Router.PickWithin(ctx, routeWithin, user, placement)
	if err != nil {
		s.routes.leave()
		return Route{}, err
	}
	s.routes.hold(user, p, s.now().Add(2*long), 2*long)
	return Route{User: user, Backend: *p.Current(), Why: p.Why, For: long}, nil
}

// placementOf returns the user's placement as far as it is known without their password: that of a source, of the settings, or of the
// user's sessions.
func (s *Server) placementOf(ctx context.Context, user string) (string, error) {
	if placement, _ := s.PlacedBy(user); placement != "" {
		return placement, nil
	}
	placement, err := s.PlacementOf(ctx, user)
	if placement != "" || err != nil {
		return placement, err
	}
	for _, pin := range s.set.Load().Router.Pins(user) {
		placement = pin.Placement
	}
	return placement, nil
}
